"""Embeddings made part by part, so that a kill costs one part; and put together into one file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.contents import difference, from_json
from contrastive_jax.data.inspection import spread
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.embeddings import Embeddings, Part, write
from contrastive_jax.evaluation.quantization import Range, quantize, restore
from contrastive_jax.evaluation.stored_search import nearest, over_blocks, recall, rows_of
from contrastive_jax.locking import write_atomically
from contrastive_jax.named_files import json_of

if TYPE_CHECKING:
    from jaxtyping import Float

QUERIES = 1000  # records that recall is measured with
K = 10
_FREE = ("workdir", "data")  # what may differ between two runs for the same file, or is compared apart


def check_same(what: str, plan: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Raises InputError for what the plan says and `what`, which is there, says otherwise.

    "data" is what the source is made of (`contents.as_json`); an earlier version did not say it.
    """
    differing = [
        f"{name}: {value} here, {there.get(name)} there"
        for name, value in plan.items()
        if value != there.get(name) and name not in _FREE
    ]
    if not differing and "data" in plan and "data" in there:
        words = difference(from_json(plan["data"]), from_json(there["data"]), "here", "there")
        differing = [words] if words else []
    if differing:
        raise InputError(
            f"{what} holds other embeddings ({'; '.join(differing)}): give another file or delete it"
        )


def write_parts(
    folder: Path,
    plan: Mapping[str, Any],
    indices: Sequence[int],
    embed: Callable[[Sequence[int]], tuple[Part, list[tuple[int, str]]]],
    size: int,
    there: Callable[[int], None] = lambda count: None,
) -> None:
    """Embeds, `size` records at a time, what of them the folder does not hold yet.

    Args:
        plan: JSON that says what is embedded; a folder with parts of another plan is refused.
        embed: a `Bulk`.
        there: called with the number of records of a part that is there already.
    """
    folder.mkdir(exist_ok=True)
    plan, file = {**plan, "part": size}, folder / "plan.json"
    if file.exists() and any(folder.glob("*.parquet")):
        try:
            check_same(str(folder), plan, json_of(file))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file} cannot be read ({error}): delete {folder}") from error
    else:
        write_atomically(file, json.dumps(plan).encode())
    for number, start in enumerate(range(0, len(indices), size)):
        wanted, done = indices[start : start + size], folder / f"{number:06d}.parquet"
        if done.exists():
            there(len(wanted))
            continue
        part, broken = embed(wanted)
        metadata = {"dtype": "float32", "dimensions": part.embeddings.shape[1], "broken": broken}
        write(done, [part], metadata)


@dataclass(frozen=True)
class Parts:
    """The parts in a folder, as they will be stored: of `dtype`, with the range of int8."""

    files: Sequence[Embeddings]
    dtype: str = "float32"
    codes: Range | None = None

    def __len__(self) -> int:
        return sum(map(len, self.files))

    @property
    def dimensions(self) -> int:
        return max(file.dimensions for file in self.files)

    def blocks(self, rows: int = 65536) -> Iterator[tuple[int, Float[np.ndarray, "b d"]]]:
        """As `Embeddings.blocks`; no block is of two parts."""
        before = 0
        for file in self.files:
            for start, z in file.blocks(rows):
                stored = quantize(z, self.dtype, self.codes)
                yield before + start, restore(stored, self.dtype, self.dimensions, self.codes)
            before += len(file)


def put_together(
    folder: Path, output: Path, plan: Mapping[str, Any], dtype: str, mesh: Any
) -> dict[str, Any]:
    """Writes the file from the folder's parts; its metadata, with what `dtype` costs of recall.

    "recall@10": the mean share of the 10 nearest by float32 (of other records) that are the 10 nearest by
    what is stored too, over 1000 records, evenly spread; of bits also "hamming_recall@10", without scoring
    candidates again.

    Raises:
        InputError: there is no record at all.
    """
    every = [Embeddings(file) for file in sorted(folder.glob("*.parquet"))]
    broken = sum(len(file.metadata["broken"]) for file in every)
    files = [file for file in every if len(file)]
    exact = Parts(files)
    if not files:
        shutil.rmtree(folder)
        raise InputError(f"{plan['source']}: not one of its {broken} records can be read")
    metadata = {
        **plan,
        "records": len(exact),
        "broken": broken,
        "dtype": dtype,
        "dimensions": exact.dimensions,
    }
    codes = None
    if dtype == "int8":
        ends = [(z.min(axis=0), z.max(axis=0)) for _, z in exact.blocks()]
        codes = Range.of(
            np.min([least for least, _ in ends], axis=0), np.max([most for _, most in ends], axis=0)
        )
        metadata |= {name: values.tolist() for name, values in codes._asdict().items()}
    metadata |= _recalls(exact, Parts(files, dtype, codes), mesh)
    parts = (Part(f.keys, f.records, np.concatenate([z for _, z in f.blocks()])) for f in files)
    write(output, parts, metadata)
    return Embeddings(output).metadata


def _recalls(exact: Parts, stored: Parts, mesh: Any) -> dict[str, float | None]:
    k = min(K, len(exact) - 1)
    if stored.dtype == "float32" or not k:
        return {"recall@10": 1.0}
    own = np.asarray(spread(len(exact), QUERIES))
    queries = rows_of(exact.blocks(), own)
    right = nearest(exact, queries, k, mesh, own)[1]

    def measured(rows):
        return round(recall(exact.blocks(), queries, right, rows), 6)

    found = {"recall@10": measured(nearest(stored, queries, k, mesh, own)[1])}
    if stored.dtype == "binary":
        by_bits = over_blocks(stored.blocks(), np.where(queries > 0, 1, -1), k, mesh, own)[1]
        found["hamming_recall@10"] = measured(by_bits)
    return found
