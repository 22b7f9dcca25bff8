"""Choices that only the composition decides: the same words or things, put together otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.data.views.text import strings
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import column, labels, numbered, numbers, single
from contrastive_jax.evaluation.embedding import Shown
from contrastive_jax.evaluation.libraries import library
from contrastive_jax.evaluation.word_order import Perturbation, check_perturbations

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from contrastive_jax.evaluation.embedding import Embedder

_EQUAL = 1e-5  # of the lengths: sums of the same words in another order differ by less


@dataclass(frozen=True)
class CaptionChoice:
    """The share of records whose picture is nearer to its true sentence than to each of its false ones.

    examples, prompts: branches of pictures and of sentences; true: the field of the true sentence; false:
    that of a false one, or of a list of them. Among equally near ones lots are drawn: a true sentence that
    is as near as k false ones, and behind none, counts 1 / (1 + k), so that a bag of words has exactly the
    chance of a guess where only the order differs. (Equal are dot products that differ by less than 1e-5 of
    the lengths.) group: a field, such as the kind of change; then each group's accuracy comes as well
    (`accuracy/swap_obj`) and their mean (`accuracy/mean`). chance: of a guess.

    perturbations: in place of `false`, the true sentence with its words in another order: `words`, any;
    `trigrams`, runs of three change places; `within_trigrams`, words do within each run; `listed`, the
    words of `kinds` do; `unlisted`, all others; `swap`, two words of one kind do. kinds: lists of words that
    can stand for each other, such as colours. Records that lack one of these orders are left out
    (`records`: what is left), and each comes by itself too (`against/trigrams`). They are drawn by `seed`.

    Sources: Yuksekgonul et al. 2023, arXiv 2210.01936 (ARO, whose four orders are listed, unlisted,
    within_trigrams and trigrams, of nouns and adjectives); Hsieh et al. 2023, arXiv 2306.14610 (SugarCrepe).
    """

    examples: str
    prompts: str
    true: str = "text"
    false: str = "false"
    source: str | None = None
    group: str | None = None
    perturbations: tuple[str, ...] = ()
    kinds: tuple[tuple[str, ...], ...] = ()
    seed: int = 0

    def __post_init__(self):
        check_perturbations(self.perturbations, self.kinds)

    @property
    def branches(self) -> tuple[str, ...]:
        return self.examples, self.prompts

    @property
    def seen(self) -> tuple[str, ...]:
        return (self.examples,)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.true, None if self.perturbations else self.false, self.group)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        kept, wrong = self._reordered(source) if self.perturbations else self._false(source)
        owner = np.repeat(np.arange(len(kept)), [len(texts) for texts in wrong])
        shown = embed(self.examples, source, kept)
        true = embed(self.prompts, Shown(source, self.true, embed.view(self.prompts).field), kept)
        false = embed.texts(self.prompts, [text for texts in wrong for text in texts])
        lead = _dots(shown, true)[owner] - _dots(shown[owner], false)
        equal = _EQUAL * np.linalg.norm(shown, axis=1)[owner] * np.linalg.norm(true, axis=1)[owner]
        right = _drawn(lead, equal, owner, len(kept))
        yield from _by_group(source, self.group, right, records=kept)
        yield "chance", float(np.mean([1 / (1 + len(texts)) for texts in wrong]))
        for number, how in enumerate(self.perturbations):
            one = slice(number, None, len(self.perturbations))
            yield f"against/{how}", float(_drawn(lead[one], equal[one], owner[one], len(kept)).mean())
        if self.perturbations:
            yield "records", len(kept)

    def _false(self, source: Source) -> tuple[Int[np.ndarray, " n"], list[list[str]]]:
        """All records, and the false sentences of each."""
        wrong = [list(filter(None, strings([value]))) for value in column(source, self.false)]
        empty = next((number for number, texts in enumerate(wrong) if not texts), None)
        if empty is not None:
            raise InputError(f"{source.name}, record {empty}: {self.false!r} holds no false sentence")
        return np.arange(len(source)), wrong

    def _reordered(self, source: Source) -> tuple[Int[np.ndarray, " n"], list[list[str]]]:
        """The records whose true sentence has all the orders, and those of each."""
        ways = [Perturbation(how, self.kinds, self.seed) for how in self.perturbations]
        orders = [[way(text) for way in ways] for text in map(str, labels(source, self.true))]
        kept = [number for number, texts in enumerate(orders) if None not in texts]
        if not kept:
            asked = ", ".join(self.perturbations)
            raise InputError(f"{source.name}: no {self.true!r} has all of the perturbations {asked}")
        return np.array(kept), [orders[number] for number in kept]


def _drawn(
    lead: Float[np.ndarray, " m"], equal: Float[np.ndarray, " m"], owner: Int[np.ndarray, " m"], count: int
) -> Float[np.ndarray, " n"]:
    """Each owner's probability to win by lots among what is as near: 0 where it is behind anyone."""
    behind = np.bincount(owner, lead < -equal, count)
    level = np.bincount(owner, np.abs(lead) <= equal, count)
    return (behind == 0) / (1 + level)


