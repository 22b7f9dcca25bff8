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
        if types[0] != types[1]:
            wants, has = (f"is {kind}" if kind is not None else "is missing" for kind in types)
            raise InputError(
                f"{path}: column {name!r} {has}, but in {first} it {wants}; all files need one schema"
            )


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)


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
        found = {name: of["names"] for name, of in features.items() if of.get("_type") == "ClassLabel"}
        return {name: classes for name, classes in found.items() if isinstance(classes, list)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def class_name(classes: list[str], number: Any) -> str | None:
    """The name of a class by its number; None where it has none."""
    known = isinstance(number, int) and 0 <= number < len(classes)  # -1 is `datasets`' word for none
    return classes[number] if known else None
