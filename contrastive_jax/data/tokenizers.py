"""Tokenizers: trained on the captions of a source, or read from a file of another library."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from contrastive_jax.data import vocabularies
from contrastive_jax.data.tokenizer_folders import file_of, settled
from contrastive_jax.data.vocabularies import Pieces, Specials, Vocabulary
from contrastive_jax.errors import InputError
from contrastive_jax.locking import write_atomically
from contrastive_jax.named_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jaxtyping import Int32, Int64

SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
PAD, UNKNOWN, BEGIN, END = range(4)
_BETWEEN_WORDS = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+"
KEPT_BYTES = 64 << 20  # of texts and their tokens, in each worker
_ENTRY_BYTES = 320  # of a key, an array's head and a place in the table
_FILE_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class BytePairs:
    """Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) inside words.

    Words are what stands between white space, punctuation, hyphens and digits; each digit and each
    punctuation mark is a word of its own. Padding is 0, an unknown letter 1, begin 2, end 3, [MASK] 4.

    Args:
        vocabulary: tokens at most, the four special ones included.
        lowercase: fold case first.
        identifiers: divide names in code into their words first: `readHTTPBody_now` is read HTTP Body now.
        mask: have a token [MASK], for views that mask.
        captions: learn from the texts of so many records at most, drawn by the run's seed.
    """

    vocabulary: int = 2048
    lowercase: bool = True
    identifiers: bool = False
    mask: bool = False
    captions: int = 4_000_000

    def __post_init__(self) -> None:
        if self.captions < 1:
            raise InputError(f"tokenizer.captions={self.captions} must be a number of records, 1 or more")
        if self.vocabulary <= len(self._specials):
            raise InputError(
                f"tokenizer.vocabulary={self.vocabulary} must be more than {len(self._specials)}"
            )

    @property
    def _specials(self) -> list[str]:
        return [*SPECIALS, *["[MASK]"] * self.mask]

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learns the merges; the same texts, in any order, give the same tokenizer."""
        tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=SPECIALS[UNKNOWN], fuse_unk=True))
        # Unicode writes one accented letter in two ways: NFC makes them one.
        steps = [normalizers.NFC()]
        if self.identifiers:
            steps.append(normalizers.Replace(tokenizers.Regex(_BETWEEN_WORDS), " "))
        steps += [normalizers.Lowercase()] * self.lowercase
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Punctuation("isolated"),
                pre_tokenizers.Digits(individual_digits=True),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary, special_tokens=self._specials, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return Tokenizer(Pieces(tokenizer), Specials((BEGIN,), (END,), PAD))


@dataclasses.dataclass(frozen=True)
class File:
    """A tokenizer made elsewhere: a `tokenizers` JSON, a sentencepiece model, or a folder that has
    either (`tokenizer.json` before `*.model`).

    Begin, end and padding are what the file says: its post-processor and its padding section, or a
    sentencepiece model's own ids; else its token of a usual name, as [CLS], <s> or <|startoftext|>.

    Args:
        path: the file.
        begin: the token to begin a text with, where the file's is not the right one; '' for none.
        end: the token to end a text with, likewise.
        padding: the token to fill up with, likewise.
    """

    path: str
    begin: str | None = None
    end: str | None = None
    padding: str | None = None

    def train(self, texts: Iterable[str] = ()) -> Tokenizer:
        """Reads the file, which has learnt from texts of its own.

        Raises:
            InputError: no such file, one of another kind, or one without a special token that it needs.
        """
        path = Path(self.path)
        path = file_of(path) if path.is_dir() else path
        vocabulary = settled(_read(path), path.parent)
        stated = vocabulary.stated()

        def chosen(key: str, names: tuple[str, ...]) -> tuple[int, ...] | int | None:
            override = getattr(self, key)
            if override is None:
                if (said := getattr(stated, key)) is not None:
                    return said
                found = [number for name in names if (number := vocabulary.find(name)) is not None]
                without = "" if key == "padding" else ", or '' to go without"
                if not found:
                    raise InputError(
                        f"tokenizer {path}: it has no {key} token (none of {', '.join(names)}): "
                        f"name one of its tokens as config.data.tokenizer.{key}{without}"
                    )
                number = found[0]
            elif override == "" and key != "padding":
                return ()
            elif (number := vocabulary.find(override)) is None:
                raise InputError(f"config.data.tokenizer.{key}={override!r} is no token of {path}")
            return number if key == "padding" else (number,)

        begin, end = chosen("begin", vocabularies.BEGIN), chosen("end", vocabularies.END)
        return Tokenizer(vocabulary, Specials(begin, end, chosen("padding", vocabularies.PADDING)))


