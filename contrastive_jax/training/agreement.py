"""Whether all processes of a run mean the same run: config, versions, data, work directory."""

from __future__ import annotations

import contextlib
import json
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib

from contrastive_jax import __version__
from contrastive_jax.data.contents import Contents, as_json, difference, from_json
from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import InputError
from contrastive_jax.training.stores.paths import StorePath
from contrastive_jax.training.workdir import flatten

_TOKEN = ".processes"
_SECONDS_TO_SEE = 10.0  # a network file system may remember for a while that no such file was there


def check_same_run(group: Group, config: Mapping[str, Any]) -> None:
    """Raises InputError in every process where one has another config or another version, naming both."""
    own = {
        "contrastive_jax": __version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        **{f"config.{key}": value for key, value in flatten(json.loads(json.dumps(config))).items()},
    }
    facts = group.gather(own)
    for index, other in enumerate(facts[1:], 1):
        differing = [
            f"{key} is {_show(facts[0], key)} in process 0 and {_show(other, key)} in process {index}"
            for key in sorted(facts[0].keys() | other.keys())
            if facts[0].get(key) != other.get(key)
        ]
        if differing:
            more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise InputError(f"{'; '.join(differing[:3])}{more}: start all processes alike")


def check_same_data(group: Group, here: Mapping[str, Sequence[Contents]]) -> None:
    """Raises InputError in every process where one has other data than process 0, naming both.

    here: {the config's key and source: what it is made of}.
    """
    told = group.tell({name: as_json(parts) for name, parts in here.items()})
    words = (
        f"{name.partition('=')[0]}: {found}"
        for name, parts in here.items()
        if (found := difference(parts, from_json(told[name]), f"in process {group.index}", "in process 0"))
    )
    if found := next(filter(None, group.gather(next(words, ""))), ""):
        raise InputError(f"{found}: all processes need the same data")


def check_same_folder(group: Group, path: Path | StorePath) -> None:
    """Raises InputError where `path` is not one folder that all processes see."""
    if group.count == 1:
        return
    token = group.tell(uuid.uuid4().hex)
    if group.first:
        (path / _TOKEN).write_text(token)
    group.barrier("the work directory")
    seen = group.gather(_sees(path / _TOKEN, token))
    blind = [index for index, found in enumerate(seen) if not found]
    if blind:
        raise InputError(
            f"--workdir {path} is not the same folder in process {blind[0]} as in process 0: give one on a "
            "file system that all processes share"
        )
    if group.first:
        (path / _TOKEN).unlink()


def _sees(file: Path, token: str) -> bool:
    until = time.monotonic() + _SECONDS_TO_SEE
    while True:
        with contextlib.suppress(OSError):
            if file.read_text() == token:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)


def _show(facts: Mapping[str, Any], key: str) -> str:
    return json.dumps(facts[key], ensure_ascii=False) if key in facts else "absent"
