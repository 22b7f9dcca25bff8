"""The field's own libraries, imported when an evaluator measures with them."""

from __future__ import annotations

import importlib
from types import ModuleType

from contrastive_jax.errors import InputError


def library(name: str, extra: str = "eval") -> ModuleType:
    """A module of an optional library; InputError that names the extra to install where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"this evaluator needs {name.partition('.')[0]} ({error}): pip install 'contrastive-jax[{extra}]'"
        ) from error
