"""Finding the page that a section was cut out of, among other pages."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import lexical
from contrastive_jax.evaluation.columns import column
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.pairs import Pairs
from contrastive_jax.evaluation.rankings import check_fusion
from contrastive_jax.evaluation.ranks import check_at

if TYPE_CHECKING:
    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class SectionRetrieval:
    """Mean reciprocal rank and recall of each page for a section of it, among all pages of the source.

    A page is a record with a list of sections: each a text, or an object with a list of `paragraphs`. Of
    every page with two sections of at least `least` words one of them is drawn by `seed`; its first
    `query_words` words are the query (None: all), and the page's title and other sections, down to
    `document_words`, the right answer, so that no word of the query stands in it by its place. The same is
    done `rounds` times with other draws; figures are means over the rounds.

    queries, documents: branches that read texts; sections, title: fields (title may be None). baselines,
    fusion, weight: as for test collections (`bm25/R@10`), of the same words. `pool`: the number of pages.

    Source: Chang et al. 2020, arXiv 2002.03932 (the tasks from which such pages are learnt; recall at 1 to
    100 of passages for sentences).
    """

    queries: str
    documents: str
    sections: str = "sections"
    title: str | None = "title"
    source: str | None = None
    least: int = 20
    query_words: int | None = None
    document_words: int | None = None
    rounds: int = 5
    seed: int = 0
    at: tuple[int, ...] = (1, 5, 10)
    baselines: tuple[str, ...] = ("bm25",)
    fusion: str | None = None
    weight: float = 0.5

    def __post_init__(self):
        check_at(self.at)
        lexical.check_baselines(self.baselines, self.fusion)
        check_fusion(self.fusion, self.weight)
        for key in ("least", "query_words", "document_words", "rounds"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key}={value}: give 1 or more")

    seen: ClassVar[tuple] = ()  # it makes records of its own

    @property
    def branches(self) -> tuple[str, ...]:
        return self.queries, self.documents

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.sections, self.title)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        pairs = Pairs(
            queries=self.queries,
            answers=self.documents,
            query_text="query",
            answer_text="document",
            group="round",
            at=self.at,
            baselines=self.baselines,
            fusion=self.fusion,
            weight=self.weight,
        )
        yield from pairs.run(embed, _cut(self, source))

    def cut(self, source: Source) -> Listed:
        """Records of a query, a document and the number of the round.

        Raises InputError where fewer than two pages have two sections to choose from.
        """
        titles = column(source, self.title) if self.title else [""] * len(source)
        titles = [title if isinstance(title, str) else "" for title in titles]
        pages = [self._texts(source, *numbered) for numbered in enumerate(column(source, self.sections))]
        able = []
        for title, texts in zip(titles, pages):
            long = [number for number, text in enumerate(texts) if len(text.split()) >= self.least]
            if len(long) > 1:
                able.append((title, texts, long))
        if len(able) < 2:
            raise InputError(
                f"{source.name}: {len(able)} pages have two {self.sections} of {self.least} words, and one "
                "page is searched among others"
            )
        rng, records = np.random.default_rng(self.seed), []
        for number in range(self.rounds):
            for title, texts, long in able:
                drawn = long[rng.integers(len(long))]
                others = [title, *texts[:drawn], *texts[drawn + 1 :]]
                document = " ".join(filter(None, others)).split()[: self.document_words]
                query = texts[drawn].split()[: self.query_words]
                texts_of_it = {"query": " ".join(query), "document": " ".join(document)}
                records.append({"record": len(records), "round": number, **texts_of_it})
        return Listed(source.name, records)

    def _texts(self, source: Source, record: int, parts: Any) -> list[str]:
        try:
            if isinstance(parts, str):
                raise TypeError("one text is no list of sections")
            return [_text(part) for part in parts or ()]
        except (TypeError, AttributeError):
            raise InputError(
                f"{source.name}: record {record} has no list of texts, or of objects with paragraphs, "
                f"in {self.sections!r}"
            ) from None


@functools.lru_cache(maxsize=8)
def _cut(evaluator: SectionRetrieval, source: Source) -> Listed:
    return evaluator.cut(source)


def _text(section: str | Mapping[str, Any]) -> str:
    """A section's text without its heading, which would give the page away."""
    if isinstance(section, str):
        return section
    paragraphs: Sequence[str] = section.get("paragraphs") or ()
    if isinstance(paragraphs, str):
        raise TypeError("one text is no list of paragraphs")
    return " ".join(text for text in paragraphs if isinstance(text, str))
