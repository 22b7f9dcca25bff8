"""The process that plans: the TPU compiler takes over signals and prints, so it gets one of its own.

`python -m contrastive_jax.planning.child FD` reads a request, a line of JSON, on standard input, and writes
JSON lines to the file descriptor: {"tried": ..., "outcome": ...} while it searches, in the end {"plan": ...},
or {"wrong_input": message}. It ends when its input does: whoever asked is gone then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from contrastive_jax.errors import FAILED, InputError

# No TPU is asked, no file written, and no lock taken: nothing here uses a TPU.
TPU_COMPILER = {"TPU_SKIP_MDS_QUERY": "1", "TPU_LOG_DIR": "disabled", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}


def environment(request: dict[str, Any]) -> dict[str, str]:
    """What must be set before JAX starts, for the devices that a request wants."""
    wanted = dict(os.environ)
    if request["topology"]:
        wanted |= {**TPU_COMPILER, "JAX_PLATFORMS": "cpu"}
    elif request["devices"]:
        wanted |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(request["devices"])}
    return wanted


def main(descriptor: int) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:

        def tell(**line: Any) -> None:
            print(json.dumps(line), file=stream, flush=True)

        request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_input, daemon=True).start()
        try:
            tell(plan=answer(request, tell))
        except InputError as error:
            tell(wrong_input=str(error))


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(FAILED)


def answer(request: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """The plan of a config; with "search", that of the cheapest that fits, or of the config if none does."""
    import jax

    from contrastive_jax.configuration import build, load
    from contrastive_jax.planning.topology import Topology
    from contrastive_jax.planning.verdict import plan
    from contrastive_jax.training.experiment import Config, Experiment

    topology = Topology.parse(request["topology"]) if request["topology"] else None
    devices = topology.devices() if topology else jax.devices()
    chip_bytes = topology.chip.memory if topology else None

    def experiment(overrides: dict[str, str]) -> Experiment:
        every = [*map(tuple, request["overrides"]), *overrides.items()]
        return Experiment(build(load(request["config"], every, Config), Config), devices)

    def measure(overrides: dict[str, str]) -> dict[str, Any]:
        return {"topology": str(topology) if topology else None, **plan(experiment(overrides), chip_bytes)}

    if not request["search"]:
        return measure({})
    return _searched(experiment, measure, chip_bytes, tell)


def _searched(experiment, measure, chip_bytes: int | None, tell) -> dict[str, Any]:
    import jax

    from contrastive_jax.planning.search import candidates, cheapest
    from contrastive_jax.planning.verdict import bound

    given = experiment({})
    config, chips = given.config, given.mesh.size
    remat = [f"encoders.{name}.remat" for name, one in config.encoders.items() if hasattr(one, "remat")]

    def told(overrides, outcome) -> None:
        if isinstance(outcome, dict):
            outcome = {key: outcome[key] for key in ("peak_bytes", "chip_bytes", "fits", "step_seconds")}
        tell(tried=overrides, outcome=outcome)

    def measured(overrides: dict[str, str]) -> dict[str, Any]:
        try:
            return measure(overrides)
        except jax.errors.JaxRuntimeError as error:
            raise InputError(f"the compiler refuses it: {str(error).splitlines()[0]}") from error

    best = cheapest(
        measured,
        lambda overrides: bound(experiment(overrides), chip_bytes),
        candidates(config.batch_size, chips, remat, config.microbatch),
        told,
    )
    if best is None:
        return {**measure({}), "overrides": None}
    overrides, found = best
    return {**found, "overrides": [f"--config.{key}={value}" for key, value in overrides.items()]}


if __name__ == "__main__":
    main(int(sys.argv[1]))
