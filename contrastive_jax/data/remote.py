"""Addresses of object stores and web servers: which are opened, and what is fetched of them at most."""

from __future__ import annotations

import base64
import binascii
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from contrastive_jax.errors import InputError
from contrastive_jax.named_files import shown

if TYPE_CHECKING:
    from collections.abc import Callable

# Stores that hold bytes and nothing else. Other protocols of fsspec unpack archives, run programs or open
# further addresses that stand in a file.
STORES = (
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf"),
    *("hdfs", "webhdfs", "sftp", "ssh", "http", "https", "memory"),
)
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://")
_CHAINED = re.compile(r"[A-Za-z][\w+.-]*(://.*)?::")
_WEB = ("http", "https")
_ANSWER_SECONDS, _FETCH_SECONDS = 30.0, 120.0
_NOT_THERE = (400, 404, 410, 414)
_PIECE = 1 << 20
_SHOWN = 60  # characters of a server's reason


def is_remote(path: str) -> bool:
    """Whether a path is an address such as ``s3://bucket/name``."""
    return bool(_REMOTE.match(path))


def check_address(path: str) -> None:
    """Raises InputError for a path that chains protocols, or names one that is no store."""
    if _CHAINED.match(path) and "://" in path:
        raise InputError(f"{shown(path)} chains protocols, which are not opened: give one store's address")
    if is_remote(path) and (protocol := path.partition("://")[0]) not in STORES:
        raise InputError(f"{shown(path)}: {protocol} is none of the stores {', '.join(STORES)}")


def filesystem(path: str) -> Any:
    """The fsspec file system of a remote path (fsspec keeps one for each process).

    Raises:
        InputError: its library is not installed, or it is no address of one store.
    """
    import fsspec.core

    if "::" in path:
        raise InputError(f"{shown(path)}: an address with '::' in it is not opened")
    check_address(path)
    try:
        return fsspec.core.url_to_fs(path)[0]  # an address may name a host, which is the file system's
    except ImportError as error:
        raise InputError(f"{path}: {error}; pip install 'contrastive-jax[remote]'") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def fetched(address: str, limit: int, may_lead_to: Callable[[str], bool]) -> bytes:
    """What lies at the address, in one request.

    Args:
        address: of a store.
        limit: bytes at most.
        may_lead_to: whether a web server may send on to an address.

    Raises:
        InputError: there is more than that, or it leads elsewhere.
        FileNotFoundError: nothing is there.
        OSError: it cannot be read.
    """
    if address.partition("://")[0] in _WEB:
        content = _from_the_web(address, limit, may_lead_to)
    else:
        content = _from_a_store(address, limit)
    if len(content) > limit:
        raise InputError(f"{shown(address)} has more than {limit} bytes")
    return content


def _from_a_store(address: str, limit: int) -> bytes:
    system = filesystem(address)
    try:
        return system.cat_file(address, start=0, end=limit + 1)
    except FileNotFoundError:
        raise
    except Exception:
        if system.info(address)["size"] == 0:  # of nothing there is no range
            return b""
        raise


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, may_lead_to: Callable[[str], bool]) -> None:
        self._may_lead_to = may_lead_to

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not self._may_lead_to(newurl):
            raise InputError(f"{shown(req.full_url)} leads to {shown(newurl)}, which is not allowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _from_the_web(address: str, limit: int, may_lead_to: Callable[[str], bool]) -> bytes:
    opener = urllib.request.OpenerDirector()  # `build_opener` would add handlers of files and FTP
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(may_lead_to),
    ):
        opener.add_handler(handler)
    deadline, pieces, size = time.monotonic() + _FETCH_SECONDS, [], 0
    try:
        quoted = urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]")
        with opener.open(quoted, timeout=_ANSWER_SECONDS) as answer:
            said = int(answer.headers.get("Content-Length") or 0)
            while size <= limit and (piece := answer.read1(min(_PIECE, limit + 1 - size))):
                pieces.append(piece)
                size += len(piece)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{size} bytes came in {_FETCH_SECONDS:g} s")
    except urllib.error.HTTPError as error:
        with error:
            says = f"the server answers {error.code} {str(error.reason)[:_SHOWN]}"
            if error.code in _NOT_THERE or error.code < 400:  # it leads round in a circle
                raise FileNotFoundError(2, says) from error
            raise OSError(says) from error
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error
    except (http.client.HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from error
    if size < min(said, limit + 1):
        raise OSError(f"{size} bytes came of {said}")
    return b"".join(pieces)


def is_data(name: str) -> bool:
    """Whether a name is none, but the bytes themselves: ``data:image/png;base64,...`` (RFC 2397)."""
    return name[:5].lower() == "data:"


def data_bytes(uri: str, limit: int) -> bytes:
    """The bytes that a ``data:`` URI holds; InputError for a damaged one, or more bytes than `limit`."""
    head, comma, body = uri[5:].partition(",")
    if not comma:
        raise InputError(f"{shown(uri)} has no comma before its bytes")
    if len(body) > 3 * (limit + 1):  # as %00
        raise InputError(f"{shown(uri)} has more than {limit} bytes")
    content = urllib.parse.unquote_to_bytes(body)
    if head.lower().endswith(";base64"):
        content = b"".join(content.split())
        try:
            content = base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
        except binascii.Error as error:
            raise InputError(f"{shown(uri)} is no base64 ({error})") from error
    if len(content) > limit:
        raise InputError(f"{shown(uri)} has more than {limit} bytes")
    return content
