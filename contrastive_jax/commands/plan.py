"""`contrastive-jax plan`: what a config needs of machines, before they are paid for."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from contrastive_jax.commands.output import console, reserved_stdout
from contrastive_jax.errors import DONE, FAILED, InputError
from contrastive_jax.planning.child import environment
from contrastive_jax.written import printable

MOST_DEVICES = 4096  # each of them has threads of its own


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    request = _request(options)
    with reserved_stdout() as stream:
        found = _ask(request)
        if found is None:
            return FAILED
        if options.json:
            print(json.dumps(found), file=stream)
        else:
            _table(stream, found, options.search)
    return DONE


def _request(options) -> dict[str, Any]:
    if options.topology is not None and options.devices:
        raise InputError("--topology and --devices: give one of them, a TPU slice or virtual CPU devices")
    if options.topology is not None:
        from contrastive_jax.planning.topology import Topology

        Topology.parse(options.topology)
        if importlib.util.find_spec("libtpu") is None:
            raise InputError(
                f"--topology {options.topology}: the TPU compiler (libtpu) is not installed: "
                "pip install 'contrastive-jax[plan]', or give --devices N for virtual CPU devices"
            )
    if options.devices and options.devices > MOST_DEVICES:
        raise InputError(f"--devices {options.devices}: give up to {MOST_DEVICES} virtual devices")
    names = "config", "overrides", "topology", "devices", "search"
    return {name: getattr(options, name) for name in names}


def _ask(request: dict[str, Any]) -> dict[str, Any] | None:
    """The plan, from a child process; None, after saying why, where that failed."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "contrastive_jax.planning.child", str(writing)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            pass_fds=(writing,),
            env=environment(request),
        )
        os.close(writing)
        try:
            with os.fdopen(reading, encoding="utf-8") as lines:
                with contextlib.suppress(BrokenPipeError):
                    print(json.dumps(request), file=child.stdin, flush=True)  # open as long as we live
                last = _listen(lines)
            child.wait()
        finally:
            child.kill()
            child.wait()
        if last is None:
            print("contrastive-jax:", _last_words(log, child.returncode), file=sys.stderr)
        return last


def _listen(lines: IO[str]) -> dict[str, Any] | None:
    for text in lines:
        line = json.loads(text)
        if "wrong_input" in line:
            raise InputError(line["wrong_input"])
        if "plan" in line:
            return line["plan"]
        print(
            " ".join(f"{k}={v}" for k, v in line["tried"].items()), _outcome(line["outcome"]), file=sys.stderr
        )
    return None


def _outcome(outcome: Mapping[str, Any] | str) -> str:
    if isinstance(outcome, str):
        return f"- {outcome}"
    verdict = "fits" if outcome["fits"] else "does not fit"
    return (
        f"- {verdict}: {_bytes(outcome['peak_bytes'])} a device, {_seconds(outcome['step_seconds'])} a step"
    )


def _last_words(log: IO[str], code: int) -> str:
    if code < 0:
        return "the process that compiles was killed, as it is when memory runs out"
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return f"the process that compiles failed: {lines[-1] if lines else 'it said nothing'}"


def _table(stream: IO[str], found: Mapping[str, Any], searched: bool) -> None:
    from rich.table import Table

    out = console(stream, wide=150)
    table = Table(
        box=None, title_justify="left", title="a device's bytes and seconds, all devices' FLOPs, of one run"
    )
    for column in ("program", "runs", "arguments", "outputs", "aliased", "temporaries", "total", "besides"):
        table.add_column(column, justify="left" if column == "program" else "right")
    for column in ("FLOPs", "sent", "seconds", "bound by"):
        table.add_column(column, justify="right")
    for program in found["programs"]:
        sizes = ("argument", "output", "alias", "temp", "total", "resident")
        table.add_row(
            program["name"],
            str(program["runs"]),
            *(_bytes(program[f"{size}_bytes"]) for size in sizes),
            f"{program['flops']:.3g}",
            _bytes(sum(program["collective_bytes"].values())),
            _seconds(program["seconds"]),
            _slowest(program),
        )
    out.print(table)
    for program in found["programs"]:
        sent = ", ".join(
            f"{kind} {_bytes(n)}" for kind, n in sorted(program["collective_bytes"].items()) if n
        )
        out.print(f"{program['name']} sends {sent or 'nothing'}", soft_wrap=True)
    for line in _lines(found, searched):
        out.print(printable(line), soft_wrap=True)


def _lines(found: Mapping[str, Any], searched: bool):
    mesh = ", ".join(f"{axis}={size}" for axis, size in found["mesh"].items())
    yield f"{found['chips']} x {found['chip']}, mesh {mesh}, batch {found['batch_size']}, {found['mode']}"
    trained = found["parameters"] - found["frozen_parameters"]
    yield f"{found['parameters']:,} parameters, {trained:,} of them trained"
    if found["step_seconds"] is not None:
        pairs = found["batch_size"] / found["step_seconds"]
        yield (
            f"a step takes at least {_seconds(found['step_seconds'])}: at most {pairs:,.0f} examples/s and "
            f"MFU {found['mfu']:.1%} ({found['model_flops']:.3g} model FLOPs)"
        )
    for assumption in found["assumptions"]:
        yield f"  assumed: {assumption}"
    needs = f"{_bytes(found['peak_bytes'])} of {_bytes(found['chip_bytes'])} a device"
    if found["fits"]:
        yield f"fits: {needs}"
    else:
        over = _bytes(found["peak_bytes"] - found["chip_bytes"])
        yield f"does not fit: {needs}, {over} too much"
        if not searched:
            yield "the same with --search tries other microbatches, remat and meshes for one that fits"
    if searched:
        chosen = found["overrides"]
        yield (
            "the cheapest that fits: " + " ".join(chosen)
            if chosen
            else (
                "nothing that was tried fits: take a smaller batch, more chips, or --config.mode=out_of_core"
            )
        )


def _slowest(program: Mapping[str, Any]) -> str:
    if program["seconds"] is None:
        return "?"
    return max(("compute", "memory", "link"), key=lambda part: program[f"{part}_seconds"])


def _bytes(count: int | None) -> str:
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    raise AssertionError


def _seconds(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"
