"""Opens a source by the name that a config or a command line gives."""

from __future__ import annotations

import contextlib
import inspect
import re
from typing import TYPE_CHECKING, Any

from contrastive_jax.configuration import nearest
from contrastive_jax.data import drawn
from contrastive_jax.data.concatenation import Concatenation
from contrastive_jax.data.faults import Access
from contrastive_jax.data.selection import Kept, Renamed
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from contrastive_jax.data.records import Source

_CHARACTERS = "_characters"
_SUMS = "_sums"
_IN_FILES = ("arrayrecord", "beir", "csv", "folder", "jsonl", "parquet", "webdataset")
_COMMON = ("passages", "keep", "keys", "where", "tail", "part", "balance", "exchange", "rename")
_OPTIONS = re.compile(r"\?(\w+=[^?&]*(?:&\w+=[^?&]*)*)$")  # a glob's ? has no = behind it


def open_source(spec: str, access: Access | None = None) -> Source:
    """Opens ``kind:argument``, or several of them: ``kind:argument + kind:argument``.

    - ``webdataset:PATTERN``, ``arrayrecord:PATTERN``, ``parquet:PATTERN``, ``jsonl:PATTERN``,
      ``csv:PATTERN``: files by a path, a glob, braces (``{0000..0003}``) or a folder, local or in an object
      store (``s3://``, ``gs://``);
    - ``folder:PATH``: a folder of pictures, its subfolders being classes;
    - ``tfds:NAME/SPLIT``: a data set that TFDS has prepared as ArrayRecord;
    - ``beir:FOLDER/SPLIT``: the query and document pairs of a folder in BEIR's layout;
    - ``glyphs``, ``glyphs:held_out``, ``glyphs:all``: the embedded characters, a record a picture; with
      ``_characters`` behind (``glyphs:held_out_characters``) one picture a character;
    - ``docstrings:train`` (``held_out``, ``all``): functions of the installed Python packages;
    - ``digits:train`` (``held_out``, ``all``): scikit-learn's digits; with ``_sums`` behind
      (``digits:train_sums``) two of them a record, and the last digit of their sum.

    Options follow a question mark, divided by ``&``: ``?keep=title,text`` leaves out records in which one
    of the fields is missing or empty, ``?keys=FILE`` all but those whose keys the file lists, one a line,
    ``?where=lang:deu,checked:true`` all but those whose fields have these values; ``?tail=label:0.01`` makes
    the values of a field unequally frequent; ``?part=key:0:0.8`` takes the records whose value hashes there,
    ``?balance=text:20`` a part in which no word of a text drowns the others; ``?exchange=text:0.25`` gives
    that share of the records the text of another one; ``?rename=english:text`` gives a field another name;
    ``?passages=128`` makes a record of every passage of a document, before all of these. Others are those of
    the kind.

    Args:
        spec: see above.
        access: of a file that a record names, and how long a store that fails is tried again.

    Raises:
        InputError: an unknown kind, split or option, or files that cannot be read.
        StoreFault: a store that does not answer.
    """
    parts = [_open(part.strip(), access or Access()) for part in spec.split(" + ")]
    return parts[0] if len(parts) == 1 else Concatenation(parts)


def moved(one: str, other: str) -> bool:
    """Whether two specs ask for the same of files that lie in different places."""
    return [_placeless(part) for part in one.split(" + ")] == [
        _placeless(part) for part in other.split(" + ")
    ]


def _placeless(spec: str) -> tuple[str, str, list[str]]:
    found = _OPTIONS.search(spec)
    kind, _, argument = (spec[: found.start()] if found else spec).strip().partition(":")
    if kind in _IN_FILES:
        argument = argument.rpartition("/")[2] if kind == "beir" else ""
    options = sorted(found[1].split("&")) if found else []
    return kind, argument, ["keys" if option.startswith("keys=") else option for option in options]


def with_keys(spec: str, path: str) -> str:
    """The spec of those records of one source that a file lists, which are records of `spec` already."""
    found = _OPTIONS.search(spec)
    # A list of keys says what an earlier list, a tail and a balance have left.
    drawn_before = ("keys=", "tail=", "balance=")
    options = [o for o in found[1].split("&") if not o.startswith(drawn_before)] if found else []
    return f"{spec[: found.start()] if found else spec}?{'&'.join([*options, f'keys={path}'])}"


def _open(spec: str, access: Access) -> Source:
    found = _OPTIONS.search(spec)
    kind, _, argument = (spec[: found.start()] if found else spec).partition(":")
    options: dict[str, str] = {}
    for name, value in (each.split("=", 1) for each in found[1].split("&")) if found else ():
        if name in options:
            raise InputError(f"source {spec!r}: option {name!r} stands there twice; give it once")
        options[name] = value
    if kind not in KINDS:
        raise InputError(f"source {spec!r}: unknown kind {kind!r}; {nearest(kind, KINDS)}")
    common = {name: options.pop(name, "") for name in _COMMON}
    known = list(inspect.signature(KINDS[kind]).parameters)[1:]
    accessed = {"access": access} if "access" in known else {}
    known = [name for name in known if name not in accessed]
    for option in options:
        if option not in known:
            raise InputError(
                f"source {spec!r}: unknown option {option!r}; {nearest(option, [*known, *_COMMON])}"
            )
    source = KINDS[kind](argument, **options, **accessed)
    return _changed(source, **common)


