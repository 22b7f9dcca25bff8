"""A query that a person gives: what it is, which branch embeds it, and which one what is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.configuration import nearest
from contrastive_jax.data.pictures import PICTURES, as_array, look
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from contrastive_jax.branches import Branch

_SIDE = 1024
_ENDINGS = tuple(f".{ending}" for ending in sorted(PICTURES))


@dataclass(frozen=True)
class Picture:
    """An encoded picture."""

    content: bytes

    def under(self, view: Any) -> Any:
        """What the view reads of a record; ink on paper for a view of glyphs."""
        if not isinstance(view, Glyph):
            return self.content
        grey = np.asarray(as_array(self.content, _SIDE)).mean(axis=2)
        paper = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
        return np.asarray(255 - grey if paper > 127 else grey, np.uint8)


def picture_of(query: str) -> Picture | None:
    """The picture whose path the query is; None for a text.

    Raises:
        InputError: the path ends like a picture's and none can be read there.
    """
    looks_like_one = query.lower().endswith(_ENDINGS)
    path = Path(query)
    try:
        if len(query) > 4096 or not path.is_file():
            if looks_like_one and " " not in query:
                raise InputError(f"query {query}: no such file")
            return None
        content = path.read_bytes()
        look(content)
    except (OSError, ValueError) as error:
        if isinstance(error, BrokenRecord):
            if not looks_like_one:
                return None
            raise InputError(f"query {query}: {error}") from error
        if isinstance(error, InputError):
            raise
        if not looks_like_one:
            return None
        raise InputError(f"query {query}: it cannot be read ({error})") from error
    return Picture(content)


def choose_branches(
    branches: Mapping[str, Branch],
    views: Mapping[str, Any],
    pairs: Sequence[Sequence[str]],
    picture: bool,
    query: str | None = None,
    records: str | None = None,
) -> tuple[str, str]:
    """The branch that embeds the query and the one that embeds the records, where they are not given.

    The query's is the one that reads texts (or pictures); of several, the first that an evaluator names
    first. The records' is what that evaluator compares it with, or the only other one there is. Where one
    that is given is cut to its first N numbers, `branch@N`, so is the other one.

    Args:
        pairs: the branches of each evaluator.
        picture: whether the query is one; else it is a text.
        query: --query-branch.
        records: --branch.

    Raises:
        InputError: an unknown branch, one that reads something else, or several that might be meant.
    """
    what = "pictures" if picture else "texts"
    able = [name for name, b in branches.items() if isinstance(views[b.view], Text) != picture]
    for flag, name in (("--query-branch", query), ("--branch", records)):
        if name is not None and _branch(name) not in branches:
            raise InputError(f"{flag} {name}: unknown; {nearest(name, branches)}")
    if not able:
        raise InputError(f"the query is one of {what}, and no branch of the run reads {what}")
    cut = next((name[name.index("@") :] for name in (records, query) if name and "@" in name), "")
    if query is None:
        query = _query_branch(able, pairs, records and records.partition("@")[0], what) + cut
    if _branch(query) not in able:
        raise InputError(f"--query-branch {query}: it reads no {what}; {', '.join(able)} would")
    if records is None:
        records = _records_branch(branches, pairs, query.partition("@")[0]) + cut
    elif "@" in records and "@" not in query:
        query += cut
    return query, records


def _query_branch(able: Sequence[str], pairs: Sequence[Sequence[str]], records: str | None, what: str) -> str:
    first = [
        pair[0] for pair in pairs if len(pair) == 2 and pair[0] in able and pair[1] == (records or pair[1])
    ]
    query = able[0] if len(able) == 1 else next(iter(first), None)
    if query is None:
        raise InputError(f"--query-branch: give one of those that read {what}: {', '.join(able)}")
    return query


def _records_branch(branches: Mapping[str, Branch], pairs: Sequence[Sequence[str]], query: str) -> str:
    partners = [
        next(b for b in pair if b != query) for pair in pairs if len(set(pair)) == 2 and query in pair
    ]
    others = [name for name in branches if name != query] or [query]
    records = partners[0] if partners else others[0] if len(others) == 1 else None
    if records is None:
        raise InputError(f"--branch: give the one that embeds the records: {', '.join(others)}")
    return records


def _branch(name: str) -> str:
    """The branch of `branch`, `branch.stage` or either with `@64` behind it."""
    return name.partition("@")[0].partition(".")[0]
