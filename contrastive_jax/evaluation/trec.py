"""The measures of trec_eval, computed by its binding, and the run files that it reads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from contrastive_jax.addresses import check_local
from contrastive_jax.errors import InputError, kind_of
from contrastive_jax.evaluation.libraries import library
from contrastive_jax.evaluation.rankings import Ranking
from contrastive_jax.locking import write_atomically
from contrastive_jax.named_files import open_regular

Run = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, int]]

_NAMES = {"nDCG": "ndcg_cut", "R": "recall", "P": "P", "MAP": "map_cut", "MRR": "recip_rank"}
_MEASURE = re.compile(r"(nDCG|R|P|MAP|MRR)(?:@([1-9][0-9]*))?")


def measure(run: Run, qrels: Qrels, measures: Sequence[str]) -> dict[str, float]:
    """{measure: its mean over the judged queries}; a query that the run lacks counts 0.

    measures: nDCG@k, R@k, P@k, MAP or MAP@k, MRR or MRR@k, by trec_eval's definitions. It has no MRR@k of
    its own: that is its reciprocal rank of the run's first k answers, in the order in which it takes them.
    """
    pytrec_eval = library("pytrec_eval")
    figures = {}
    for name in measures:
        kind, cut = _parsed(name)
        asked = {"MAP": "map", "MRR": "recip_rank"}.get(kind) if not cut else f"{_NAMES[kind]}.{cut}"
        seen = run
        if kind == "MRR":
            asked, seen = "recip_rank", first_of(run, cut) if cut else run
        found = pytrec_eval.RelevanceEvaluator(_plain(qrels), {asked}).evaluate(_plain(seen))
        key = asked.replace(".", "_")
        figures[name] = float(sum(values[key] for values in found.values()) / max(len(qrels), 1))
    return figures


def check_measures(measures: Sequence[str], depth: int) -> None:
    """Raises InputError for one that is not known or looks below `depth` answers, or for none."""
    if not measures:
        raise InputError("measures=(): name at least one, such as nDCG@10")
    for name in measures:
        if (_parsed(name)[1] or 0) > depth:
            raise InputError(f"measures={name!r} looks deeper than the depth={depth} answers that are found")


def first_of(run: Run, k: int) -> dict[str, dict[str, float]]:
    """The first k answers of each query as trec_eval orders them: by score in single precision, and of
    equal ones the later name first."""
    return {
        query: dict(sorted(answers.items(), key=lambda pair: (np.float32(pair[1]), pair[0]))[::-1][:k])
        for query, answers in run.items()
    }


def run_of(ranking: Ranking, queries: Sequence[str], documents: Sequence[str]) -> dict[str, dict[str, float]]:
    """{query id: {document id: score}}."""
    return {
        query: {documents[j]: float(s) for j, s in zip(answers, scores) if j >= 0}
        for query, answers, scores in zip(queries, ranking.answers.tolist(), ranking.scores.tolist())
    }


def check_run_file(path: str) -> None:
    """Raises InputError for an address of a store."""
    try:
        check_local(path)
    except InputError as error:
        raise InputError(f"run_file: {error}") from error


def write_run(path: str | Path, run: Run, tag: str) -> None:
    """A run file, `query Q0 document rank score tag` a line, whole or not at all.

    Raises InputError where it cannot be written, or would take the place of something that is no run file:
    the config of a run that came from elsewhere may name any.
    """
    path = Path(path)
    _check_replaced(path)
    lines = []
    for query, answers in first_of(run, 2**31).items():
        lines += [
            f"{query} Q0 {document} {place} {score!r} {tag}\n"
            for place, (document, score) in enumerate(answers.items(), 1)
        ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(lines).encode())
    except OSError as error:
        raise kind_of(error)(f"run_file {path}: cannot be written ({error.strerror})") from error


def _check_replaced(path: Path) -> None:
    if os.path.lexists(path):
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                first = file.readline(1 << 12).split()
        except OSError as error:
            raise InputError(f"run_file {path}: cannot be replaced ({error.strerror})") from error
        if first and first[1:2] != [b"Q0"]:
            raise InputError(f"run_file {path}: something else is there; give another name or delete it")


def _parsed(name: str) -> tuple[str, int | None]:
    found = _MEASURE.fullmatch(name)
    if not found or (found[2] is None and found[1] not in ("MAP", "MRR")):
        raise InputError(f"measures={name!r}: give nDCG@k, R@k, P@k, MAP, MAP@k, MRR or MRR@k")
    return found[1], int(found[2]) if found[2] else None


def _plain(table: Mapping[str, Mapping]) -> dict[str, dict]:
    return {key: dict(values) for key, values in table.items()}