@dataclass(frozen=True)
class Winoground:
    """Two pictures and two sentences of the same words, to be matched: text score, the share of records in
    which each picture chooses its sentence; image score, in which each sentence chooses its picture; group
    score, both. Equally near is wrong; a guess has 1/4, 1/4 and 1/6.

    examples, prompts: branches of pictures and of sentences; pictures, sentences: two fields each, in the
    same order. group: a field, such as the tag; then each group's scores come as well.

    Source: Thrush et al. 2022, arXiv 2204.03162.
    """

    examples: str
    prompts: str
    pictures: tuple[str, ...] = ("image_0", "image_1")
    sentences: tuple[str, ...] = ("caption_0", "caption_1")
    source: str | None = None
    group: str | None = None

    def __post_init__(self):
        for key in ("pictures", "sentences"):
            if len(getattr(self, key)) != 2:
                raise InputError(f"{key}={getattr(self, key)}: give two fields")

    seen: ClassVar[tuple] = ()  # it makes records of its own

    @property
    def branches(self) -> tuple[str, ...]:
        return self.examples, self.prompts

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (*self.pictures, *self.sentences, self.group)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        images, texts = (
            [embed(branch, Shown(source, field, embed.view(branch).field)) for field in fields]
            for branch, fields in ((self.examples, self.pictures), (self.prompts, self.sentences))
        )
        own = [_dots(image, text) for image, text in zip(images, texts)]
        crossed = [_dots(images[0], texts[1]), _dots(images[1], texts[0])]  # picture 0 and 1 with the other's
        text = (own[0] > crossed[0]) & (own[1] > crossed[1])
        image = (own[0] > crossed[1]) & (own[1] > crossed[0])
        for name, right in (("text", text), ("image", image), ("group", text & image)):
            yield from _by_group(source, self.group, right, f"{name}_score")


@dataclass(frozen=True)
class PictureChoice:
    """Given a sentence and two pictures, of one of which it is true: the share of such pairs in which that
    one is nearer (equally near counts a half), over all pairs of the records with the same sentence, as the
    mean over sentences. auc: the area under the ROC curve, by scikit-learn, of nearness as a test for
    truth, over all records. A guess has 0.5 of both.

    examples, prompts: branches of pictures and of sentences; sentence: a field; label: one of 1 and 0, or
    true and false, as a truth value, a number or a word.

    Data of this kind: Suhr et al. 2017, A Corpus of Natural Language for Visual Reasoning (NLVR).
    """

    examples: str
    prompts: str
    sentence: str = "sentence"
    label: str = "label"
    source: str | None = None

    @property
    def branches(self) -> tuple[str, ...]:
        return self.examples, self.prompts

    @property
    def seen(self) -> tuple[str, ...]:
        return (self.examples,)

    @property
    def fields(self) -> tuple[str, ...]:
        return self.sentence, self.label

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        metrics = library("sklearn.metrics")
        true = self._truth(source)
        if true.all() or not true.any():
            raise InputError(f"{source.name}: {self.label!r} is the same in all records: there is no choice")
        texts, sentences = numbered(labels(source, self.sentence))
        near = _dots(embed(self.examples, source), embed.texts(self.prompts, texts)[sentences])
        shares = []
        for number in range(len(texts)):
            some = sentences == number
            ahead = near[some & true][:, None] - near[some & ~true][None, :]
            if ahead.size:
                shares.append(np.mean((ahead > 0) + 0.5 * (ahead == 0)))
        if shares:
            yield "accuracy", float(np.mean(shares))
        yield "auc", float(metrics.roc_auc_score(true, near))
        yield "sentences", len(shares)

    def _truth(self, source: Source) -> Bool[np.ndarray, " n"]:
        values = column(source, self.label)
        if any(isinstance(value, str) for value in values):
            words = {"true": True, "false": False, "1": True, "0": False}
            unknown = next((v for v in values if str(v).lower() not in words), None)
            if unknown is not None:
                raise InputError(f"{source.name}: {self.label}={unknown!r} is neither true nor false")
            return np.array([words[str(value).lower()] for value in values])
        found = numbers(source, self.label)
        if not np.isin(found, (0, 1)).all():
            raise InputError(f"{source.name}: {self.label!r} is neither 1 nor 0 in some record")
        return found == 1


def _by_group(
    source: Source,
    group: str | None,
    right: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    name: str = "accuracy",
    records: Int[np.ndarray, " n"] | slice = slice(None),
) -> Iterator[tuple[str, float]]:
    """The share of the records (of all by default); and of each group's, and the mean of those."""
    yield name, float(right.mean())
    if group is not None:
        names, places = numbered(np.asarray(single(source, group), object)[records].tolist())
        shares = [float(right[places == number].mean()) for number in range(len(names))]
        yield from ((f"{name}/{value}", share) for value, share in zip(names, shares))
        yield f"{name}/mean", float(np.mean(shares))


def _dots(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    return np.sum(a * b, axis=1)
