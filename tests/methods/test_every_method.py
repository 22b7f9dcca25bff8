"""What every published method must do: build, train on eight devices, resume exactly, microbatch."""

import jax
import pytest
from method_run import METHODS, check, close, losses, method, microbatches, small

from contrastive_jax.training.program_cache import kept_programs
from contrastive_jax.training.programs import batch_structure

REPRESENTATIVES = ("moco_v2", "barlow_twins", "simcse_unsupervised")


def representative_or_slow(names):
    return [name if name in REPRESENTATIVES else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("arguments", ["", "paper"])
def test_it_builds(data_folder, monkeypatch, name, arguments):
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))
    assert method(name, arguments).axes["encoders"]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_its_check_names_what_there_is(data_folder, monkeypatch, name):
    """Every arm builds, the method's own first; every figure has a place on the page of methods."""
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))
    wanted = check(name)
    assert len(wanted["arms"]) > 1
    assert wanted["figures"]
    for stages in wanted["arms"].values():
        for arguments in (stages,) if isinstance(stages, str) else stages:
            assert method(name, arguments.format(data_folder, data_folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_step_of_the_paper_has_the_right_shapes(data_folder, monkeypatch, name):
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))
    run = method(name, "paper")
    batch = batch_structure(run, run.config.batch_size)
    with jax.set_mesh(run.mesh):
        state, metrics = jax.eval_shape(run.train_step(), run.state_structure, batch)
    assert jax.tree.map(lambda x: x.shape, state) == jax.tree.map(lambda x: x.shape, run.state_structure)
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", representative_or_slow(METHODS))
def test_eight_devices_microbatches_and_a_resumed_run(tmp_path, data_folder, monkeypatch, name):
    """On eight devices it resumes bit for bit; on one, in microbatches, its losses are the same."""
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))
    run = small(name)
    with kept_programs(tmp_path / "programs"):
        whole = losses(run, tmp_path / "whole")
        assert losses(run, tmp_path / "resumed", stop_after=3) == whole
    alone = small(name, devices=1, microbatch=microbatches(run))
    close(losses(alone, tmp_path / "one_device"), whole)
