"""What is fuzzed: for each kind small valid files, how they are damaged, and the command that reads them."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mutations
import server

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "commands"), str(TESTS / "interop")]

Damage = Callable[[random.Random, bytes], bytes]
INSPECT = ("data", "inspect", "--limit", "30", "--source")
HERE = "{here}"
SEARCH = (
    "search",
    "--workdir",
    f"{HERE}/run",
    "--batch",
    "8",
    "--query-branch",
    "text",
    "a red bar",
    "--json",
)
TRAIN = ("train", "--config", f"{HERE}/config.py", "--workdir", f"{HERE}/new")
NOWHERE = f"--config.data.source=jsonl:{HERE}/nowhere.jsonl"  # so that nothing is trained


class Target(NamedTuple):
    """file: that is damaged, below the folder of all seeds; needs: what else the command reads of it."""

    file: str
    damage: Damage
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


def _inspected(kind: str, file: str, damage: Damage, needs: tuple[str, ...] = (), of: str = "") -> Target:
    return Target(file, damage, (*INSPECT, f"{kind}:{HERE}/{of or file}"), needs)


def _of_the_run(file: str, damage: Damage, *command: str) -> Target:
    return Target(f"run/{file}", damage, command, ("run", "pairs.jsonl", "pictures"))


_RESUME = "train", "--workdir", f"{HERE}/run", "--config.steps=3"
_GO_ON = "train", "--workdir", f"{HERE}/run", "--config.steps=5", "--extend"
_EXPORT = "export", "--workdir", f"{HERE}/run", "--format", "safetensors", "--output", f"{HERE}/out"
_INDEXED = (*SEARCH, "--source", f"jsonl:{HERE}/pairs.jsonl", "--index", f"{HERE}/e.parquet")
TARGETS: dict[str, Target] = {
    "jsonl": _inspected("jsonl", "pairs.jsonl", mutations.json_lines, ("pictures",)),
    "jsonl.gz": _inspected("jsonl", "pairs.jsonl.gz", mutations.of_bytes, ("pictures",)),
    "csv": _inspected("csv", "pairs.csv", mutations.text_lines, ("pictures",)),
    "tsv": _inspected("csv", "pairs.tsv", mutations.text_lines, ("pictures",)),
    "picture": _inspected("folder", "pictures/0.png", mutations.of_bytes, (), "pictures"),
    "jpeg": _inspected("folder", "jpegs/0.jpg", mutations.of_bytes, (), "jpegs"),
    "parquet": _inspected("parquet", "pairs.parquet", mutations.of_bytes),
    "tar": _inspected("webdataset", "pairs.tar", mutations.of_bytes),
    "arrayrecord": _inspected("arrayrecord", "shards/records-00000-of-00001.arrayrecord", mutations.of_bytes),
    "beir": _inspected("beir", "beir/corpus.jsonl", mutations.json_lines, ("beir",), "beir"),
    "qrels": _inspected("beir", "beir/qrels/test.tsv", mutations.text_lines, ("beir",), "beir"),
    "manifest": Target(
        "shards/manifest.json",
        mutations.json_file,
        (
            "data",
            "prepare",
            "--source",
            f"jsonl:{HERE}/pairs.jsonl",
            "--output",
            f"{HERE}/shards",
            "--workers",
            "0",
        ),
        ("shards", "pairs.jsonl", "pictures"),
    ),
    "run config": _of_the_run("config.json", mutations.json_file, *_EXPORT),
    "resumed config": _of_the_run("config.json", mutations.json_file, *_RESUME, NOWHERE),
    "data.json": _of_the_run("data.json", mutations.json_file, *_GO_ON),
    "result": _of_the_run("result.json", mutations.json_file, "train", "--workdir", f"{HERE}/run"),
    "metrics": _of_the_run("metrics.jsonl", mutations.json_lines, *_GO_ON),
    "metadata": _of_the_run("checkpoints/4/metadata.json", mutations.json_file, *_EXPORT),
    "checkpoint": _of_the_run("checkpoints/4/manifest.json", mutations.json_file, *_EXPORT),
    "tokenizer": _of_the_run("tokenizer.json", mutations.json_file, *_EXPORT),
    "index": Target("e.parquet", mutations.of_bytes, _INDEXED, ("run", "pairs.jsonl", "pictures")),
    "graph": Target(
        "e.parquet.usearch",
        mutations.of_bytes,
        (*_INDEXED, "--approximate"),
        ("run", "pairs.jsonl", "pictures", "e.parquet", "e.parquet.usearch.json"),
    ),
    "config file": Target("config.py", mutations.text_lines, (*TRAIN, NOWHERE)),
}
WEIGHTS = ("CLIPModel", "SiglipModel", "Dinov2Model", "ViTModel", "open_clip")
for _name in WEIGHTS:
    _file = "open_clip_config.json" if _name == "open_clip" else "config.json"
    _folder = f"weights/{_name}"
    TARGETS[f"{_name} config"] = Target(
        f"{_folder}/{_file}", mutations.json_file, ("weights", f"{HERE}/{_folder}"), (_folder,)
    )
TARGETS["safetensors"] = Target(
    "weights/ViTModel/model.safetensors",
    mutations.of_bytes,
    ("weights", f"{HERE}/weights/ViTModel"),
    ("weights/ViTModel",),
)


def overrides(rng: random.Random, seeds: Path) -> tuple[str, ...]:
    """A line of `train` with a few keys of the config set to anything."""
    known = json.loads((seeds / "keys.json").read_text())
    line = []
    for _ in range(rng.choice((1, 1, 2))):
        text = rng.choice(
            (str(mutations.value(rng)), rng.choice(("relu", "image", "text", "(1, 2)", "softmax")))
        )
        text = text.replace("\0", "").encode("utf-8", "replace").decode()[:300]
        line.append(f"--config.{rng.choice(known)}={text}")
    return (*TRAIN, *line, NOWHERE)


def argument_lines(rng: random.Random) -> tuple[str, ...]:
    """A line of any command, with words left out, doubled or misspelt."""
    line = list(rng.choice([target.command for target in TARGETS.values() if target.command[0] != "weights"]))
    for _ in range(rng.choice((1, 2, 3))):
        place = rng.randrange(len(line))
        way = rng.randrange(4)
        if way == 0:
            del line[place]
        elif way == 1:
            line.insert(place, line[place])
        elif way == 2:
            line[place] = line[place][: rng.randrange(len(line[place]) + 1)]
        else:
            text = str(mutations.value(rng)).replace("\0", "").encode("utf-8", "replace").decode()[:300]
            line[place] = text
        if not line:
            return ("data",)
    return (*line, NOWHERE) if line[0] == "train" else tuple(line)


def make_seeds(folder: Path) -> Path:
    """All valid files, in a folder that is made; by a fork, since it starts devices."""
    folder.mkdir(parents=True)
    ended = server.run(lambda: _make(folder) or 0, seconds=300)
    if ended.code or ended.killed:
        raise RuntimeError(f"the seeds cannot be made: {ended.killed or ended.err}")
    return folder


def _make(folder: Path) -> None:
    import csv
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image
    from small_run import write_run
    from test_weights_out import written

    from contrastive_jax import cli
    from contrastive_jax.configuration import complete, load
    from contrastive_jax.training.experiment import Config

    run = write_run(folder)
    (run / "metrics.jsonl").write_text('{"step": 2, "loss": 1.5, "broken": 0}\n{"step": 4, "loss": 1.25}\n')
    lines = (folder / "pairs.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    (folder / "pairs.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name, delimiter in (("pairs.csv", ","), ("pairs.tsv", "\t")):
        with open(folder / name, "w", newline="") as file:
            table = csv.DictWriter(file, records[0], delimiter=delimiter)
            table.writeheader()
            table.writerows(records)
    pq.write_table(pa.Table.from_pylist(records), folder / "pairs.parquet")
    (folder / "jpegs").mkdir()
    Image.open(folder / "pictures" / "0.png").save(folder / "jpegs" / "0.jpg")
    with tarfile.open(folder / "pairs.tar", "w") as tar:
        for n, record in enumerate(records[:8]):
            tar.add(folder / record["image"], f"{n}.png")
    beir = folder / "beir"
    (beir / "qrels").mkdir(parents=True)
    texts = [json.dumps({"_id": r["key"], "text": r["document"]}) for r in records]
    (beir / "corpus.jsonl").write_text("\n".join(texts) + "\n")
    (beir / "queries.jsonl").write_text("\n".join(texts) + "\n")
    judged = "".join(f"{r['key']}\t{r['key']}\t1\n" for r in records)
    (beir / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    source = f"jsonl:{folder}/pairs.jsonl"
    for line in (
        (
            "data",
            "prepare",
            "--source",
            source,
            "--output",
            f"{folder}/shards",
            "--shards",
            "1",
            "--workers",
            "0",
        ),
        (
            "embed",
            "--workdir",
            str(run),
            "--source",
            source,
            "--branch",
            "text",
            "--output",
            f"{folder}/e.parquet",
        ),
        (*(text.replace(HERE, str(folder)) for text in _INDEXED), "--approximate"),
    ):
        if cli.main(line):
            raise RuntimeError(" ".join(line))
    for name in WEIGHTS:
        written(name, folder / "weights" / name)
    config = load(str(folder / "config.py"), [], Config).unlock()
    (folder / "keys.json").write_text(json.dumps(sorted(complete(config, Config))))
    (run / "data.json").write_text('{"format": 1, "sources": {}}')
    (run / "result.json").write_text('{"step": 4, "loss": 1.25}')


def laid_out(case: dict, seeds: Path, folder: Path) -> tuple[str, ...]:
    """Puts the files of a case into a folder; the command line on them."""
    import base64

    for name in case.get("needs", ()):
        source, to = seeds / name, folder / name
        if not source.exists():
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, to)
    for name, content in case.get("files", {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(base64.b64decode(content))
    return tuple(text.replace(HERE, str(folder)) for text in case["command"])
