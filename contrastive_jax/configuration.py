"""Configs: loading a file with arguments and overrides, checking every key, building what it names.

A config file defines `get_config(arg: str = "") -> ConfigDict`. What keys there are is said once, by the
constructors of the things that a config builds: the fields of a dataclass, with their types and
defaults, are its keys. Three annotations say how dictionaries nest:

    Kind(table)     {"kind": name, ...the fields of table[name]}
    Named(schema)   a dictionary of user-chosen names
    a dataclass     a section with fixed keys
"""

import ast
import dataclasses
import difflib
import importlib.util
import math
import traceback
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict

from contrastive_jax.errors import InputError

_FEW = 12


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """A dictionary whose "kind" chooses a constructor from a table."""

    table: Mapping[str, type]


@dataclasses.dataclass(frozen=True, eq=False)
class Named:
    """A dictionary from names of the user's choice to things of one schema."""

    of: Any


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say of an unknown name: the nearest known one, and all of them where they are few."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = f"known: {', '.join(known)}" if known else "none is known"
    if len(known) > _FEW:
        return f"did you mean {close[0]}?" if close else f"none of the {len(known)} known ones is like it"
    return f"did you mean {close[0]}? ({listed})" if close else listed


def arguments(text: str, **defaults: Any) -> ConfigDict:
    """The arguments of a config, `a=1,flag,b=x`, typed by their defaults.

    A bare name sets a flag. Raises InputError for an unknown name or a value of another type.
    """
    values = dict(defaults)
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if name not in defaults:
            raise InputError(f"config argument {name!r} is unknown: {nearest(name, defaults)}")
        if not equals and not isinstance(defaults[name], bool):
            raise InputError(f"config argument {name!r} needs a value: {name}={defaults[name]}")
        values[name] = parse(value if equals else "True", type(defaults[name]), f"config argument {name}")
    return ConfigDict(values)


def beside(file: str, name: str) -> types.ModuleType:
    """The module `name`, a path relative to the folder of `file`: what several configs share.

    images = beside(__file__, "shared/images.py")
    """
    path = Path(file).parent / name
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _module(path)


def load(spec: str, overrides: Sequence[tuple[str, str]], schema: type) -> ConfigDict:
    """The complete, checked config of `file.py[:arguments]` with `(dotted key, text)` overrides.

    Every key that the file leaves out is there with its default. Raises InputError for a file that
    cannot be used, an unknown key, or a value of the wrong type.
    """
    return overridden(_get_config(spec), overrides, schema)


def overridden(config: ConfigDict, overrides: Sequence[tuple[str, str]], schema: type) -> ConfigDict:
    """A config, complete and checked, with `(dotted key, text)` overrides; see `load`."""
    config = _apart(config)
    for key, text in overrides:
        if key.split(".")[-1] == "kind":
            _set(config, key, text, str)
    known = complete(config, schema)
    for key, text in overrides:
        if key not in known:
            raise InputError(f"--config.{key}={text}: unknown key; {nearest(key, known)}")
        _set(config, key, text, known[key])
    complete(config, schema)
    return config.lock()


def _apart(config: ConfigDict) -> ConfigDict:
    """The config with sections that are objects of their own: a file may have put one dictionary in two
    places, and an override is of one of them."""
    items = config.items(preserve_field_references=True)
    return ConfigDict({key: _apart(v) if isinstance(v, ConfigDict) else v for key, v in items})


def complete(config: ConfigDict, schema: Any, where: str = "") -> dict[str, Any]:
    """Adds the defaults of missing keys, in place, and checks all; returns {dotted key: its type}.

    Raises InputError naming the key: unknown, missing without a default, or of the wrong type.
    """
    known: dict[str, Any] = {}
    for key, annotation in _fields(config, schema, where).items():
        name = f"{where}.{key}" if where else key
        inner = _schema(annotation)
        if inner is None:
            if not _fits(config[key], annotation):
                raise InputError(f"config.{name}={config[key]!r}: give {describe(annotation)}")
            known[name] = annotation
        elif isinstance(config[key], ConfigDict):
            known |= complete(config[key], inner, name)
        elif config[key] is not None or not _fits(None, annotation):
            raise InputError(f"config.{name}={config[key]!r}: give a dictionary of settings")
    return known


def build(config: Mapping, schema: Any, where: str = "") -> Any:
    """What a completed config describes: sections and kinds become objects, names stay dictionaries."""
    values: dict[str, Any] = {}
    for key, annotation in _fields(config, schema, where).items():
        value, inner = config[key], _schema(annotation)
        if inner is not None and value is not None:
            value = build(value, inner, f"{where}.{key}" if where else key)
        values[key] = _frozen(value)
    if isinstance(schema, Named):
        return values
    constructor = schema.table[values.pop("kind")] if isinstance(schema, Kind) else schema
    try:
        return constructor(**values)
    except InputError as error:
        raise InputError(f"config.{where}: {error}" if where else str(error)) from error