def _changed(
    source: Source,
    passages: str,
    keep: str,
    keys: str,
    where: str,
    tail: str,
    part: str,
    balance: str,
    exchange: str,
    rename: str,
) -> Source:
    """What the common options make of a source, in this order."""
    if passages:
        source = _passages(source, passages)
    if keep or keys or where or tail:
        fields = [field for field in keep.split(",") if field]
        source = Kept(source, fields, keys, dict(_pairs("where", where)), _tail(tail))
    for option, make in ((part, drawn.part), (balance, drawn.balanced), (exchange, drawn.Exchanged.of)):
        if option:
            source = make(source, option)
    return Renamed(source, {new: own for own, new in _pairs("rename", rename)}) if rename else source


def _pairs(option: str, text: str) -> list[tuple[str, str]]:
    """[(a, b)] of ``a:b,...``."""
    pairs = [part.partition(":") for part in text.split(",") if part]
    for first, colon, second in pairs:
        if not first or not colon or (option == "rename" and not second):
            what = "OWN:NEW" if option == "rename" else "FIELD:VALUE"
            raise InputError(f"option {option}={text!r}: give {what}, several divided by commas")
    return [(first, second) for first, _, second in pairs]


def _passages(source: Source, words: str) -> Source:
    from contrastive_jax.data.passages import Passages

    if not (words.isascii() and words.isdigit()):
        raise InputError(f"option passages={words!r}: give the words of a passage, such as passages=128")
    return Passages(source, int(words))


def _tail(text: str) -> tuple[str, float] | None:
    """(field, ratio) of ``field:ratio``."""
    if not text:
        return None
    field, _, ratio = text.rpartition(":")
    with contextlib.suppress(ValueError):
        if field and 0 < float(ratio) <= 1:
            return field, float(ratio)
    raise InputError(f"option tail={text!r}: give FIELD:RATIO, of the rarest value to the commonest, up to 1")


def _split_of(kind: str, argument: str, known: list[str]) -> str:
    split = argument or "train"
    if split not in known:
        raise InputError(f"source '{kind}:{argument}': unknown split {split!r}; {nearest(split, known)}")
    return split


def _glyphs(argument: str) -> Source:
    from contrastive_jax.data.glyphs import SPLITS, Glyphs

    known = [split + ending for split in SPLITS for ending in ("", _CHARACTERS)]
    split = _split_of("glyphs", argument, known)
    return Glyphs(split.removesuffix(_CHARACTERS), one_per_character=split.endswith(_CHARACTERS))


def _docstrings(argument: str) -> Source:
    from contrastive_jax.data.docstrings import SPLITS, Docstrings

    return Docstrings(_split_of("docstrings", argument, list(SPLITS)))


def _digits(argument: str) -> Source:
    from contrastive_jax.data.digit_sums import DigitSums
    from contrastive_jax.data.digits import SPLITS, Digits

    known = [split + ending for split in SPLITS for ending in ("", _SUMS)]
    split = _split_of("digits", argument, known)
    return DigitSums(split.removesuffix(_SUMS)) if split.endswith(_SUMS) else Digits(split)


def _webdataset(argument: str, *, access: Access) -> Source:
    from contrastive_jax.data.webdataset import WebDataset

    return WebDataset(_path("webdataset", argument), access)


def _arrayrecord(argument: str, *, access: Access) -> Source:
    from contrastive_jax.data.arrayrecord import ArrayRecord

    return ArrayRecord(_path("arrayrecord", argument), access)


def _parquet(argument: str, columns: str = "", cache: str = "", allow: str = "", *, access: Access) -> Source:
    from contrastive_jax.data.parquet import Parquet

    return Parquet(_path("parquet", argument), columns, cache, allow, access)


def _jsonl(argument: str, image: str = "", allow: str = "", *, access: Access) -> Source:
    from contrastive_jax.data.lines import JSONLines

    return JSONLines(_path("jsonl", argument), image, allow, access)


def _csv(
    argument: str,
    image: str = "",
    allow: str = "",
    delimiter: str = "",
    quotes: str = "",
    *,
    access: Access,
) -> Source:
    from contrastive_jax.data.delimited import CSV

    return CSV(_path("csv", argument), image, allow, access, delimiter, quotes)


def _folder(argument: str, allow: str = "", *, access: Access) -> Source:
    from contrastive_jax.data.folders import Folder

    return Folder(_path("folder", argument), allow, access)


def _tfds(argument: str, data_dir: str = "") -> Source:
    from contrastive_jax.data.tfds import TFDS

    return TFDS(_path("tfds", argument, "NAME/SPLIT"), data_dir)


def _beir(argument: str) -> Source:
    from contrastive_jax.data.beir import BEIR

    return BEIR(_path("beir", argument, "FOLDER/SPLIT"))


def _path(kind: str, argument: str, what: str = "path") -> str:
    if not argument:
        raise InputError(f"source {kind!r} names no file; write {kind}:{what}")
    return argument


KINDS: dict[str, Callable[..., Any]] = {
    "arrayrecord": _arrayrecord,
    "beir": _beir,
    "csv": _csv,
    "digits": _digits,
    "docstrings": _docstrings,
    "folder": _folder,
    "glyphs": _glyphs,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "tfds": _tfds,
    "webdataset": _webdataset,
}
