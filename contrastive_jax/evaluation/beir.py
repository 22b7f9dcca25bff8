"""Retrieval on a test collection in BEIR's layout, beside BM25 and fused with it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import jax
import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import lexical, trec
from contrastive_jax.evaluation.collection import Texts, judged, read_qrels, read_texts
from contrastive_jax.evaluation.nearest import search
from contrastive_jax.evaluation.rankings import Ranking, check_fusion, fuse, without_identical
from contrastive_jax.evaluation.scripts import script_of

if TYPE_CHECKING:
    from contrastive_jax.evaluation.embedding import Embedder

MEASURES = ("nDCG@10", "R@10", "R@100", "MRR@10", "MAP")


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beir:
    """trec_eval's measures of the documents that are nearest to each judged query.

    queries, documents: branches (the same one where both are embedded alike); folder: holds corpus.jsonl,
    queries.jsonl and qrels/SPLIT.tsv; query_text, document_text: the fields that are joined, a field of a
    field as metadata.code. An empty document is never retrieved. depth: answers a query, for MAP and for
    the fusion. baselines: of evaluation/lexical.py, measured on the same texts (`bm25/nDCG@10`), and with
    `fusion` (reciprocal_rank or min_max) each one fused with the embedding's answers
    (`fused_with_bm25/nDCG@10`); weight: the embedding's in min_max. run_file: where the embedding's run is
    written, in TREC's format. ignore_identical_ids: a document with the query's own id is no answer, as in
    BEIR's own evaluation (ArguAna and Quora hold their queries among their documents), unless it is judged
    to be one.

    query_languages, corpus_languages: the texts lie in corpus/LANG.jsonl and queries/LANG.jsonl, with the
    same ids in all; every pair of a query's and a corpus's language is measured (`en_to_zh/nDCG@10`), and
    the mean over pairs of the same language (`monolingual`), of two (`cross_lingual`) and of two scripts
    (`cross_script`). A run file's name then gets `.en_to_zh` at its end.

    Source: Thakur et al. 2021, arXiv 2104.08663.
    """

    queries: str
    documents: str
    folder: str
    split: str = "test"
    query_text: tuple[str, ...] = ("text",)
    document_text: tuple[str, ...] = ("title", "text")
    query_languages: tuple[str, ...] = ()
    corpus_languages: tuple[str, ...] = ()
    measures: tuple[str, ...] = MEASURES
    depth: int = 1000
    baselines: tuple[str, ...] = ("bm25",)
    fusion: str | None = None
    weight: float = 0.5
    run_file: str | None = None
    ignore_identical_ids: bool = True

    sources: ClassVar[tuple] = ()  # it reads its own folder
    fields: ClassVar[tuple] = ()

    def __post_init__(self):
        if self.depth < 1:
            raise InputError(f"depth={self.depth}: give a number of answers, 1 or more")
        if self.run_file:
            trec.check_run_file(self.run_file)
        trec.check_measures(self.measures, self.depth)
        lexical.check_baselines(self.baselines, self.fusion)
        check_fusion(self.fusion, self.weight)
        if bool(self.query_languages) != bool(self.corpus_languages):
            raise InputError("query_languages and corpus_languages: give both, or neither")

    seen: ClassVar[tuple] = ()  # it makes records of its own

    @property
    def branches(self) -> tuple[str, ...]:
        return self.queries, self.documents

    def run(self, embed: Embedder, source: Source | None = None) -> Iterator[tuple[str, float]]:
        qrels = read_qrels(f"{self.folder}/qrels/{self.split}.tsv")
        if not self.query_languages:
            return (yield from self._measured(embed, *self._texts("", "", qrels), qrels, ""))
        means: dict[str, list[float]] = {}
        for asked in self.query_languages:
            for answered in self.corpus_languages:
                queries, documents = self._texts(asked, answered, qrels)
                scripts = {script_of(queries.texts), script_of(documents.texts)}
                kinds = ("monolingual",) if asked == answered else ("cross_lingual", "cross_script")
                kinds = kinds[: 1 if len(scripts) == 1 else 2]
                pair = f"{asked}_to_{answered}"
                for name, value in self._measured(embed, queries, documents, qrels, f".{pair}"):
                    yield f"{pair}/{name}", value
                    for kind in kinds:
                        means.setdefault(f"{kind}/{name}", []).append(value)
        for name, values in means.items():
            yield name, float(np.mean(values))

    def _texts(self, asked: str, answered: str, qrels: dict) -> tuple[Texts, Texts]:
        """The judged queries, and the documents that are not empty."""
        path, where = (f"{self.folder}/{kind}.jsonl" for kind in ("queries", "corpus"))
        if asked:
            path, where = f"{self.folder}/queries/{asked}.jsonl", f"{self.folder}/corpus/{answered}.jsonl"
        queries = judged(_texts(path, self.query_text), qrels, f"{self.folder}/qrels/{self.split}.tsv")
        documents = _texts(where, self.document_text)
        filled = [(i, text) for i, text in zip(*documents) if text]
        if not filled:
            raise InputError(f"{where}: every document is empty in {', '.join(self.document_text)}")
        return queries, Texts(*map(list, zip(*filled)))

    def _measured(
        self, embed: Embedder, queries: Texts, documents: Texts, qrels: dict, ending: str
    ) -> Iterator[tuple[str, float]]:
        ids = queries.ids, documents.ids
        if self.ignore_identical_ids:
            _tell_apart(self.folder, queries, documents)
        a, b = embed.texts(self.queries, queries.texts), embed.texts(self.documents, documents.texts)
        depth = self.depth + self.ignore_identical_ids  # the query itself may be among them
        scores, answers = search(a, b, depth, embed.mesh)
        dense = self._others(Ranking(answers, scores), *ids, qrels)
        run = trec.run_of(dense, *ids)
        if self.run_file and jax.process_index() == 0:
            trec.write_run(self.run_file + ending, run, "contrastive_jax")
        yield from trec.measure(run, qrels, self.measures).items()
        for name in self.baselines:
            ranking = self._others(lexical.rank(name, queries.texts, documents.texts, depth), *ids, qrels)
            found = {name: ranking}
            if self.fusion:
                found[f"fused_with_{name}"] = fuse(dense, ranking, self.fusion, self.weight)
            for title, ranking in found.items():
                figures = trec.measure(trec.run_of(ranking, *ids), qrels, self.measures)
                yield from ((f"{title}/{measure}", value) for measure, value in figures.items())

    def _others(self, ranking: Ranking, queries: list[str], documents: list[str], qrels: dict) -> Ranking:
        """The answers to `depth` that are not the query itself."""
        if self.ignore_identical_ids:
            theirs = [None if qrels[name].get(name, 0) > 0 else name for name in queries]
            ranking = without_identical(ranking, theirs, documents)
        return Ranking(ranking.answers[:, : self.depth], ranking.scores[:, : self.depth])


def _tell_apart(folder: str, queries: Texts, documents: Texts) -> None:
    """Warns where queries and documents have ids in common that are not of the same texts."""
    texts = dict(zip(documents.ids, documents.texts))
    both = [(i, text, texts[i]) for i, text in zip(queries.ids, queries.texts) if i in texts]
    other = [i for i, query, document in both if " ".join(query.split()) not in " ".join(document.split())]
    if other and len(other) == len(both):
        log.warning(
            "%s: %d queries have the id of a document with another text, such as %r, which is left out of "
            "their answers: if both are numbered apart, set ignore_identical_ids=False",
            *(folder, len(other), other[0]),
        )


@functools.lru_cache(maxsize=32)
def _texts(path: str, fields: tuple[str, ...]) -> Texts:
    return read_texts(path, fields)
