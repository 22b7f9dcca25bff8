"""A view of texts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views.declaring import require, require_range, structure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import jax
    from jaxtyping import Int32

    from contrastive_jax.data.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Text:
    """A text's tokens.

    Words are what stands between blanks. At training, in this order: a string is chosen, a span of it,
    words are left out, a prompt is put round it. At evaluation it is the first string whole, in the
    first prompt.

    Args:
        field: the record's field, a string, or a list of strings of which one is drawn at training.
        also: further fields, put behind it with a blank between; a record may lack them.
        member: which of the records that the sampler drew for a row.
        length: tokens, begin and end included; longer texts are cut before the end token.
        join: a list's strings are joined with a blank, and none is drawn.
        prompts: texts with {} for the text, such as "a photo of a {}".
        span: at training, a run of so many of the words, as a share drawn evenly between the two; its
            place is drawn evenly too. Two views of one field are then the independent crops of
            Izacard et al. 2022, Contriever, arXiv:2112.09118.
        word_dropout: at training each word is left out with this probability, but never all of them
            (Iyyer et al. 2015, Deep Unordered Composition Rivals Syntactic Methods).
    """

    field: str = "text"
    also: tuple[str, ...] = ()
    member: int = 0
    length: int = 32
    join: bool = False
    prompts: tuple[str, ...] = ()
    span: tuple[float, ...] = (1.0, 1.0)
    word_dropout: float = 0.0
    _tokenizer = None

    def __post_init__(self) -> None:
        require(self.length >= 3, "text", "length", self.length, "3 or more")
        require(self.member >= 0, "text", "member", self.member, "0 or more")
        require(0 <= self.word_dropout < 1, "text", "word_dropout", self.word_dropout, "in [0, 1)")
        require_range("text", "span", self.span, 0, 1)
        for prompt in self.prompts:
            require("{}" in prompt, "text", "prompts", prompt, "a text with {} in it")

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that it reads."""
        return self.field, *self.also

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What `bind` gave it."""
        return self._tokenizer

    def bind(self, tokenizer: Tokenizer) -> Text:
        """The same view with the tokenizer that it shall use, which is no part of its config."""
        bound = dataclasses.replace(self)
        object.__setattr__(bound, "_tokenizer", tokenizer)
        return bound

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example: int32 [length]."""
        return structure((self.length,), np.int32)

    def __call__(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> Int32[np.ndarray, " length"]:
        """The tokens; with `train` False those of the whole text.

        Raises:
            BrokenRecord: the field holds no text, or half a character; at training, an empty one. (A corpus
                that is searched may hold empty documents, which have their place in it.)
            ValueError: no tokenizer was bound.
        """
        if self._tokenizer is None:
            raise ValueError("a text view needs a tokenizer: use view.bind(tokenizer)")
        parts = [self._string(record[self.field], self.field, rng, train)]
        parts += [self._string(record.get(name) or "", name, rng, train) for name in self.also]
        text = " ".join(filter(None, parts)) if self.also else parts[0]
        if train:
            text = self._some_words(text, rng)
        if self.prompts:
            text = _drawn(self.prompts, rng, train).replace("{}", text)
        return self._tokenizer.encode(text, self.length)

    def _string(self, value: Any, field: str, rng: np.random.Generator, train: bool) -> str:
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
            value = " ".join(filter(None, value)) if self.join else _drawn(value, rng, train)
        if not isinstance(value, str):
            raise BrokenRecord(f"{field!r} is no text ({type(value).__name__})")
        if not _is_whole(value):
            raise BrokenRecord(f"{field!r} holds half a character (a lone surrogate)")
        return value

    def _some_words(self, text: str, rng: np.random.Generator) -> str:
        if not text or text.isspace():
            raise BrokenRecord(f"its text is empty ({', '.join(self.fields)})")
        if self.span != (1.0, 1.0):
            words, (least, most) = text.split(), self.span
            share, place = rng.random(2).tolist()
            count = max(round(len(words) * (least + share * (most - least))), 1)
            start = int(place * (len(words) - count + 1))
            text = " ".join(words[start : start + count])
        if self.word_dropout:
            words = text.split()
            kept = [word for word, u in zip(words, rng.random(len(words))) if u >= self.word_dropout]
            text = " ".join(kept or words)
        return text


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


def _drawn(texts: tuple[str, ...] | list[str], rng: np.random.Generator, train: bool) -> str:
    return texts[int(rng.random() * len(texts))] if train and len(texts) > 1 else texts[0]
