"""Branches as serialised programs that JAX runs without this package."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from contrastive_jax.errors import CommandError, InputError
from contrastive_jax.interop.model import Model
from contrastive_jax.interop.text_folder import write_json

PLATFORMS = ("cpu", "cuda", "tpu")
MOST_BYTES = 2**31 - 2**24  # the file's format counts in 32 bits


def writer(model: Model) -> Callable[[Path], dict[str, Any]]:
    """Writes `BRANCH.bin` for each branch: a function from a batch of its view to embeddings.

    The parameters are part of it, the batch size is open, and it is lowered for CPUs, GPUs and TPUs:

        call = jax.export.deserialize(bytearray(open("image.bin", "rb").read())).call

    Raises InputError for parameters that are too many, CommandError where flatbuffers is not installed.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise CommandError("--format jax needs flatbuffers: pip install 'contrastive-jax[interop]'")
    bytes_inside = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
    if bytes_inside > MOST_BYTES:
        raise InputError(
            f"--format jax: {bytes_inside} bytes of parameters, and a program holds {MOST_BYTES}; "
            "take --format safetensors"
        )
    return functools.partial(_write, model)


def _write(model: Model, output: Path) -> dict[str, Any]:
    (size,) = jax.export.symbolic_shape("batch")
    host = jax.device_get(model.params)
    signatures = {}
    for name, branch in model.branches.items():
        view = model.views[branch.view]
        example = jax.ShapeDtypeStruct((size, *view.shape), view.dtype)
        function = jax.jit(lambda batch, name=name: model.embed(host, name, batch))
        exported = jax.export.export(function, platforms=PLATFORMS)(example)
        (output / f"{name}.bin").write_bytes(exported.serialize())
        (result,) = exported.out_avals
        takes, gives = ([None, *map(int, aval.shape[1:])] for aval in (example, result))
        signatures[name] = {
            "file": f"{name}.bin",
            "input": {"shape": takes, "dtype": str(example.dtype)},
            "output": {"shape": gives, "dtype": str(result.dtype)},
        }
    write_json(output / "signatures.json", {"platforms": PLATFORMS, "branches": signatures})
    if model.vocabulary is not None:
        (output / "tokenizer.json").write_text(model.vocabulary.json, encoding="utf-8")
    return {"branches": list(signatures)}
