"""The texts that a tokenizer is learnt from: those of all records, or of some from everywhere."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.streams import Streams
from contrastive_jax.data.views.text import strings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contrastive_jax.data.records import Source

_log = logging.getLogger(__name__)
_RUN = 256  # records side by side, which cost little more to read than one
_PIECE = 1 << 14  # records whose texts are in memory together
_SECONDS_BETWEEN_LINES = 10.0


def captions(source: Source, fields: Sequence[str], most: int, seed: int) -> Iterator[str]:
    """The texts in some fields of `most` records, a piece at a time; of all records where there are no more.

    Which ones is a function of the seed and the number of records: runs of 256, one from each of as many
    equal stretches of the source. No other record is read.

    Args:
        source: of the records.
        fields: that hold strings, or lists of them.
        most: records.
        seed: 0 <= seed < 2**63.
    """
    count, began = len(source), time.monotonic()
    told, read, wanted = began, 0, min(most, count)
    if wanted < count:
        _log.info("the tokenizer is learnt from the texts of %s of %s records", f"{wanted:,}", f"{count:,}")
    for rows in _pieces(count, most, seed):
        for field in fields:
            try:
                values = source.column(field, rows)
            except KeyError:  # of these records
                continue
            yield from strings(values)
        read += len(rows)
        if time.monotonic() > told + _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            _log.info("for the tokenizer: read the texts of %s of %s records", f"{read:,}", f"{wanted:,}")
    if told > began:
        _log.info("for the tokenizer: all read in %.0f s; now its merges", time.monotonic() - began)


def _pieces(count: int, most: int, seed: int) -> Iterator[Sequence[int]]:
    """The numbers of the records, ascending."""
    if count <= most:
        for start in range(0, count, _PIECE):
            yield range(start, min(start + _PIECE, count))
        return
    runs = -(-most // _RUN)
    ends, shares = (np.arange(runs + 1) * total // runs for total in (count, most))
    sizes = np.diff(ends)
    lengths = np.minimum(np.diff(shares), sizes)
    firsts = (Streams(seed, "captions").at(0, 0).random(runs) * sizes).astype(np.int64)
    for run in range(0, runs, _PIECE // _RUN):
        some = slice(run, run + _PIECE // _RUN)
        each = zip(*(values[some].tolist() for values in (ends[:-1], sizes, firsts, lengths)))
        # A run that reaches the end of its stretch goes on at the beginning: so all are drawn alike.
        yield [
            start + place
            for start, size, first, length in each
            for place in sorted((first + step) % size for step in range(length))
        ]
