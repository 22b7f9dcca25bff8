"""Tokenizers trained on the captions of a source."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Int32

SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
PAD, UNKNOWN, BEGIN, END = range(4)
_CACHED_STRINGS = 1 << 17


@dataclasses.dataclass(frozen=True)
class BytePairs:
    """Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) inside words.

    Words are what stands between white space, punctuation, hyphens and digits; each digit and each
    punctuation mark is a word of its own.

    Args:
        vocabulary: tokens at most, the four special ones included.
        lowercase: fold case first.
    """

    vocabulary: int = 2048
    lowercase: bool = True

    def __post_init__(self) -> None:
        if self.vocabulary <= len(SPECIALS):
            raise InputError(f"tokenizer.vocabulary={self.vocabulary} must be more than {len(SPECIALS)}")

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learns the merges; the same texts, in any order, give the same tokenizer."""
        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=SPECIALS[UNKNOWN], fuse_unk=True))
        # Unicode writes one accented letter in two ways: NFC makes them one.
        steps = [normalizers.NFC()] + [normalizers.Lowercase()] * self.lowercase
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Punctuation("isolated"),
                pre_tokenizers.Digits(individual_digits=True),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary, special_tokens=list(SPECIALS), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return Tokenizer(tokenizer)


class Tokenizer:
    """Text to token numbers: 0 padding, 1 unknown, 2 begin, 3 end, then the learnt ones.

    Args:
        tokenizer: one whose first four tokens are `SPECIALS`.

    Raises:
        ValueError: they are others.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        if tuple(tokenizer.id_to_token(number) for number in range(len(SPECIALS))) != SPECIALS:
            raise ValueError(f"the first tokens must be {', '.join(SPECIALS)}")
        self._tokenizer = tokenizer
        self._encoded: dict[tuple[str, int], np.ndarray] = {}

    def __reduce__(self) -> tuple:
        return Tokenizer, (self._tokenizer,)

    def __len__(self) -> int:
        """The number of tokens, the special ones included."""
        return self._tokenizer.get_vocab_size()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing, damaged or another kind of tokenizer.
        """
        try:
            return cls(tokenizers.Tokenizer.from_str(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise InputError(f"tokenizer {path}: cannot be read ({error.strerror})") from error
        except Exception as error:  # the library raises bare Exception
            reason = str(error).splitlines()[0]
            raise InputError(f"tokenizer {path}: damaged or of another kind ({reason})") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the `tokenizers` library's JSON, at once or not at all."""
        # Re-dumped with sorted keys: the library's order of the vocabulary is its own affair.
        content = json.dumps(json.loads(self._tokenizer.to_str()), ensure_ascii=False, sort_keys=True)
        temporary = Path(f"{os.fspath(path)}.partial")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def encode(self, text: str, length: int) -> Int32[np.ndarray, " length"]:
        """`BEGIN tokens END`, padded with 0 or with its tokens cut to fit.

        Args:
            text: any string.
            length: tokens wanted, begin and end included.
        """
        encoded = self._encoded.get((text, length))
        if encoded is None:
            tokens = self._tokenizer.encode(text, add_special_tokens=False).ids[: length - 2]
            encoded = np.full(length, PAD, np.int32)
            encoded[: len(tokens) + 2] = [BEGIN, *tokens, END]
            encoded.setflags(write=False)
            if len(self._encoded) < _CACHED_STRINGS:
                self._encoded[text, length] = encoded
        return encoded


KINDS = {"bpe": BytePairs}
