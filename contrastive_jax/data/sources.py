"""Opens a source by the name that a config or a command line gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from contrastive_jax.data.records import Source

_CHARACTERS = "_characters"


def open_source(spec: str, **keywords: Any) -> Source:
    """Opens ``kind:argument``.

    - ``glyphs`` or ``glyphs:train``, ``glyphs:held_out``, ``glyphs:all``: the embedded characters, a
      record a picture; with ``_characters`` behind (``glyphs:held_out_characters``) one picture a
      character.
    - ``jsonl:path``: pictures and captions listed in a JSON-lines file.

    Args:
        spec: the kind, and after a colon what it opens.
        keywords: handed to the source's constructor.

    Raises:
        InputError: an unknown kind or split, or a file that cannot be read.
    """
    kind, _, argument = spec.partition(":")
    if kind not in KINDS:
        raise InputError(f"source {spec!r}: unknown kind {kind!r}; {nearest(kind, KINDS)}")
    return KINDS[kind](argument, **keywords)


def _glyphs(argument: str, **keywords: Any) -> Source:
    from contrastive_jax.data.glyphs import SPLITS, Glyphs

    split = argument or "train"
    known = [split + ending for split in SPLITS for ending in ("", _CHARACTERS)]
    if split not in known:
        raise InputError(f"source 'glyphs:{argument}': unknown split {split!r}; {nearest(split, known)}")
    if split.endswith(_CHARACTERS):
        keywords["one_per_character"] = True
    return Glyphs(split.removesuffix(_CHARACTERS), **keywords)


def _jsonl(argument: str, **keywords: Any) -> Source:
    from contrastive_jax.data.captions import Captions

    if not argument:
        raise InputError("source 'jsonl' names no file; write jsonl:path")
    return Captions(argument, **keywords)


KINDS: dict[str, Callable[..., Source]] = {"glyphs": _glyphs, "jsonl": _jsonl}
