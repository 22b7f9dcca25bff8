"""How the config of a start differs from that of the run that it is to go on with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

# These change how fast a run goes or what it writes, never what it learns; or let one go on that has to stop.
FREE_KEYS = (
    *("mesh", "processes", "microbatch", "mode", "checkpoint", "logging", "evaluation", "export"),
    *("data.workers", "data.prefetch", "data.stall_seconds", "data.retry_seconds"),
    *("skip_bad_steps", "data.skip", "data.broken_share"),
)
# What the figures of a finished run answer.
_ASKED = ("steps", "evaluation.evaluators", "evaluation.source", "checkpoint.best", "checkpoint.lowest")
_ABSENT = object()


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted names; an empty dict stays, as a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(here: dict[str, Any], there: dict[str, Any]) -> dict[str, str]:
    """{dotted key: both values, in words} where two flat configs differ, in value or type."""
    return {
        key: f"{key}: {_show(here, key)} here, {_show(there, key)} there"
        for key in sorted(here.keys() | there.keys())
        if here.get(key, _ABSENT) != there.get(key, _ABSENT)
        or type(here.get(key)) is not type(there.get(key))
    }


def free(keys: Iterable[str]) -> set[str]:
    """Those of some dotted keys that may differ between a run and its continuation."""
    return {key for key in keys if _within(key, FREE_KEYS)}


def asked(keys: Iterable[str]) -> list[str]:
    """Those of some dotted keys whose change asks a finished run something else than it has answered."""
    return [key for key in keys if key == "evaluation" or _within(key, _ASKED)]


def _within(key: str, sections: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in sections)


def _show(flat: dict[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False) if key in flat else "absent"
