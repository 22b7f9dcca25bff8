"""The files that records name: bytes in the record, files below the folder, addresses that are allowed."""

from __future__ import annotations

import contextlib
import functools
import os
import urllib.parse

from contrastive_jax.configuration import nearest
from contrastive_jax.data.faults import Access, is_answer, reason_of, retried
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.remote import STORES, data_bytes, fetched, is_data, is_remote
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import Below, check_name, shown

LINKS = "links"
_ADVICE = "; ?allow=links behind the source allows that"


def allowed(text: str) -> tuple[str, ...]:
    """The names of an option ``allow=https,links``; InputError for one that is none."""
    names = tuple(name for name in text.split(",") if name)
    known = (*STORES, LINKS)
    for name in names:
        if name not in known:
            raise InputError(f"option allow={text!r}: {name!r} is no store to allow; {nearest(name, known)}")
    return names


class Named:
    """Reads what the records of one file name.

    Args:
        folder: of the file, local or remote. A name is relative and stays below it, or a ``data:`` URI.
        allow: stores (``https``) whose addresses may stand there as well; ``links``: of a local folder, links
            may leave it.
        access: see there.
    """

    def __init__(self, folder: str, allow: tuple[str, ...] = (), access: Access | None = None) -> None:
        self._folder, self._allow = folder, allow
        self._access = access or Access()
        self._local = not is_remote(folder)

    def read(self, name: str, listed: bool = False) -> bytes:
        """The bytes of a name.

        Args:
            listed: the folder had this name when it was listed: if it is gone, that is the store's fault.

        Raises:
            BrokenRecord: it is refused, nothing is there, or it is too large.
            StoreFault: it cannot be read.
        """
        try:
            if is_data(name):
                return data_bytes(name, self._access.file_bytes)
            if self._local and "://" not in name:
                with contextlib.suppress(OSError):
                    return self._below.read(name)
            read = self._reader(name)

            def settled(error: OSError) -> bool:
                return is_answer(error) and not (listed and self._gone(name, error))

            return retried(read, self._whole(name), self._access.retry_seconds, settled)
        except InputError as error:
            raise BrokenRecord(str(error)) from error
        except (OSError, ValueError) as error:
            raise BrokenRecord(f"{shown(name)} ({reason_of(error)})") from error

    def _reader(self, name: str):
        limit = self._access.file_bytes
        scheme, colon, _ = name.partition("://")
        if colon and "::" not in name and scheme.lower() in STORES:
            if scheme.lower() not in self._allow:
                raise InputError(
                    f"{shown(name)} is an address; write a name below the folder of the file, or allow it by "
                    f"?allow={scheme.lower()} behind the source"
                )
            address = f"{scheme.lower()}://{name[len(scheme) + 3 :]}"
            return lambda: fetched(address, limit, lambda to: self._may_lead_to(address, to))
        if self._local:
            return functools.partial(self._below.read, name)
        check_name(urllib.parse.unquote(name) if self._folder.startswith(("http://", "https://")) else name)
        address = self._whole(name)
        return lambda: fetched(address, limit, lambda to: self._may_lead_to(address, to))

    @functools.cached_property
    def _below(self) -> Below:
        limit, links = self._access.file_bytes, LINKS in self._allow
        return Below(self._folder or ".", links=links, limit=limit, advice=_ADVICE)

    def _may_lead_to(self, address: str, to: str) -> bool:
        here, there = urllib.parse.urlsplit(address), urllib.parse.urlsplit(to)
        same = (here.scheme, here.netloc) == (there.scheme, there.netloc)
        return same or there.scheme in self._allow

    def _whole(self, name: str) -> str:
        if "://" in name or is_data(name):
            return shown(name)
        return f"{self._folder}/{name}" if self._folder else name

    def _gone(self, name: str, error: OSError) -> bool:
        # A link that leads nowhere did so when it was listed.
        missing = isinstance(error, FileNotFoundError)
        return missing and (is_remote(self._folder) or not os.path.islink(self._whole(name)))
