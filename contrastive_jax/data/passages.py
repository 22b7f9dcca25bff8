"""Documents with sections as a source of their passages: what pairs by structure are made of."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.contents import Contents
from contrastive_jax.data.curation import Entries
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sentences import sentences
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from contrastive_jax.data.records import Source

_REMEMBERED = 512  # documents whose sentences each process keeps
_CONTENT = ("sections", "text")


@dataclasses.dataclass(frozen=True)
class Index:
    """Where the passages are, and which documents name which.

    Attributes:
        documents: int64 [N], of each passage.
        numbers: int64 [N], which passage of its document.
        starts: int64 [D + 1], where the links of each document begin in `links`.
        links: int64 [L], the documents that it names, ascending.
        fields: the names of a record's fields.
    """

    documents: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    links: np.ndarray
    fields: tuple[str, ...]


class Passages:
    """The passages of a source of documents, as records.

    A document is ``{"title", "sections": [{"heading", "paragraphs": [...]}]}``, or ``{"title", "text"}``,
    which is one section, a paragraph a line. A passage is a run of whole sentences of one section: as many as
    have `words` words together, but two at least. A last sentence that would be left over goes to the
    passage before it; a section of one sentence has no passage.

    A record is ``{"key", "record", "document" (the document's key), "document_number", "title", "heading",
    "section" (its number), "passage" (the text), "sentences", "lead" (sentences of the document's first
    section), "links" (titles of the documents that this one names), "linked" (sentences of their first
    sections)}``, and the document's other fields. A document names another where the other's title stands in
    it as whole words (`curation.Entries`); a title that two documents have, or that is all in small letters,
    names none. With the views that draw from these (Chang et al. 2020, arXiv:2002.03932): a sentence of
    ``sentences`` with the rest is ICT, one of ``lead`` with ``passage`` is BFS, one of ``linked`` with
    ``passage`` is WLP, where a name stands for the hyperlink.

    Args:
        source: the documents. All of them are read once when it is opened.
        words: of a passage.
        index: what reading them found, where that is known already.

    Raises:
        InputError: a document has neither sections nor a text, or there is no passage.
    """

    def __init__(self, source: Source, words: int, index: Index | None = None) -> None:
        self.name = f"{source.name}?passages={words}"
        if words < 1:
            raise InputError(f"source {self.name!r}: passages={words} must be a number of words, 1 or more")
        self._source, self._words = source, words
        self._index = self._indexed() if index is None else index
        self._remembered: OrderedDict[int, tuple[dict[str, Any], list[dict[str, Any]], list[str]]]
        self._remembered = OrderedDict()

    def __reduce__(self) -> tuple[type[Passages], tuple[Any, ...]]:
        return Passages, (self._source, self._words, self._index)

    def __len__(self) -> int:
        return len(self._index.documents)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One passage; raises what its source does."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number, part = int(self._index.documents[index]), int(self._index.numbers[index])
        document, passages, lead = self._document(number)
        linked = [self._document(other) for other in self._links(number)]
        own = {name: value for name, value in document.items() if name not in _CONTENT}
        return own | {
            "key": f"{document['key']}/{part}",
            "record": index,
            "document": document["key"],
            "document_number": number,
            "title": _title(document),
            **passages[part],
            "lead": lead,
            "links": [_title(other) for other, _, _ in linked],
            "linked": [sentence for _, _, others in linked for sentence in others],
        }

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all passages. See `records.Source.column`."""
        rows = range(len(self)) if rows is None else rows
        if name == "record":
            return rows
        if name == "document_number":
            return self._index.documents[rows]
        if name not in self._index.fields:
            raise KeyError(name)
        values = []
        for index in rows:
            try:
                values.append(self[index].get(name, ""))
            except BrokenRecord:
                values.append("")
        return values

    def contents(self) -> list[Contents]:
        """What its source is made of, and how many passages that gives."""
        return [*self._source.contents(), Contents(self.name, len(self))]

    def _links(self, document: int) -> list[int]:
        start, end = self._index.starts[document : document + 2].tolist()
        return self._index.links[start:end].tolist()

    def _document(self, number: int) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
        """A document, its passages, and the sentences of its first section."""
        if number in self._remembered:
            self._remembered.move_to_end(number)
        else:
            document = self._source[number]
            sections = self._sections(number, document)
            passages = [made for section in sections for made in _passages(*section, self._words)]
            lead = next((section[2] for section in sections if section[2]), [])
            self._remembered[number] = document, passages, lead
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return self._remembered[number]

    def _sections(self, number: int, document: Mapping[str, Any]) -> list[tuple[int, str, list[str]]]:
        """(its number, its heading, its sentences) of each section."""
        try:
            if "sections" not in document:
                return [(0, "", sentences(document["text"]))]
            if any(isinstance(section["paragraphs"], str) for section in document["sections"]):
                raise TypeError("one text is no list of paragraphs")
            return [
                (
                    place,
                    section.get("heading") or "",
                    [s for p in section["paragraphs"] for s in sentences(p)],
                )
                for place, section in enumerate(document["sections"])
            ]
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                f"source {self.name!r}: record {number} is no document with 'sections', a list of "
                "{heading, paragraphs}, nor one with a 'text'"
            ) from None

    def _indexed(self) -> Index:
        documents, numbers, fields, links = [], [], {}, []
        self._remembered = OrderedDict()
        named = self._named()
        for number in range(len(self._source)):
            found: list[int] = []
            try:
                document, passages, _ = self._document(number)
            except BrokenRecord:
                passages = []
            else:
                fields |= dict.fromkeys(document)
                found = sorted({other for text in _texts(document) for other in named(text)} - {number})
            documents += [number] * len(passages)
            numbers += range(len(passages))
            links.append(found)
        if not documents:
            raise InputError(
                f"source {self.name!r}: no section of {len(self._source)} documents has two sentences"
            )
        starts = np.cumsum([0, *map(len, links)])
        own = [name for name in fields if name not in _CONTENT]
        every = dict.fromkeys([*own, *self._made_fields()])
        flat = np.array([other for found in links for other in found], np.int64)
        return Index(np.array(documents), np.array(numbers), starts, flat, tuple(every))

    def _named(self):
        """text -> the documents whose titles stand in it."""
        titles = []
        for number in range(len(self._source)):
            try:
                titles.append(_title(self._source[number]))
            except BrokenRecord:
                titles.append("")
        often = Counter(titles)
        return Entries([title if often[title] == 1 and _is_name(title) else "" for title in titles])

    @staticmethod
    def _made_fields() -> tuple[str, ...]:
        made = ("key", "record", "document", "document_number", "title", "heading", "section", "passage")
        return (*made, "sentences", "lead", "links", "linked")


def _passages(section: int, heading: str, found: list[str], words: int) -> Iterator[dict[str, Any]]:
    runs: list[list[str]] = [[]]
    for sentence in found:
        if len(runs[-1]) >= 2 and sum(len(s.split()) for s in [*runs[-1], sentence]) > words:
            runs.append([])
        runs[-1].append(sentence)
    if len(runs) > 1 and len(runs[-1]) == 1:
        last = runs.pop()
        runs[-1] += last
    for run in runs:
        if len(run) >= 2:
            yield {"heading": heading, "section": section, "passage": " ".join(run), "sentences": run}


def _title(document: Mapping[str, Any]) -> str:
    title = document.get("title")
    return title if isinstance(title, str) else ""


def _is_name(title: str) -> bool:
    return any(letter.isalnum() and not letter.islower() for letter in title)


def _texts(document: Mapping[str, Any]) -> list[str]:
    if "sections" not in document:
        return [document["text"]]
    return [paragraph for section in document["sections"] for paragraph in section["paragraphs"]]
