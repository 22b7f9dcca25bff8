"""Reading a test collection in BEIR's layout: documents, queries, and which answers which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from contrastive_jax.data.beir import read_fields
from contrastive_jax.data.files import read
from contrastive_jax.errors import InputError


class Texts(NamedTuple):
    """Ids and what they stand for, in the order of the file."""

    ids: list[str]
    texts: list[str]


def read_texts(path: str, fields: Sequence[str]) -> Texts:
    """The records of `corpus.jsonl` or `queries.jsonl`: `_id`, and the fields joined by a blank.

    A field of a field is `metadata.code`; one that is missing or null counts as empty.

    Raises InputError for a file that cannot be read, a line that is no JSON object with an `_id`, a field
    that is no text or that no record has, or an id that occurs twice.
    """
    found = read_fields(path, fields)
    if all(part is None for parts in found.values() for part in parts):
        raise InputError(f"{path}: no record has any of the fields {', '.join(fields)}")
    texts = [" ".join(part.strip() for part in parts if part and part.strip()) for parts in found.values()]
    return Texts(list(found), texts)


def read_qrels(path: str) -> dict[str, dict[str, int]]:
    """{query id: {document id: grade}} of `qrels/SPLIT.tsv`; a first line without a grade is a header.

    Raises InputError for a file that cannot be read, a line that is not three columns with a whole number
    last, or no judgement at all.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        columns = line.rstrip("\r\n").split("\t")
        try:
            query, document, grade = columns
            qrels.setdefault(query, {})[document] = int(grade)
        except ValueError:
            if number == 1 and len(columns) == 3:
                continue
            raise InputError(
                f"{path}, line {number}: not query, document and a whole number between tabs: {line[:60]!r}"
            ) from None
    qrels = {query: answers for query, answers in qrels.items() if answers}
    if not qrels:
        raise InputError(f"{path}: holds no judgement")
    return qrels


def judged(queries: Texts, qrels: dict[str, dict[str, int]], path: str) -> Texts:
    """The queries that have judgements, in the order of their file.

    Raises InputError for a judgement of a query that is not there.
    """
    known = dict(zip(*queries))
    missing = next((query for query in qrels if query not in known), None)
    if missing is not None:
        raise InputError(f"{path}: judges the query {missing!r}, which is not among the queries")
    return Texts(*map(list, zip(*((i, text) for i, text in zip(*queries) if i in qrels))))


def _lines(path: str) -> Iterator[tuple[int, str]]:
    try:
        content = read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield number, line
