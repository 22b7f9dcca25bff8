"""A view of texts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import tokens, words
from contrastive_jax.data.views.declaring import Drawing, require, require_range, structure
from contrastive_jax.data.views.orders import ORDERS, reordered, swapped
from contrastive_jax.data.vocabularies import MASK
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import jax
    from jaxtyping import Int32

    from contrastive_jax.data.tokenizers import Tokenizer

_MISSING = "missing"
_PROBABILITIES = ("stays", "stop_words", "repetition", "masking")


@dataclasses.dataclass(frozen=True)
class Text(Drawing):
    """A text's tokens.

    Words are what stands between blanks. At training, in this order and each only where it is asked for: a
    string is chosen, and the fields are put behind each other; a span; stop words; word dropout; EDA; swap
    or order; a prompt; then, in tokens and cut to what `length` has room for: deletion, repetition, masking.
    At evaluation: the first string whole, swap or order, the first prompt. A missing text is the word
    "missing".

    Args (and those of `Drawing`; with `count`, examples show different strings of a list as long as
    there are any):
        field: the record's field, a string, or a list of strings of which one is drawn at training.
        also: further fields, put behind it with a blank between; a record may lack them.
        either: further fields of which, at training, one or `field` is drawn, such as a caption in other
            languages; with `count`, different ones as long as there are any.
        length: tokens, begin and end included; longer texts are cut before the end token.
        join: a list's strings are joined with a blank, and none is drawn.
        rest: at training a list's strings are joined but for one that is drawn, and those that hold it. A
            view of the same list that draws `together` with it shows just that one: the inverse cloze task
            (Lee et al. 2019, arXiv:1906.00300). At evaluation all are joined.
        stays: with `rest`, the probability that the drawn one stays among the others.
        prompts: texts with {} for the text, such as "a photo of a {}".
        span: at training, a run of so many of the words, as a share drawn evenly between the two; its
            place is drawn evenly too. Two views of one field are then the independent crops of
            Izacard et al. 2022, Contriever, arXiv:2112.09118.
        stop_words: at training, the probability that a text loses its commonest (English) words.
        word_dropout: at training each word is left out with this probability, but never all of them
            (Iyyer et al. 2015, Deep Unordered Composition Rivals Syntactic Methods).
        eda: weights of (nothing, two words exchanged, a tenth of the words left out), of which one happens
            (`words.easily_changed`).
        swap: kinds of words, each a text such as "red green blue": two of one kind change places, at
            evaluation too, where the text alone decides which (`orders.swapped`).
        order: another order of the words, at evaluation too: see `orders.ORDERS`. With "listed" and
            "unlisted" `swap` says which words those are.
        deletion: at training each token is left out with this probability (`tokens.thinned`).
        repetition: at training up to this share of the tokens stand twice (`tokens.repeated`).
        masking: at training each token is chosen with this probability (`tokens.masked`).
        masked_as: shares of the chosen tokens that become the mask, become any token, and stay.
        spared: so many tokens at a text's beginning are never chosen.
        mask: the token for it; by default the tokenizer's own, [MASK] or <mask>.
    """

    field: str = "text"
    also: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    length: int = 32
    join: bool = False
    rest: bool = False
    stays: float = 0.0
    prompts: tuple[str, ...] = ()
    span: tuple[float, ...] = (1.0, 1.0)
    stop_words: float = 0.0
    word_dropout: float = 0.0
    eda: tuple[float, ...] = ()
    swap: tuple[str, ...] = ()
    order: str = ""
    deletion: float = 0.0
    repetition: float = 0.0
    masking: float = 0.0
    masked_as: tuple[float, ...] = (1.0, 0.0, 0.0)
    spared: int = 0
    mask: str = ""
    _tokenizer = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.length >= 3, "text", "length", self.length, "3 or more")
        for key in _PROBABILITIES:
            require(0 <= getattr(self, key) <= 1, "text", key, getattr(self, key), "in [0, 1]")
        for key in ("word_dropout", "deletion"):
            require(getattr(self, key) < 1, "text", key, getattr(self, key), "in [0, 1)")
        require(self.spared >= 0, "text", "spared", self.spared, "0 or more")
        require_range("text", "span", self.span, 0, 1)
        for prompt in self.prompts:
            require("{}" in prompt, "text", "prompts", prompt, "a text with {} in it")
        for key, value in (("eda", self.eda or (1.0,) * 3), ("masked_as", self.masked_as)):
            good = len(value) == 3 and min(value) >= 0 and sum(value) > 0
            require(good, "text", key, value, "three weights of 0 and more, one of them positive")
        require(not (self.join and self.rest), "text", "rest", self.rest, "False with join=True")
        self._check_orders()

    def _check_orders(self) -> None:
        require(self.order in ("", *ORDERS), "text", "order", self.order, f"one of {', '.join(ORDERS)}")
        for kind in self.swap:
            good = len(set(kind.casefold().split())) > 1
            require(good, "text", "swap", kind, "words of one kind, two at least")
        needed = self.order.endswith("listed")
        require(bool(self.swap) or not needed, "text", "swap", self.swap, f"given with order={self.order!r}")
        require(not self.order or needed or not self.swap, "text", "swap", self.swap, "() with this order")

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that it reads."""
        return *self.shown, *self.either

    @property
    def shown(self) -> tuple[str, ...]:
        """The fields that it reads where nothing is drawn."""
        return self.field, *self.also

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What `bind` gave it."""
        return self._tokenizer

    def bind(self, tokenizer: Tokenizer) -> Text:
        """The same view with the tokenizer that it shall use, which is no part of its config.

        Raises:
            InputError: it masks, and the tokenizer has no such token.
        """
        bound = dataclasses.replace(self)
        object.__setattr__(bound, "_tokenizer", tokenizer)
        if self.masking:
            bound._mask_id  # noqa: B018
        return bound

    @functools.cached_property
    def _mask_id(self) -> int:
        names = (self.mask,) if self.mask else MASK
        found = [number for name in names if (number := self._tokenizer.find(name)) is not None]
        if not found and self.masked_as[0]:
            what = f"mask={self.mask!r} is no token of the tokenizer" if self.mask else "masking needs a mask"
            raise InputError(
                f"view 'text': {what}; name one of its tokens as mask, or let a tokenizer that is learnt "
                "have one (config.data.tokenizer.mask=True)"
            )
        return found[0] if found else self._tokenizer.padding

    @functools.cached_property
    def _kinds(self) -> list[frozenset[str]]:
        return [frozenset(kind.casefold().split()) for kind in self.swap]

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example: int32 [length]."""
        return structure((self.length,), np.int32)

    def blank(self) -> Int32[np.ndarray, " length"]:
        """The tokens of the word that stands in for a missing text."""
        return self._bound().encode(_MISSING, self.length)

    def given(self, record: dict[str, Any], rng: np.random.Generator) -> Sequence[dict[str, Any]]:
        """With `count`, different strings of a list, in an order that is drawn, then the same ones again; so
        it is with `either`, whose fields stand in the place of `field`."""
        if self.either:
            names = (self.field, *self.either)
            order = np.resize(rng.permutation(len(names)), self.count or 1).tolist()
            return [record | {self.field: record[names[number]]} for number in order]
        value = record[self.field]
        if self.count is None or self.join or self.rest or not isinstance(value, (list, tuple)) or not value:
            return super().given(record, rng)
        order = np.resize(rng.permutation(len(value)), self.count).tolist()
        return [record | {self.field: value[number]} for number in order]

    def example(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> Int32[np.ndarray, " length"]:
        """The tokens; with `train` False those of the whole text.

        Raises:
            BrokenRecord: the field holds no text, or half a character; at training, an empty one. (A corpus
                that is searched may hold empty documents, which have their place in it.) Or the words of a
                text that is to be another have no other order.
            ValueError: no tokenizer was bound.
        """
        tokenizer = self._bound()
        parts = [self._string(record[self.field], self.field, rng, train)]
        parts += [self._string(record.get(name) or "", name, rng, train) for name in self.also]
        text = " ".join(filter(None, parts)) if self.also else parts[0]
        if train:
            text = self._some_words(text, rng)
        if self.swap or self.order:
            text = self._another(text, rng if train else _settled(text))
        if self.prompts:
            text = _drawn(self.prompts, rng, train).replace("{}", text)
        if train and (self.deletion or self.repetition or self.masking):
            return tokenizer.framed(self._some_tokens(tokenizer, text, rng), self.length)
        return tokenizer.encode(text, self.length, not (train and self._drawn_anew))

    @functools.cached_property
    def _drawn_anew(self) -> bool:
        """Whether hardly a text comes twice at training, so that nothing of it is worth keeping."""
        words_too = self.stop_words or self.word_dropout or self.eda or self.swap or self.order
        return bool(self.span != (1.0, 1.0) or words_too)

    def _bound(self) -> Tokenizer:
        if self._tokenizer is None:
            raise ValueError("a text view needs a tokenizer: use view.bind(tokenizer)")
        return self._tokenizer

    def _string(self, value: Any, field: str, rng: np.random.Generator, train: bool) -> str:
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
            if self.rest and train:
                value = self._but_one(value, rng)
            elif self.join or self.rest:
                value = " ".join(filter(None, value))
            else:
                value = _drawn(value, rng, train)
        if not isinstance(value, str):
            raise BrokenRecord(f"{field!r} is no text ({type(value).__name__})")
        if not _is_whole(value):
            raise BrokenRecord(f"{field!r} holds half a character (a lone surrogate)")
        return value

    def _but_one(self, texts: Sequence[str], rng: np.random.Generator) -> str:
        drawn = _drawn(texts, rng, True)  # the first number, as it is of the view that shows it
        if self.stays and rng.random() < self.stays:
            return " ".join(filter(None, texts))
        return " ".join(text for text in texts if text and drawn not in text)

    def _some_words(self, text: str, rng: np.random.Generator) -> str:
        if not text or text.isspace():
            raise BrokenRecord(f"its text is empty ({', '.join(self.fields)})")
        if self.span != (1.0, 1.0):
            text = " ".join(words.span(text.split(), self.span, rng))
        if self.stop_words and rng.random() < self.stop_words:
            text = " ".join(words.without_stop_words(text.split()))
        if self.word_dropout:
            text = " ".join(words.thinned(text.split(), self.word_dropout, rng))
        if self.eda:
            text = " ".join(words.easily_changed(text.split(), self.eda, rng))
        return text

    def _another(self, text: str, rng: np.random.Generator) -> str:
        if self.order:
            return " ".join(reordered(text.split(), self.order, rng, self._kinds))
        return " ".join(swapped(text.split(), self._kinds, rng))

    def _some_tokens(self, tokenizer: Tokenizer, text: str, rng: np.random.Generator) -> np.ndarray:
        own = tokenizer.own(text, self.length, not self._drawn_anew)
        if self.deletion:
            own = tokens.thinned(own, self.deletion, rng)
        if self.repetition:
            own = tokens.repeated(own, self.repetition, rng)
        if self.masking:
            mask, ordinary = self._mask_id, tokenizer.ordinary
            own = tokens.masked(own, self.masking, self.masked_as, self.spared, mask, ordinary, rng)
        return own


def strings(column: Iterable[Any]) -> Iterator[str]:
    """All strings of a field's values that a view can read, single ones and those in lists."""
    for value in column:
        if isinstance(value, str):
            if _is_whole(value):
                yield value
        elif isinstance(value, (list, tuple)):
            yield from strings(value)


def _is_whole(text: str) -> bool:
    """Whether it is Unicode: JSON of a text that was cut can hold the first half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _settled(text: str) -> np.random.Generator:
    """Random numbers that are those of the text: what is drawn from them is the same in every evaluation."""
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _drawn(texts: Sequence[str], rng: np.random.Generator, train: bool) -> str:
    return texts[int(rng.random() * len(texts))] if train and len(texts) > 1 else texts[0]
