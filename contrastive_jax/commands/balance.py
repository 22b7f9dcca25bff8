"""`contrastive-jax data balance`: the keys of the records that match a list of entries, balanced."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from contrastive_jax.commands.output import answer
from contrastive_jax.errors import DONE, CommandError, InputError


def balance(options, stream: IO[str]) -> int:
    """The exit code of the command."""
    from contrastive_jax.data import curation
    from contrastive_jax.data.sources import open_source, with_keys
    from contrastive_jax.locking import write_atomically

    output = Path(options.output)
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}")
    if " + " in options.source:
        raise InputError(f"--source {options.source}: balance one source at a time; each has keys of its own")
    if re.search("[?&]exchange=", options.source):
        raise InputError(
            f"--source {options.source}: balance it without exchange=, which is drawn anew of what is left"
        )
    try:
        metadata = curation.entries_of(options.metadata)
    except InputError as error:
        raise InputError(f"--metadata {error}") from error
    source = open_source(options.source)
    keys = _keys(source, options.source)
    matches = curation.match(_texts(source, options.field.split(","), options.source), metadata)
    found = curation.counts(matches, len(metadata))
    kept = curation.balance(matches, found, options.cap, options.seed)
    if not kept.any():
        raise InputError(f"--metadata {options.metadata}: not one of its entries is in {options.source}")
    after = curation.counts([match for match, stays in zip(matches, kept) if stays], len(metadata))
    try:
        write_atomically(output, "".join(f"{keys[i]}\n" for i in np.flatnonzero(kept)).encode())
    except OSError as error:
        raise CommandError(f"--output {output}: {error.strerror or error}") from error
    figures: dict[str, Any] = {
        "source": options.source,
        "records": len(source),
        "matched": sum(map(bool, matches)),
        "kept": int(kept.sum()),
        "expected": round(float(curation.keep_probability(matches, found, options.cap).sum()), 2),
        "entries": len(metadata),
        "entries_matched": int((found > 0).sum()),
        "entries_over_cap": int((found > options.cap).sum()),
        "entropy_before": round(curation.entropy(found), 6),
        "entropy_after": round(curation.entropy(after), 6),
        "commonest": [metadata[entry] for entry in np.argsort(-found, kind="stable")[:5] if found[entry]],
        "balanced": with_keys(options.source, str(output)),
    }
    answer(stream, figures, options.json)
    return DONE


def _keys(source, spec: str) -> list[str]:
    """The keys of all records, each of which names one record and fits a line."""
    keys = [str(key) for key in source.column("key")]
    often = Counter(keys)
    for key in keys:
        if often[key] > 1 or not _fits_a_line(key):
            what = "stands there twice" if often[key] > 1 else "cannot stand in a line"
            raise InputError(
                f"--source {spec}: key {key!r} {what}, so that no list of keys can say what to keep; "
                "give the records keys of their own"
            )
    return keys


def _fits_a_line(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return bool(key) and key == key.strip() and len(key.splitlines()) == 1


def _texts(source, fields: Sequence[str], spec: str) -> Iterator[str]:
    """The text of all records: what stands in any of the fields, lists included."""
    from contrastive_jax.data import curation
    from contrastive_jax.data.selection import no_field

    columns = []
    for field in fields:
        try:
            columns.append(source.column(field))
        except KeyError:
            raise InputError(f"--field {field}: {no_field(source, field)}") from None
    return map(curation.together, zip(*columns))
