"""`bench loss`: this library's loss, this machine's matmul and other libraries, taking turns."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import jax

from contrastive_jax.benchmarks.children import PeerError
from contrastive_jax.benchmarks.peers import PEERS, gradient_errors, start
from contrastive_jax.benchmarks.problem import Problem
from contrastive_jax.benchmarks.programs import Program, chosen, matmul, ours
from contrastive_jax.benchmarks.reference import errors
from contrastive_jax.benchmarks.timing import clock, interleave
from contrastive_jax.errors import InputError

log = logging.getLogger(__name__)
_REFERENCE_BATCH = 4096


def measure(
    problem: Problem,
    mesh: jax.sharding.Mesh,
    *,
    engine: Mapping[str, Any],
    against: tuple[str, ...] = (),
    runs: int = 7,
    python: str | None = None,
) -> dict[str, Any]:
    """The figures of the loss, forward and backward, as `docs/benchmarks.md` describes them.

    engine: keywords of the reductions. against: names of `PEERS`; a peer that fails, as for want of
    memory, gets an `error` in place of its seconds. python: what runs the peers that need PyTorch.
    Raises InputError for keywords that the engine refuses.
    """
    log.info("compiling %s, %d x %d, %s", problem.loss, problem.batch, problem.dim, problem.dtype)
    try:
        plan = chosen(problem, mesh, engine)
    except ValueError as error:  # keywords that do not go together
        raise InputError(str(error)) from error
    program = Program(ours(problem, mesh, engine), problem, mesh)
    small = problem.at_most(_REFERENCE_BATCH)
    same = program if small == problem else Program(ours(small, mesh, _held(plan, engine)), small, mesh)
    found = errors(same.gradients(), small.right())
    multiply, multiply_flops = matmul(problem, mesh)
    with ExitStack() as stack:
        contenders = {"": clock(program), "matmul": clock(multiply)}
        peers: dict[str, dict[str, Any]] = {}
        for name in against:
            contender = _start(name, problem, small, mesh, python, peers, stack)
            if contender is not None:
                contenders[name] = _or_never(name, contender.run, peers)
        log.info("%d runs of each, in turn: %s", runs, ", ".join(name or "ours" for name in contenders))
        seconds = interleave(contenders, runs)
    flops = problem.flops(plan["keep"]) / seconds[""]
    rate = multiply_flops / seconds["matmul"]
    for name, figures in peers.items():
        taken = seconds.get(name, math.inf)
        ratio = {"seconds": taken, "ratio": seconds[""] / taken} if math.isfinite(taken) else {}
        peers[name] = {"seconds": None, "ratio": None, **ratio, **figures}
    return {
        "seconds": seconds[""],
        "flops": flops,
        "flops_basis": f"{problem.products(plan['keep'])} B^2 d",
        "fraction_of_matmul": flops / rate,
        "matmul_flops": rate,
        "temp_bytes": program.temp_bytes,
        "collective_bytes": program.collective_bytes,
        **plan,
        **found,
        "gradient_error_batch": small.batch,
        "against": peers,
    }


def _held(plan: Mapping[str, Any], engine: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords by which a smaller batch is computed in the way that was chosen for the larger one."""
    held = {**engine, "block": tuple(plan["block"]), "backend": plan["backend"]}
    held["communication"] = plan["communication"]
    return held if plan["keep"] else {**held, "keep": 0}


def _start(name, problem, small, mesh, python, peers, stack):
    """The contender, ready to run, with its first figures in `peers`; None where it failed."""
    log.info("starting %s", name)
    note = PEERS[name].note
    figures = peers[name] = {"note": note} if note else {}
    try:
        contender = start(name, problem, mesh, python)
        stack.callback(contender.close)
        figures |= contender.figures
        figures |= gradient_errors(PEERS[name], contender, small)
    except (PeerError, jax.errors.JaxRuntimeError) as error:
        figures["error"] = " ".join(str(error).split())
        log.warning("%s: %s", name, figures["error"])
        return None
    return contender


def _or_never(name, run, peers):
    """A run that takes for ever where it fails, so that the others' runs are not lost."""

    def attempt():
        if "error" in peers[name]:
            return math.inf
        try:
            return run()
        except (PeerError, jax.errors.JaxRuntimeError) as error:
            peers[name]["error"] = " ".join(str(error).split())
            log.warning("%s: %s", name, peers[name]["error"])
            return math.inf

    return attempt
