"""`contrastive-jax bench`: measures the loss, the train step of a config, or its input, on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from typing import IO, Any

from contrastive_jax.commands.output import console, reserved_stdout
from contrastive_jax.errors import DONE, FAILED, InputError
from contrastive_jax.written import printable

_AXES = ("data", "fsdp", "tensor")
_RATES = ("pictures_per_second", "pictures_per_core_second", "tokens_per_second", "tokens_per_core_second")
_AGAINST = (
    *("seconds", "ratio", "temp_bytes", "peak_bytes", "gradient_error"),
    *(name for rate in _RATES for name in (rate, rate.replace("_per_", "_ratio_per_"))),
)


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        if options.noun == "input":
            from contrastive_jax.commands.bench_input import measure

            _print(stream, measure(options), options.json)
            return DONE
        mesh = _mesh(options.mesh)
        if options.noun == "loss":
            options.block, options.keep = _block(options.block), _keep(options.keep)
            if options.against:  # in a process of its own it needs memory of the same GPU
                os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax

        from contrastive_jax.data.cores import cores

        devices = _devices(mesh)
        try:
            measured = {"loss": _loss, "step": _step}[options.noun](options, mesh, devices)
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            print("contrastive-jax:", *str(error).split(), file=sys.stderr)
            return FAILED
        measured = {
            **measured,
            "device": devices[0].device_kind,
            "devices": len(devices),
            "threads": cores(),
            "jax": jax.__version__,
        }
        _print(stream, measured, options.json)
    return DONE


def _print(stream: IO[str], measured: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(_finite(measured)), file=stream)
    else:
        _table(stream, measured)


def _loss(options, mesh: dict[str, int], devices) -> dict[str, Any]:
    from contrastive_jax.benchmarks.compare import measure
    from contrastive_jax.benchmarks.peers import choose
    from contrastive_jax.benchmarks.problem import Problem
    from contrastive_jax.distributed.mesh import MeshShape

    names = options.against.split(",") if options.against else []
    against = choose(names, options.loss, devices[0].platform, options.peer_python)
    problem = Problem(options.batch, options.dim, options.loss, options.dtype, options.scale)
    engine = {name: getattr(options, name) for name in ("backend", "communication", "block", "keep")}
    shape = MeshShape(**mesh).make(devices)
    measured = measure(
        problem,
        shape,
        engine={name: value for name, value in engine.items() if value is not None},
        against=tuple(against),
        runs=options.runs,
        python=options.peer_python,
    )
    asked = {name: getattr(problem, name) for name in ("loss", "batch", "dim", "dtype", "scale")}
    return {**asked, "mesh": dict(shape.shape), "runs": options.runs, **measured}


def _step(options, mesh: dict[str, int], devices) -> dict[str, Any]:
    from contrastive_jax.benchmarks.steps import measure
    from contrastive_jax.configuration import build, load
    from contrastive_jax.training.experiment import Config, Experiment

    overrides = list(options.overrides)
    overrides += [(f"mesh.{axis}", str(size)) for axis, size in mesh.items()]
    for key, value in (("batch_size", options.batch), ("microbatch", options.microbatch)):
        if value is not None:
            overrides.append((key, str(value)))
    experiment = Experiment(build(load(options.config, overrides, Config), Config), devices)
    return {"config": options.config, "runs": options.runs, **measure(experiment, options.runs)}


def _mesh(text: str | None) -> dict[str, int]:
    """{axis: size} of `data=4,fsdp=2`; every device along `data` where nothing is said."""
    if text is None:
        return {}
    from contrastive_jax.configuration import nearest

    sizes = dict.fromkeys(_AXES, 1)
    given = [part.partition("=") for part in text.split(",")]
    for axis, _, size in given:
        if axis not in sizes:
            raise InputError(f"--mesh {text}: unknown axis {axis!r}; {nearest(axis, sizes)}")
        if not size.isascii() or not size.isdigit() or int(size) < 1:
            raise InputError(
                f"--mesh {text}: give each axis a whole number of devices, such as data=4,fsdp=2"
            )
        sizes[axis] = int(size)
    if len({axis for axis, *_ in given}) < len(given):
        raise InputError(f"--mesh {text}: an axis stands there twice")
    return sizes


def _devices(mesh: dict[str, int]) -> list[Any]:
    """The devices of the mesh, as many virtual ones of the CPU as it takes."""
    import jax

    wanted = math.prod(mesh.values()) if mesh else None
    if wanted and jax.config.jax_num_cpu_devices < wanted:
        with contextlib.suppress(RuntimeError):  # JAX has begun, with as many as it has
            jax.config.update("jax_num_cpu_devices", wanted)
    devices = jax.devices()
    if wanted and len(devices) < wanted:
        given = ",".join(f"{axis}={size}" for axis, size in mesh.items())
        raise InputError(
            f"--mesh {given}: {wanted} devices, and here are {len(devices)} ({devices[0].platform})"
        )
    return devices[:wanted]


def _block(text: str | None) -> int | tuple[int, ...] | None:
    if text is None:
        return None
    sizes = text.split(",")
    if len(sizes) > 2 or not all(size.isascii() and size.isdigit() and int(size) for size in sizes):
        raise InputError(f"--block {text}: give rows and columns a tile, such as 1024 or 512,1024")
    return int(text) if len(sizes) == 1 else tuple(map(int, sizes))


def _keep(text: str | None) -> int | None:
    """The budget in bytes; None leaves it to the engine."""
    if text in (None, "auto"):
        return None
    if text == "off":
        return 0
    if not text.isascii() or not text.isdigit():
        raise InputError(f"--keep {text}: give auto, off or a number of bytes")
    return int(text)


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite; null says so."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(stream: IO[str], measured: dict[str, Any]) -> None:
    from rich.table import Table

    out = console(stream)
    against = measured.pop("against", {})
    table = Table(show_header=False, box=None)
    for name, value in measured.items():
        table.add_row(name, _human(name, value))
    out.print(table)
    if not against:
        return
    table = Table("against", *against, box=None)
    for row in [name for name in _AGAINST if any(name in figures for figures in against.values())]:
        table.add_row(row, *(_human(row, figures.get(row, "")) for figures in against.values()))
    out.print(table)
    for name, figures in against.items():
        for said in ("error", "note"):
            if said in figures:
                out.print(printable(f" {name}: {figures[said]}"))


def _human(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_human(name, item)}" for key, item in value.items()) or "none"
    if isinstance(value, (tuple, list)):
        return " x ".join(map(str, value))
    if name.endswith("_bytes") and value != "":
        return _size(value)
    if name in ("flops", "matmul_flops"):
        return f"{value / 1e9:,.1f} GFLOP/s"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:,.4g} GiB"
