"""Queries with their relevant documents, from a folder in the layout of BEIR."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import files
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.lines import JSONLines
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class BEIR:
    """A random-access source of the (query, relevant document) pairs of one split.

    The folder holds ``corpus.jsonl`` and ``queries.jsonl`` (``_id``, ``text``, the documents ``title`` too)
    and ``qrels/SPLIT.tsv`` (query, document, grade; a header). Thakur et al. 2021, arXiv 2104.08663.

    A record is ``{"query", "document" (title and text), "title", "text", "query_id", "document_id",
    "grade": int, "query_number": int, "document_number": int (the same for equal ids), "key", "record"}``.
    Pairs of grade 0 and pairs whose query or document is not there or empty are left out. The split `titles`
    needs no judgements: its queries are the documents' titles, their documents the texts alone, and a
    document without a title is its own query (let the view take a span of it).

    Args:
        argument: ``FOLDER/SPLIT``. With ``corpus/LANG.jsonl`` instead of ``corpus.jsonl``, name the
            languages of query and document: ``FOLDER/SPLIT:en`` or ``FOLDER/SPLIT:en-de``.

    Raises:
        InputError: a file is missing or damaged, or no pair is left.
    """

    def __init__(self, argument: str) -> None:
        self.name, self._argument = f"beir:{argument}", argument
        folder, _, split = argument.rpartition("/")
        split, _, languages = split.partition(":")
        query_language, _, document_language = languages.partition("-")
        document_language = document_language or query_language
        try:
            self._documents = _texts(folder, "corpus", document_language)
            self._paths = [_path(folder, "corpus", document_language)]
            if split == "titles":
                self._queries = {
                    n: ("", title or text) for n, (title, text) in self._documents.items() if text
                }
                self._documents = {name: ("", self._documents[name][1]) for name in self._queries}
                judged = [(name, name, 1) for name in self._queries]
            else:
                self._queries = _texts(folder, "queries", query_language)
                self._paths += [_path(folder, "queries", query_language), f"{folder}/qrels/{split}.tsv"]
                judged = _judgements(self._paths[-1])
        except InputError as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        self._pairs = [
            (query, document, grade)
            for query, document, grade in judged
            if grade > 0 and any(self._queries.get(query, ())) and any(self._documents.get(document, ()))
        ]
        if not self._pairs:
            raise InputError(f"source {self.name!r}: no pair of a query and a document is left")
        self._numbers = [
            {name: n for n, name in enumerate(each)} for each in (self._queries, self._documents)
        ]

    def __reduce__(self) -> tuple[type[BEIR], tuple[str]]:
        return BEIR, (self._argument,)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One pair; IndexError where there is none of this number."""
        if not 0 <= index < len(self._pairs):
            raise IndexError(f"record {index} of {len(self._pairs)}")
        return {"record": index} | {name: make(self, *self._pairs[index]) for name, make in _FIELDS.items()}

    def contents(self) -> list[Contents]:
        """Its documents, queries and judgements."""
        return [of_files(self.name, len(self), self._paths)]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records; KeyError where there is none of this name."""
        if name == "record":
            return range(len(self)) if rows is None else rows
        pairs = self._pairs if rows is None else [self._pairs[row] for row in rows]
        return [_FIELDS[name](self, *pair) for pair in pairs]


_FIELDS: dict[str, Callable[[BEIR, str, str, int], Any]] = {
    "key": lambda beir, query, document, grade: f"{query}/{document}",
    "query": lambda beir, query, document, grade: beir._queries[query][1],
    "document": lambda beir, query, document, grade: " ".join(filter(None, beir._documents[document])),
    "title": lambda beir, query, document, grade: beir._documents[document][0],
    "text": lambda beir, query, document, grade: beir._documents[document][1],
    "query_id": lambda beir, query, document, grade: query,
    "document_id": lambda beir, query, document, grade: document,
    "query_number": lambda beir, query, document, grade: beir._numbers[0][query],
    "document_number": lambda beir, query, document, grade: beir._numbers[1][document],
    "grade": lambda beir, query, document, grade: grade,
}


def read_fields(path: str, fields: Sequence[str]) -> dict[str, list[str | None]]:
    """{`_id`: its fields, None where one is missing or null} of `corpus.jsonl` or `queries.jsonl`, in order.

    Raises:
        InputError: the file cannot be read; a line is no JSON object with an `_id`; a field is no text; an id
            occurs twice.
    """
    source = JSONLines(path)
    found: dict[str, list[str | None]] = {}
    for index in range(len(source)):
        try:
            record = source[index]
        except BrokenRecord as error:
            raise InputError(f"{path}: {error}") from error
        where = f"{path}, record {index + 1}"
        if record.get("_id") is None:
            there = ", ".join(sorted(record.keys() - {"key", "record"}))
            raise InputError(f"{where}: has no _id, which the judgements name, but {there}: call its id _id")
        name, values = str(record["_id"]), [record.get(field) for field in fields]
        if name in found:
            raise InputError(f"{path}: the _id {name!r} occurs more than once")
        for field, value in zip(fields, values):
            if not isinstance(value, str | None):
                raise InputError(f"{where}: {field!r} is {f'{value!r}':.60}, not a text")
        found[name] = values
    return found


def _texts(folder: str, what: str, language: str) -> dict[str, tuple[str, str]]:
    """{id: (title, text)}."""
    found = read_fields(_path(folder, what, language), ("title", "text"))
    return {name: ((title or "").strip(), (text or "").strip()) for name, (title, text) in found.items()}


def _path(folder: str, what: str, language: str) -> str:
    return f"{folder}/{what}/{language}.jsonl" if language else f"{folder}/{what}.jsonl"


def _judgements(path: str) -> list[tuple[str, str, int]]:
    try:
        lines = files.read(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({getattr(error, 'strerror', None) or error})") from error
    judged = []
    for number, row in enumerate(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
        try:
            query, document, grade = row
            judged.append((query, document, int(grade)))
        except ValueError:
            if number > 1 and row:
                raise InputError(f"{path}, line {number}: not a query, a document and a grade") from None
    return judged
