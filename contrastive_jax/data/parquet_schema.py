"""What the schema of a Parquet file says: which columns are pictures or classes, and if two are the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def check_same(first: str, expected: pa.Schema, path: str, schema: pa.Schema) -> None:
    """Raises InputError for a file whose columns are not those of the first."""
    for name in [*expected.names, *schema.names]:
        types = [_plain(each.field(name).type) if name in each.names else None for each in (expected, schema)]
        if not _alike(*types):
            wants, has = (f"is {kind}" if kind is not None else "is missing" for kind in types)
            raise InputError(
                f"{path}: column {name!r} {has}, but in {first} it {wants}; all files need one schema"
            )


def _alike(one: pa.DataType | None, other: pa.DataType | None) -> bool:
    """Whether both give values of one kind: a column of nothing but null goes with any other."""
    import pyarrow as pa

    if one is None or other is None or pa.null() in (one, other):
        return one is not None and other is not None
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _alike(one.value_type, other.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        names = [{inner.name for inner in kind} for kind in (one, other)]
        return names[0] == names[1] and all(_alike(one.field(n).type, other.field(n).type) for n in names[0])
    return one == other


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type whose values are the same, in the one form that is written most."""
    import pyarrow as pa

    def inside(field: pa.Field) -> pa.Field:
        return pa.field(field.name, _plain(field.type))

    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("item", _plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([inside(field) for field in kind])
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)


def in_microseconds(kind: pa.DataType) -> pa.DataType:
    """The type with times as fine as Python's, which knows no nanoseconds; else the type itself."""
    import pyarrow as pa

    if getattr(kind, "unit", "") == "ns":
        if pa.types.is_timestamp(kind):
            return pa.timestamp("us", kind.tz)
        return pa.time64("us") if pa.types.is_time(kind) else pa.duration("us")
    if pa.types.is_list(kind):
        return pa.list_(in_microseconds(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(in_microseconds(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, in_microseconds(field.type)) for field in kind])
    return kind


def is_struct(kind: pa.DataType) -> bool:
    """Whether it has fields."""
    import pyarrow as pa

    return pa.types.is_struct(kind)


def pictures(schema: pa.Schema) -> set[str]:
    """Columns of bytes, or of structs that hold a file's bytes and path."""
    import pyarrow as pa

    structs = {
        field.name
        for field in schema
        if is_struct(field.type) and {inner.name for inner in field.type} == {"bytes", "path"}
    }
    binary = {pa.binary(), pa.large_binary()}
    return structs | {field.name for field in schema if field.type in binary}


def classes(schema: pa.Schema) -> dict[str, list[str]]:
    """{column: names of its classes}, as `datasets` notes them in the schema."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        # A feature is an object, or a list of them.
        labels = {
            n: of for n, of in features.items() if isinstance(of, dict) and of.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: of["names"] for name, of in labels.items() if isinstance(of.get("names"), list)}


def class_name(classes: list[str], number: Any) -> str | None:
    """The name of a class by its number; None where it has none."""
    known = isinstance(number, int) and 0 <= number < len(classes)  # -1 is `datasets`' word for none
    return classes[number] if known else None
