"""What a pattern of files means: the names of its braces, and the files below a folder, within bounds."""

from __future__ import annotations

import collections
import itertools
import os
import re
from typing import TYPE_CHECKING

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_DIGITS = 18  # of a number in braces
_MOST_NAMES = 1_000_000  # that braces stand for
_VISITS = 16  # of one folder, by different links


def expanded(pattern: str) -> list[str]:
    """The names that braces mean: ``{0000..0003}``, ``{a,b}``, and their products.

    Raises:
        InputError: they are more than a million.
    """
    parts = _BRACES.split(pattern)  # text, inside, text, inside, ..., text
    choices: list[Iterable[str]] = [[parts[0]]]
    count = 1
    for inside, text in zip(parts[1::2], parts[2::2]):
        ends = _RANGE.fullmatch(inside)
        if ends and max(map(len, ends.groups())) > _DIGITS:
            raise InputError(f"{pattern[:100]}: a number of the range is longer than {_DIGITS} digits")
        if ends:
            numbers, width = range(int(ends[1]), int(ends[2]) + 1), len(ends[1])
            count *= len(numbers)
            choices += [map(f"{{:0{width}d}}".format, numbers), [text]]
        else:
            names = inside.split(",") if "," in inside else [f"{{{inside}}}"]
            count *= len(names)
            choices += [names, [text]]
        if not count:
            return []
        if count > _MOST_NAMES:  # before any name is made
            raise InputError(
                f"{pattern[:100]} means {count:,} files, and at most {_MOST_NAMES:,} are looked for; "
                "give a smaller range, or a glob"
            )
    return ["".join(choice) for choice in itertools.product(*choices)]


def walked(folder: str, links: bool = True, strict: bool = False) -> Iterator[str]:
    """The files below a folder, without hidden ones.

    Args:
        folder: to look into.
        links: whether to look behind links to folders too; they may go in circles.
        strict: raise OSError for a folder that cannot be read, in place of passing it over.
    """
    yield from _walked(folder, links, strict, frozenset(), collections.Counter())


def _walked(
    folder: str, links: bool, strict: bool, above: frozenset[str], visits: collections.Counter[str]
) -> Iterator[str]:
    real = os.path.realpath(folder)
    visits[real] += 1
    if real in above or visits[real] > _VISITS:
        return
    try:
        with os.scandir(folder) as entries:
            seen = [each for each in entries if not each.name.startswith(".")]
            there = [(each.path, each.is_dir(), links or not each.is_symlink()) for each in seen]
    except OSError:
        if strict:
            raise
        return
    for path, is_folder, enter in there:
        if not is_folder:
            yield path
        elif enter:
            yield from _walked(path, links, strict, above | {real}, visits)