class Tokenizer:
    """Text to token numbers: `begin`, the text's own, `end`, and `padding` to fill up.

    Args:
        vocabulary: gives the text's own.
        specials: the others, all of them stated.

    Attributes:
        begin: ids, one or none mostly.
        end: likewise.
        padding: the id that fills up.
    """

    def __init__(self, vocabulary: Vocabulary, specials: Specials) -> None:
        self._vocabulary, self._specials = vocabulary, specials
        self.begin, self.end, self.padding = specials.begin, specials.end, specials.padding
        self._own: dict[tuple[str, int], np.ndarray] = {}
        self._kept = 0

    def __reduce__(self) -> tuple:
        return Tokenizer, (self._vocabulary, self._specials)

    def __len__(self) -> int:
        """The number of ids, the special ones included."""
        return len(self._vocabulary)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Reads what `save` wrote, or a file that states its special tokens or has them by usual names.

        Raises:
            InputError: the file is missing, damaged, another kind of tokenizer, or lacks special tokens.
        """
        return File(os.fspath(path)).train()

    def content(self) -> str:
        """JSON: the `tokenizers` library's, or a sentencepiece model in it."""
        # Re-dumped with sorted keys: the library's order of the vocabulary is its own affair.
        return json.dumps(self._vocabulary.content(self._specials), ensure_ascii=False, sort_keys=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `content`, at once or not at all."""
        write_atomically(Path(path), self.content().encode())

    def encode(self, text: str, length: int, keep: bool = True) -> Int32[np.ndarray, " length"]:
        """`begin` tokens `end`, padded, or with its tokens cut to fit.

        Args:
            text: any string.
            length: ids wanted, begin and end included.
            keep: the text may come again, so that its tokens are worth keeping, as far as KEPT_BYTES reach.
        """
        return self.framed(self.own(text, length, keep), length)

    def own(self, text: str, length: int, keep: bool = True) -> Int32[np.ndarray, " n"]:
        """The text's own tokens, as many of them as `encode` has room for; not to be written to."""
        own = self._own.get((text, length)) if keep else None
        if own is None:
            own = np.array(self._vocabulary.ids(text)[: self._room(length)], np.int32)
            own.setflags(write=False)
            size = _ENTRY_BYTES + sys.getsizeof(text) + own.nbytes
            if keep and self._kept + size <= KEPT_BYTES:
                self._own[text, length] = own
                self._kept += size
        return own

    def framed(self, own: Sequence[int], length: int) -> Int32[np.ndarray, " length"]:
        """`begin` own tokens `end`, padded, or with their own tokens cut to fit."""
        tokens = [*self.begin, *own[: self._room(length)], *self.end][:length]
        encoded = np.full(length, self.padding, np.int32)
        encoded[: len(tokens)] = tokens
        return encoded

    def _room(self, length: int) -> int:
        return max(length - len(self.begin) - len(self.end), 0)

    def find(self, token: str) -> int | None:
        """The id of a token; None where there is none of this name."""
        return self._vocabulary.find(token)

    @functools.cached_property
    def ordinary(self) -> Int64[np.ndarray, " v"]:
        """The ids of all tokens that are not special."""
        special = {*self._vocabulary.special(), *self.begin, *self.end, self.padding}
        return np.setdiff1d(np.arange(len(self)), sorted(special))


def _read(path: Path) -> Vocabulary:
    try:
        return vocabularies.read(read_regular(path, _FILE_BYTES))
    except OSError as error:
        raise InputError(f"tokenizer {path}: cannot be read ({error.strerror})") from error
    except InputError as error:
        raise InputError(f"tokenizer {path}: {error}") from error
    except Exception as error:  # the libraries raise bare Exception
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"tokenizer {path}: damaged or of another kind ({reason})") from error


KINDS = {"bpe": BytePairs, "file": File}
