"""A checkpoint that is torn, or has one byte changed, wherever it is: found, and the one before used."""

import logging
import random
from pathlib import Path

import jax
import numpy as np
import pytest
from real_runs import experiment

from contrastive_jax.training.checkpoint import Checkpoints

POSITIONS = 50


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 1 and 2 of a real state, (folder, its structure, the state of step 1)."""
    parts = experiment("encoders.text.depth=1")
    folder = tmp_path_factory.mktemp("saved")
    with jax.set_mesh(parts.mesh), Checkpoints(folder) as checkpoints:
        state = parts.initial_state()
        for step in (1, 2):
            checkpoints.save(step, state._replace(step=state.step + step))
        kept = jax.tree.map(np.asarray, state.params)
    return folder, parts.state_structure, kept


def places(step: Path) -> list[tuple[Path, float]]:
    """50 seeded places, [(file, part of its length)]: each file of a step, the large ones again and again."""
    draw = random.Random(7)
    files = sorted(path for path in step.rglob("*") if path.is_file() and path.stat().st_size)
    weights = [path.stat().st_size for path in files]
    chosen = files + draw.choices(files, weights, k=POSITIONS - len(files))
    return [(path, draw.random()) for path in chosen]


def torn(content: bytes, place: float) -> bytes:
    return content[: int(place * len(content))]


def flipped(content: bytes, place: float) -> bytes:
    changed = bytearray(content)
    changed[int(place * len(content))] ^= 1 << int(place * 1e6) % 8
    return bytes(changed)


@pytest.mark.parametrize("spoil", [torn, flipped])
def test_found_at_fifty_positions(saved, spoil, caplog):
    folder, target, want = saved
    chosen = places(folder / "2")
    names = {path.relative_to(folder / "2").as_posix() for path, _ in chosen}
    assert len(chosen) == POSITIONS
    assert names >= {"manifest.json", "metadata.json", "state/_METADATA", "state/manifest.ocdbt"}
    assert any("/d/" in name for name in names)  # the arrays themselves
    for path, place in chosen:
        content = path.read_bytes()
        path.write_bytes(spoil(content, place))
        caplog.clear()
        with (
            Checkpoints(folder, read_only=True) as checkpoints,
            caplog.at_level(logging.WARNING, "contrastive_jax"),
        ):
            step, state, _ = checkpoints.restore(target)
        path.write_bytes(content)
        (record,) = caplog.records
        told = record.getMessage()
        assert f"2: {path.relative_to(folder / '2').as_posix()}" in told, told
        assert told.endswith("going on from step 1")
        assert (step, int(state.step)) == (1, 1)
        assert jax.tree.all(jax.tree.map(np.array_equal, want, state.params))
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore(target)[0] == 2  # everything is as it was
