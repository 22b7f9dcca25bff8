"""Finding each text's counterpart among many: translations, the code of a docstring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import lexical
from contrastive_jax.evaluation.columns import numbered, single
from contrastive_jax.evaluation.embedding import Shown
from contrastive_jax.evaluation.nearest import search
from contrastive_jax.evaluation.rankings import Ranking, check_fusion, first_right, fuse
from contrastive_jax.evaluation.scripts import script_of
from contrastive_jax.evaluation.texts import seen_texts

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


class Pool(NamedTuple):
    """The records whose counterparts are searched among each other."""

    group: str
    records: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Pairs:
    """Mean reciprocal rank and recall of each record's `answer` for its `query` among the pool's answers.

    queries, answers: branches; query_text, answer_text: the fields that they embed (None: what their views
    read). An answer is right when it is the record's own, or the very same text. both_ways: also from answers
    to queries (`backwards/`). group: a field; records are searched within their group, such as a language,
    and the figures are means over the groups (`by_group`: each one's too, as `MRR/deu`). candidates: a pool
    is so many records of a group, drawn by `seed` without repetition, and what is left over is left out; a
    smaller group is one pool (None: every group is). by_script: also the means over the groups whose two
    sides are written in one script (`same_script`) and in two (`cross_script`).

    baselines, fusion, weight: as for test collections; they need both fields to be texts. The reciprocal
    rank of an answer below `depth` counts 0.

    Sources: Husain et al. 2019, arXiv 1909.09436 (999 distractors); Artetxe and Schwenk 2019,
    arXiv 1812.10464 (Tatoeba: the share of wrong nearest neighbours, here 1 - R@1).
    """

    queries: str
    answers: str
    query_text: str | None = None
    answer_text: str | None = None
    source: str | None = None
    group: str | None = None
    by_group: bool = False
    by_script: bool = False
    both_ways: bool = False
    candidates: int | None = None
    seed: int = 0
    at: tuple[int, ...] = (1, 10)
    depth: int = 1000
    baselines: tuple[str, ...] = ()
    fusion: str | None = None
    weight: float = 0.5

    def __post_init__(self):
        lexical.check_baselines(self.baselines, self.fusion)
        check_fusion(self.fusion, self.weight)
        if min(self.at, default=1) < 1 or self.depth < max(self.at, default=1):
            raise InputError(f"at={self.at}, depth={self.depth}: give numbers of answers, from 1 to depth")
        if self.candidates is not None and self.candidates < 2:
            raise InputError(f"candidates={self.candidates}: give 2 or more, or None")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.queries, self.answers

    @property
    def seen(self) -> tuple[str, ...]:
        given = (self.queries, self.query_text), (self.answers, self.answer_text)
        return tuple(branch for branch, text in given if text is None)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.query_text, self.answer_text, self.group)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        sides = [
            _Side.of(embed, branch, source, field)
            for branch, field in ((self.queries, self.query_text), (self.answers, self.answer_text))
        ]
        for side, branch in zip(sides, self.branches):
            if side.texts is None and (self.baselines or self.by_script):
                key = "baselines" if self.baselines else "by_script"
                raise InputError(f"{key}={getattr(self, key)}: it needs texts, and {branch!r} reads none")
        pools, figures = self._pools(source), {}
        ways = [("", *sides)] + ([("backwards/", *sides[::-1])] if self.both_ways else [])
        for way, asked, answered in ways:
            for pool in pools:
                for name, ranks in self._ranks(embed, pool, asked, answered, max(map(_size, pools))).items():
                    figures.setdefault(way + name, {}).setdefault(pool.group, []).append(ranks)
        yield from self._means(figures, self._script_kinds(pools, sides))
        yield "pool", float(np.mean([len(pool.records) for pool in pools]))

    def _pools(self, source: Source) -> list[Pool]:
        names, numbers = [""], np.zeros(len(source), int)
        if self.group is not None:
            names, numbers = numbered(single(source, self.group))
        pools, rng = [], np.random.default_rng(self.seed)
        for number, name in enumerate(names):
            records = np.flatnonzero(numbers == number)
            if self.candidates is None or len(records) <= self.candidates:
                pools.append(Pool(str(name), records))
                continue
            records = rng.permutation(records)
            starts = range(0, len(records) - self.candidates + 1, self.candidates)
            pools += [Pool(str(name), records[start : start + self.candidates]) for start in starts]
        return pools

    def _ranks(
        self, embed: Embedder, pool: Pool, asked: _Side, answered: _Side, largest: int
    ) -> dict[str, Float[np.ndarray, " n"]]:
        """{ranking: the rank of the first right answer of each of the pool's queries}."""
        right = answered.ids[pool.records]
        # Pools are filled up to one size, so that one compiled program searches them all.
        filled = np.concatenate([pool.records, np.zeros(largest - len(pool.records), int)])
        inside = np.arange(largest) < len(pool.records)
        scores, found = search(
            asked.z[filled],
            answered.z[filled],
            self.depth,
            embed.mesh,
            within=(np.ones(largest, int), inside.astype(int)),
        )
        dense = Ranking(found[inside], scores[inside])
        rankings = {"": dense}
        if self.baselines:
            texts = [[side.texts[i] for i in pool.records] for side in (asked, answered)]
            for name in self.baselines:
                rankings[f"{name}/"] = lexical.rank(name, *texts, self.depth)
                if self.fusion:
                    both = dense, rankings[f"{name}/"]
                    rankings[f"fused_with_{name}/"] = fuse(*both, self.fusion, self.weight)
        return {name: first_right(ranking, right, right) for name, ranking in rankings.items()}

    def _means(
        self, figures: dict[str, dict[str, list[np.ndarray]]], kinds: dict[str, str]
    ) -> Iterator[tuple[str, float]]:
        for way, groups in figures.items():
            ranks = {group: np.concatenate(pools) for group, pools in groups.items()}
            measures = {"MRR": lambda r: np.mean(1 / r)}
            measures |= {f"R@{k}": lambda r, k=k: np.mean(r <= k) for k in sorted(self.at)}
            for name, measure in measures.items():
                values = {group: float(measure(r)) for group, r in ranks.items()}
                yield way + name, float(np.mean(list(values.values())))
                for kind in sorted(set(kinds.values())):
                    some = [value for group, value in values.items() if kinds[group] == kind]
                    yield f"{way}{kind}/{name}", float(np.mean(some))
                if self.by_group:
                    yield from ((f"{way}{name}/{group}", value) for group, value in values.items())

    def _script_kinds(self, pools: Sequence[Pool], sides: Sequence[_Side]) -> dict[str, str]:
        if not self.by_script:
            return {}
        kinds = {}
        for pool in pools:
            scripts = {script_of(side.texts[i] for i in pool.records) for side in sides}
            kinds[pool.group] = "same_script" if len(scripts) == 1 else "cross_script"
        return kinds


class _Side(NamedTuple):
    """One side of the pairs: embeddings, a number for each different text, and the texts; pictures have
    none, and each is another."""

    z: Float[np.ndarray, "n d"]
    ids: Int[np.ndarray, " n"]
    texts: Sequence[str] | None

    @classmethod
    def of(cls, embed: Embedder, branch: str, source: Source, field: str | None) -> _Side:
        view = embed.view(branch)
        shown = source if field in (None, view.field) else Shown(source, field, view.field)
        z = embed(branch, shown)
        if not isinstance(view, Text):
            return cls(z, np.arange(len(source)), None)
        texts = seen_texts(shown, view, view.shown if shown is source else (view.field,))
        return cls(z, numbered(texts)[1], texts)


def _size(pool: Pool) -> int:
    return len(pool.records)
