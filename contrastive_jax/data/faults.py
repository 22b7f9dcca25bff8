"""Faults of the store that data lie in: tried again for a while, and then the end of the command.

A record whose bytes came and are bad is the data's own fault, and the same whenever it is read: it is broken
and another takes its place. Bytes that do not come say nothing of the record. To replace it would make a
batch depend on the weather.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import random
import time
from typing import TYPE_CHECKING, TypeVar

from contrastive_jax.errors import CommandError, InputError
from contrastive_jax.named_files import FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

_log = logging.getLogger(__name__)
RETRY_SECONDS = 60.0  # a server that is started anew takes about so long
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds
_SHOWN = 160  # characters of a reason
# What the file system answers of a name, today as tomorrow.
_ANSWERS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
_PASSING = (
    *(errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE),
    *(errno.ECONNABORTED, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN),
    *(errno.EREMOTEIO, errno.ESHUTDOWN),
)
# By name, of libraries that need not be here: botocore, requests, aiohttp, fsspec, httpx, azure.
_PASSING_KINDS = frozenset(
    (
        *("ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError"),
        *("FSTimeoutError", "TransportError", "ServiceRequestError", "ServiceResponseError"),
    )
)
_PASSING_STATUS = (408, 425, 429)


class StoreFault(CommandError):  # noqa: N818
    """The store does not give what is in it; one line that names the file. A restart may cure it."""


@dataclasses.dataclass(frozen=True)
class Access:
    """file_bytes: of a file that a record names; retry_seconds: how long a failing store is tried again."""

    file_bytes: int = FILE_BYTES
    retry_seconds: float = RETRY_SECONDS


@contextlib.contextmanager
def as_os_error(path: str) -> Iterator[None]:
    """What a store or a format's library raises, of whatever kind, as OSError."""
    try:
        yield
    except (OSError, InputError, MemoryError, CommandError):
        raise
    except Exception as error:  # every store has errors of its own
        reason = " ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]])
        raise OSError(f"{path}: {reason}") from error


def is_answer(error: OSError) -> bool:
    """Whether it says that nothing of this name can be there."""
    return isinstance(error, FileNotFoundError) or error.errno in _ANSWERS


def is_passing(error: BaseException) -> bool:
    """Whether it is of a kind that passes: of a network, a disk, or a server that is overloaded."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    codes = (getattr(error, name, None) for name in ("status", "code", "status_code"))
    if isinstance(error, (ConnectionError, TimeoutError)) or kinds & _PASSING_KINDS:
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    if any(isinstance(c, int) and (c in _PASSING_STATUS or 500 <= c < 600) for c in codes):
        return True
    return error.__cause__ is not None and is_passing(error.__cause__)


def reason_of(error: BaseException, path: str = "") -> str:
    """Why, in a few words; without the path, which the message names already."""
    text = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0] or type(error).__name__
    text = text.removeprefix(f"{path}: ")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def fault(path: str, error: BaseException) -> StoreFault:
    """The end of a command because of a file."""
    return StoreFault(
        f"{path} cannot be read ({reason_of(error, path)}): run the same command again to go on"
    )


@contextlib.contextmanager
def naming(source: str, indices: Sequence[int], *kinds: type[Exception]) -> Iterator[None]:
    """Puts the source and the numbers of the records before what a StoreFault, or one of `kinds`, says."""
    try:
        yield
    except (StoreFault, *kinds) as error:
        where = f"{source}, record {', '.join(map(str, indices))}"
        raise type(error)(f"{where}: {error}") from error


def retried(
    read: Callable[[], T],
    path: str,
    seconds: float,
    settled: Callable[[OSError], bool] = lambda error: False,
) -> T:
    """`read()`, again after 0.1 s, 0.2 s, 0.4 s, ... (5 s at most) as long as it fails.

    Args:
        path: of the file, for messages.
        seconds: after which it is given up.
        settled: which errors are an answer: raised at once. None by default.

    Raises:
        StoreFault: it has failed for so long.
        OSError: one that is settled.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            with as_os_error(path):
                return read()
        except OSError as error:
            if settled(error):
                raise
            left = deadline - time.monotonic()
            if left <= 0:
                raise fault(path, error) from error
            level = logging.WARNING if pause == _FIRST_PAUSE else logging.DEBUG
            why = reason_of(error, path)
            _log.log(level, "%s cannot be read (%s); trying again for %g s", path, why, seconds)
        # Not all workers of all hosts at the same moment.
        time.sleep(min(left, pause * random.uniform(0.5, 1)))
        pause = min(2 * pause, _LONGEST_PAUSE)


def asked(ask: Callable[[], T], path: str, seconds: float | None = None) -> T:
    """What a store answers: OSError where it says no, StoreFault where it says nothing for a minute."""
    seconds = RETRY_SECONDS if seconds is None else seconds
    return retried(ask, path, seconds, settled=lambda error: not is_passing(error))
