"""Tokenizer files of the `tokenizers` and `sentencepiece` libraries: text to ids, and what they say of
their special tokens."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import string
from typing import TYPE_CHECKING, Any, Protocol

import tokenizers
from tokenizers import processors

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

BEGIN = ("[BOS]", "[CLS]", "<s>", "<|startoftext|>", "<bos>")
END = ("[EOS]", "[SEP]", "</s>", "<|endoftext|>", "<eos>")
PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")
MASK = ("[MASK]", "<mask>", "<|mask|>")
_MOST_GROWTH = 1 << 16
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MOST_IDS = 1 << 24
_TEMPLATES = {"TemplateProcessing", "BertProcessing", "RobertaProcessing"}


@dataclasses.dataclass(frozen=True)
class Specials:
    """What surrounds a text's tokens, as ids. None: the file does not say."""

    begin: tuple[int, ...] | None
    end: tuple[int, ...] | None
    padding: int | None


class Vocabulary(Protocol):
    """Text to token ids, without special tokens."""

    def __len__(self) -> int: ...

    def ids(self, text: str) -> list[int]: ...

    def find(self, token: str) -> int | None:
        """The id of a token."""
        ...

    def special(self) -> set[int]:
        """The ids that stand for no part of a text, as far as the file tells."""
        ...

    def stated(self) -> Specials:
        """What the file itself says."""
        ...

    def content(self, specials: Specials) -> dict[str, Any]:
        """JSON to keep, which states `specials`; `read` reads it."""
        ...


class Pieces:
    """A tokenizer of the `tokenizers` library."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        padding = (tokenizer.padding or {}).get("pad_id")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._stated = Specials(*_template(tokenizer), padding)
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The library's own; what is changed of it changes this."""
        return self._tokenizer

    def __reduce__(self) -> tuple:
        # By way of `content`, for padding was switched off.
        return read, (json.dumps(self.content(self._stated)).encode(),)

    def __len__(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def find(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)

    def special(self) -> set[int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return {number for number, token in added.items() if token.special}

    def stated(self) -> Specials:
        return self._stated

    def content(self, specials: Specials) -> dict[str, Any]:
        kept = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        if (specials.begin, specials.end) != (self._stated.begin, self._stated.end):
            begin, end = self._tokens(specials.begin), self._tokens(specials.end)
            known = {*zip(begin, specials.begin), *zip(end, specials.end)}
            kept.post_processor = processors.TemplateProcessing(
                single=[*begin, "$A", *end], special_tokens=sorted(known)
            )
        if specials.padding is not None:
            (token,) = self._tokens((specials.padding,))
            kept.enable_padding(pad_id=specials.padding, pad_token=token)
        return json.loads(kept.to_str())

    def _tokens(self, ids: Iterable[int]) -> list[str]:
        return [self._tokenizer.id_to_token(number) for number in ids]


class SentencePieces:
    """A model of the `sentencepiece` library.

    Its ids are the model's own: libraries that renumber them (fairseq's XLM-R moves them by one) keep a
    `tokenizer.json` beside it, which is then the file to use.
    """

    def __init__(self, model: bytes, specials: Specials | None = None, canonical: bool = False) -> None:
        """canonical: texts lose punctuation and capitals first, as those of SigLIP's tokenizer do."""
        try:
            import sentencepiece
        except ImportError:
            raise InputError(
                "it is a sentencepiece model, and sentencepiece is not installed: "
                "pip install 'contrastive-jax[text]'"
            ) from None
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        named = (self._processor.bos_id(), self._processor.eos_id(), self._processor.pad_id())
        begin, end, padding = (None if number < 0 else number for number in named)
        own = Specials(None if begin is None else (begin,), None if end is None else (end,), padding)
        self._stated, self._canonical = specials or own, canonical

    def __reduce__(self) -> tuple:
        return SentencePieces, (self._model, self._stated, self._canonical)

    def canonical(self) -> SentencePieces:
        """The same for texts without punctuation and capitals."""
        return SentencePieces(self._model, self._stated, canonical=True)

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def ids(self, text: str) -> list[int]:
        if self._canonical:
            text = " ".join(text.lower().translate(_NO_PUNCTUATION).split())
        return self._processor.encode(text)

    def find(self, token: str) -> int | None:
        number = self._processor.piece_to_id(token)
        return number if self._processor.id_to_piece(number) == token else None

    def special(self) -> set[int]:
        kinds = (self._processor.is_control, self._processor.is_unknown, self._processor.is_unused)
        return {number for number in range(len(self)) if any(kind(number) for kind in kinds)}

    def stated(self) -> Specials:
        return self._stated

    def content(self, specials: Specials) -> dict[str, Any]:
        kept = {"sentencepiece": base64.b64encode(self._model).decode(), **dataclasses.asdict(specials)}
        return kept | ({"canonical": True} if self._canonical else {})


def read(content: bytes) -> Vocabulary:
    """The vocabulary of a file: a `tokenizers` JSON, a sentencepiece model, or what `content` made.

    Raises:
        Exception: it is none of these; the libraries raise whatever they like.
    """
    if not content.lstrip().startswith(b"{"):
        if not content:
            raise ValueError("it is empty")
        return SentencePieces(content)
    text = content.decode()
    kept = json.loads(text)
    if "sentencepiece" not in kept:
        if (largest := _largest_id(kept)) >= _MOST_IDS:
            raise InputError(f"it has the id {largest}, and at most {_MOST_IDS:,} ids are read")
        if _growth(kept.get("normalizer")) > _MOST_GROWTH:
            raise InputError(f"its normalizer may make a text more than {_MOST_GROWTH:,} times as long")
        return Pieces(tokenizers.Tokenizer.from_str(text))
    specials = Specials(tuple(kept["begin"]), tuple(kept["end"]), kept["padding"])
    return SentencePieces(base64.b64decode(kept["sentencepiece"]), specials, kept.get("canonical") is True)


def _largest_id(kept: dict[str, Any]) -> int:
    """The library makes lists as long as the largest id."""
    vocabulary = (kept.get("model") or {}).get("vocab")
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    return max([0, *ids, *(token["id"] for token in kept.get("added_tokens") or ())])


def _growth(step: Any) -> float:
    """How many times as long a normalizer may make a text, at most."""
    if not isinstance(step, dict):
        return 1
    if step.get("type") == "Sequence":
        return math.prod(map(_growth, step.get("normalizers") or ()))
    if step.get("type") == "Replace":
        literal, put = (step.get("pattern") or {}).get("String"), len(step.get("content") or "")
        return max(put / len(literal), 1) if literal else put + 1  # an expression may match between letters
    return 1


def _template(tokenizer: tokenizers.Tokenizer) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """What the file's post-processor puts before and behind a text; Nones where it has no such thing."""
    processor = json.loads(tokenizer.to_str())["post_processor"] or {}
    kinds = {part["type"] for part in (processor, *processor.get("processors", ())) if part}
    if kinds & _TEMPLATES:
        for text in ("a", "the", "1", "."):
            # The template is seen at work, whatever form it is written in.
            encoding = tokenizer.encode(text)
            own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
            if own:
                return tuple(encoding.ids[: own[0]]), tuple(encoding.ids[own[-1] + 1 :])
    return None, None