def _frozen(value: Any) -> Any:
    """Lists, as a stored config has them, as tuples, whatever they hold."""
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def parse(text: str, annotation: Any, where: str) -> Any:
    """The value that a command-line text means for a type; InputError where it means none."""
    if annotation is str:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and not _fits(value, annotation)
        and _fits(1.0, annotation)
    ):
        value = float(value)
    if not _fits(value, annotation) and _fits("", annotation):
        value = text
    if not _fits(value, annotation):
        raise InputError(f"{where}={text}: give {describe(annotation)}")
    return value


def describe(annotation: Any) -> str:
    """A type in plain words."""
    words = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "a text",
        type(None): "None",
        tuple: "a list, such as (1, 2) or ('a', 'b')",
    }
    options = get_args(annotation) if _is_union(annotation) else (annotation,)
    return " or ".join(
        words.get(get_origin(o) or o, f"a {getattr(get_origin(o) or o, '__name__', o)}") for o in options
    )


def _get_config(spec: str) -> ConfigDict:
    path, _, argument = spec.partition(":")
    file = Path(path)
    if not file.is_file():
        raise InputError(f"--config {path}: no such file")
    if file.suffix != ".py":
        raise InputError(f"--config {path}: not a Python file")
    try:
        module = _module(file)
        if not hasattr(module, "get_config"):
            raise InputError("a config file defines get_config(arg), and this one does not")
        config = module.get_config(argument)
    except InputError as error:
        raise InputError(f"--config {spec}: {error}") from error
    except Exception as error:
        line = error.lineno if isinstance(error, SyntaxError) else _line_in(path, error)
        raise InputError(f"--config {path}, line {line}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config {path}: get_config returned a {type(config).__name__}, not a ConfigDict")
    return config.unlock()


def _module(file: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _line_in(path: str, error: Exception) -> int | None:
    """The last line of the file that an error came through."""
    calls = traceback.extract_tb(error.__traceback__)
    lines = [call.lineno for call in calls if Path(call.filename).resolve() == Path(path).resolve()]
    return lines[-1] if lines else None


def _set(config: ConfigDict, dotted: str, text: str, annotation: Any) -> None:
    *path, key = dotted.split(".")
    for part in path:
        config = config.get(part) if isinstance(config, ConfigDict) else None
    if not isinstance(config, ConfigDict):
        return  # what is wrong with the key is said when the config is complete
    with config.unlocked(), config.ignore_type():
        config[key] = parse(text, annotation, f"--config.{dotted}")


def _fields(config: Mapping, schema: Any, where: str) -> dict[str, Any]:
    """{key: annotation} of one dictionary; checks its keys and, in a ConfigDict, adds its defaults."""
    if isinstance(schema, Named):
        return dict.fromkeys(config, Annotated[dict, schema.of])
    fields: dict[str, Any] = {}
    constructor, place = schema, f"config.{where}" if where else "config"
    if isinstance(schema, Kind):
        kind = config.get("kind")
        if not isinstance(kind, str) or kind not in schema.table:
            raise InputError(f"{place}.kind={kind!r}: {nearest(str(kind), schema.table)}")
        constructor, fields = schema.table[kind], {"kind": str}
    hints = get_type_hints(constructor, include_extras=True)
    for field in dataclasses.fields(constructor):
        fields[field.name] = hints[field.name]
        if field.name not in config:
            _add_default(config, field, place)
    for key in config:
        if key not in fields:
            raise InputError(f"{place}.{key}: unknown key; {nearest(key, fields)}")
    return fields


def _add_default(config: ConfigDict, field: dataclasses.Field, place: str) -> None:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        raise InputError(f"{place}.{field.name}: missing; set it in the config file")
    if dataclasses.is_dataclass(default):
        default = {}
    with config.unlocked():
        config[field.name] = ConfigDict(default) if isinstance(default, dict) else default


def _schema(annotation: Any) -> Any:
    """The schema of a nested dictionary; None for a plain value."""
    for option in get_args(annotation) if _is_union(annotation) else (annotation,):
        if get_origin(option) is Annotated:
            return get_args(option)[1]
        if dataclasses.is_dataclass(option):
            return option
    return None


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _fits(value: Any, annotation: Any) -> bool:
    if _is_union(annotation):
        return any(_fits(value, option) for option in get_args(annotation))
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(annotation) is tuple:
        element = get_args(annotation)[0]
        return isinstance(value, (tuple, list)) and all(_fits(v, element) for v in value)
    kind = get_origin(annotation) or annotation
    return isinstance(value, kind) if isinstance(kind, type) else True
