"""A record as bytes: a JSON header that describes itself, and the raw bytes of pictures and arrays behind it.

    b"cjr1", length of the header (uint32, little endian), header (JSON, UTF-8), bytes of each binary field

The header is ``{"values": {field: JSON}, "bytes": [[field, length]], "arrays": [[field, dtype, shape]]}``.
Nothing in it can be executed, any language can read it, and a damaged one is found out.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"cjr1"
_START = struct.Struct("<4sI")
_DTYPE = re.compile(r"[<|][biufc][0-9]{1,2}")


def encode(record: Mapping[str, Any]) -> bytes:
    """The bytes that `decode` makes the same record of.

    Numbers of numpy become Python's, dates their ISO text, decimals their text.

    Args:
        record: fields that are JSON (lists and objects too), bytes, or arrays of numbers.

    Raises:
        InputError: a field is of another type.
    """
    values: dict[str, Any] = {}
    raw: list[list[Any]] = []
    arrays: list[list[Any]] = []
    first, second = [], []
    for field, value in record.items():
        if isinstance(value, (bytes, bytearray, memoryview)):
            raw.append([field, len(value)])
            first.append(bytes(value))
        elif isinstance(value, np.ndarray):
            value = value.astype(value.dtype.newbyteorder("<"), copy=False)
            if not _DTYPE.fullmatch(value.dtype.str):
                raise InputError(f"field {field!r}: an array of {value.dtype} cannot be written")
            arrays.append([field, value.dtype.str, list(value.shape)])
            second.append(value.tobytes())
        else:
            values[field] = value
    header = _json({"values": values, "bytes": raw, "arrays": arrays})
    return b"".join([_START.pack(MAGIC, len(header)), header, *first, *second])


def _json(header: dict[str, Any]) -> bytes:
    try:
        return json.dumps(header, ensure_ascii=False, separators=(",", ":"), default=_plain).encode(
            "utf-8", "surrogatepass"
        )
    except (TypeError, ValueError) as error:
        for field, value in header["values"].items():
            try:
                json.dumps(value, default=_plain)
            except (TypeError, ValueError):
                raise InputError(f"field {field!r}: a {type(value).__name__} cannot be written") from None
        raise InputError(f"a record cannot be written ({error})") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


def decode(content: bytes) -> dict[str, Any]:
    """The record that `encode` wrote; arrays are read-only views of `content`.

    Raises:
        BrokenRecord: the bytes are something else, torn or longer than they say.
    """
    header, start = _header(content)
    record = header["values"]
    try:
        for field, length in header["bytes"]:
            record[field] = content[start : start + length]
            start += length
        for field, dtype, shape in header["arrays"]:
            if not _DTYPE.fullmatch(dtype):  # numpy would parse it as a language
                raise ValueError(f"an array of {dtype!r}")
            dtype, count = np.dtype(dtype), math.prod(shape)
            record[field] = np.frombuffer(content, dtype, count, start).reshape(shape)
            start += count * dtype.itemsize
    except (TypeError, ValueError, OverflowError) as error:
        raise BrokenRecord(f"damaged record ({error})") from error
    if start != len(content):
        raise BrokenRecord(f"damaged record ({len(content)} bytes where its header says {start})")
    return record


def decode_values(content: bytes) -> dict[str, Any]:
    """The fields of a record that are neither bytes nor arrays; raises as `decode` does."""
    return _header(content)[0]["values"]


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    if content[:4] != MAGIC or len(content) < _START.size:
        raise BrokenRecord("not a record of ours (it does not begin with cjr1)")
    end = _START.size + _START.unpack_from(content)[1]
    try:
        header = json.loads(content[_START.size : end])
        if not isinstance(header["values"], dict):
            raise TypeError("its values are no object")
        if not (isinstance(header["bytes"], list) and isinstance(header["arrays"], list)):
            raise TypeError("it lacks lists of its binary fields")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenRecord(f"damaged record ({error})") from error
    return header, end
