"""The other losses to measure against: what they are called, what they need, and how to run one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from contrastive_jax.benchmarks.children import Child, PeerError, missing_modules
from contrastive_jax.benchmarks.machine import free_bytes
from contrastive_jax.benchmarks.problem import Problem
from contrastive_jax.benchmarks.programs import Program, dense, ntxent
from contrastive_jax.benchmarks.reference import Gradients, errors
from contrastive_jax.benchmarks.timing import clock
from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError

_FEW = 256  # pairs at which a loss whose formula is not `reference`'s is put beside itself in float64


class Peer(NamedTuple):
    """losses: those that it has; module, package: what to import and to install; program: the loss, where
    it is written in JAX; note: what to know of its figures."""

    losses: tuple[str, ...]
    module: str
    package: str
    program: Callable[[Problem], Callable] | None = None
    gpu: bool = False
    of_unit_length: bool = False
    same_loss: bool = True
    note: str | None = None


PEERS = {
    "dense": Peer(("softmax", "sigmoid"), "optax", "optax", dense),
    "optax": Peer(
        ("softmax",),
        "optax",
        "optax",
        ntxent,
        same_loss=False,
        note="optax.losses.ntxent is another loss: rows and columns in one batch of twice the size; its "
        f"error is against itself in float64, of {_FEW} pairs at most",
    ),
    "open_clip": Peer(("softmax", "sigmoid"), "open_clip", "open_clip_torch"),
    "sentence-transformers": Peer(
        ("softmax",),
        "sentence_transformers",
        "sentence-transformers",
        of_unit_length=True,
        note="makes embeddings unit length itself; its error is against the gradient of that",
    ),
    "inf_cl": Peer(("softmax",), "inf_cl", "inf_cl", gpu=True),
    "siglip_kernel": Peer(("sigmoid",), "siglip_kernel", "siglip_kernel", gpu=True),
}


def choose(names: Sequence[str], loss: str, platform: str, python: str | None = None) -> dict[str, Peer]:
    """The peers of these names; python: what runs those that need PyTorch (this one).

    Raises InputError, before anything runs, for an unknown name, a peer that has no such loss or needs
    a GPU, and for all at once that are not installed.
    """
    for name in names:
        if name not in PEERS:
            raise InputError(f"--against {name}: unknown; {nearest(name, PEERS)}")
        if loss not in PEERS[name].losses:
            raise InputError(f"--against {name}: it has no {loss} loss; leave it out, or give --loss")
        if PEERS[name].gpu and platform != "gpu":
            raise InputError(f"--against {name}: needs a GPU, and JAX runs on {platform} here; leave it out")
    chosen = {name: PEERS[name] for name in dict.fromkeys(names)}
    torch = {name: peer for name, peer in chosen.items() if peer.program is None}
    if torch:
        check_installed(torch, python)
    return chosen


def check_installed(peers: dict[str, Peer], python: str | None) -> None:
    """Raises InputError for a Python that does not run, or that lacks torch or what the peers need."""
    modules = ["torch", *(peer.module for peer in peers.values())]
    try:
        missing = missing_modules(python or sys.executable, modules)
    except (OSError, subprocess.CalledProcessError) as error:
        code = getattr(error, "returncode", None)
        reason = error if code is None else f"it ends with code {code}"
        raise InputError(f"--peer-python {python}: does not run as a Python: {reason}") from error
    packages = {"torch": "torch", **{peer.module: peer.package for peer in peers.values()}}
    wanted = [package for module, package in packages.items() if module in missing]
    if wanted:
        absent = [name for name, peer in peers.items() if {peer.module, "torch"} & missing]
        raise InputError(
            f"--against {','.join(absent)}: not installed for {python or sys.executable}: "
            f"pip install {' '.join(wanted)}, or name another Python that has them (--peer-python)"
        )


class JaxPeer:
    """A loss written in JAX, in this process."""

    def __init__(self, peer: Peer, problem: Problem, mesh: jax.sharding.Mesh):
        self.peer, self.mesh = peer, mesh
        program = Program(peer.program(problem), problem, mesh)
        self.figures: dict[str, Any] = {"temp_bytes": program.temp_bytes}
        free = free_bytes(mesh.devices.flat[0])
        shared = mesh.size if mesh.devices.flat[0].platform == "cpu" else 1
        if free is not None and program.temp_bytes * shared > free:
            needs = program.temp_bytes * shared / 2**30
            raise PeerError(f"needs {needs:.1f} GiB of temporaries, and {free / 2**30:.1f} GiB are free")
        self.run = clock(program)

    def gradients(self, problem: Problem) -> Gradients:
        return Program(self.peer.program(problem), problem, self.mesh).gradients()

    def close(self) -> None:
        del self.run


class TorchPeer(Child):
    """A PyTorch library, in a process of its own."""

    def __init__(self, name: str, peer: Peer, problem: Problem, python: str | None):
        super().__init__(name, problem, python or sys.executable)
        self.figures = self.started


def start(name: str, problem: Problem, mesh: jax.sharding.Mesh, python: str | None) -> JaxPeer | TorchPeer:
    """A peer that is ready to run; PeerError where it is not."""
    peer = PEERS[name]
    return TorchPeer(name, peer, problem, python) if peer.program is None else JaxPeer(peer, problem, mesh)


def gradient_errors(peer: Peer, contender: JaxPeer | TorchPeer, problem: Problem) -> dict[str, float]:
    """The errors of a peer's value and gradients against float64."""
    if peer.same_loss:
        return errors(contender.gradients(problem), problem.right(peer.of_unit_length))
    problem = problem.at_most(_FEW)
    got = contender.gradients(problem)
    with jax.enable_x64(True):
        value = peer.program(problem)
        arguments = [z.astype("float64") for z in problem.embeddings()]
        found = jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2)))(*arguments, problem.scale)
        value, gradients = jax.device_get(found)
    return errors(got, Gradients(value, *gradients))
