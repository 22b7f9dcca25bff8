"""A run begins from the weights of another run; what does not fit is named."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from beginnings import Base, begun, check_that_processes_compare, numbers, workdir
from small import CONFIGS, altered, experiment

from contrastive_jax.configuration import build, load
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.errors import InputError
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.loop import Run, Stopped
from contrastive_jax.training.lora import Adapter
from contrastive_jax.training.starting import architecture, matched
from contrastive_jax.training.structure import named_leaves


@pytest.fixture(scope="module")
def faces():
    return experiment("glyphs_faces.py:small", batch_size=16)


@pytest.fixture(scope="module")
def pairs():
    """Two towers and two heads; `image` is the tower of `faces`."""
    return experiment("glyphs.py:small", batch_size=16)


def test_parts_of_another_run_under_its_names_and_others(faces, pairs, tmp_path, caplog):
    """The rest stays new; the log says what came from where, with counts."""
    there, base = named_leaves(workdir(tmp_path / "run", faces)), Base(pairs)
    with caplog.at_level("INFO"):
        found = begun(pairs, base, image={"path": str(tmp_path / "run")})
    for name, array in found.items():
        expected = there[name] if name.startswith("encoders/image/") else named_leaves(base.params)[name]
        np.testing.assert_array_equal(array, expected, err_msg=name)
    count = sum(x.size for name, x in there.items() if name.startswith("encoders/image/"))
    assert f"init_from.image: encoders/image {count:,} from {tmp_path / 'run'}, step 7" in caplog.text
    assert "new: encoders/text" in caplog.text
    assert "losses/clip 1" in caplog.text


def test_on_a_mesh_and_from_the_step_that_is_asked_for(faces, tmp_path):
    """A tower that has another name there; where parameters are sharded each shard is read to its place."""
    workdir(tmp_path / "run", faces, steps=(3, 5))
    there = named_leaves(numbers(faces.state_structure.params, 3))
    run = experiment("glyphs_faces.py:small", 8, batch_size=16, mesh__data=1, mesh__fsdp=4, mesh__tensor=2)
    run = Experiment(
        dataclasses.replace(
            run.config,
            encoders={"photo": run.config.encoders["image"]},
            branches={n: dataclasses.replace(b, encoder="photo") for n, b in run.config.branches.items()},
        )
    )
    found = begun(
        run,
        Base(run),
        one={"path": str(tmp_path / "run"), "step": 3, "parts": ("encoders/photo=encoders/image", "heads/*")},
    )
    structures = named_leaves(run.state_structure.params)
    for name, array in found.items():
        if not name.startswith("losses/"):
            np.testing.assert_array_equal(array, there[name.replace("photo", "image")], err_msg=name)
        assert array.sharding == structures[name].sharding, name
    assert any("fsdp" in str(array.sharding.spec) for array in found.values())


def test_adapters_there_are_merged(faces, pairs, tmp_path):
    run = altered(faces, lora={"tower": Adapter("encoders/image/*/attention/*", rank=2, alpha=5.0)})
    section = {"tower": {"parameters": "encoders/image/*/attention/*", "rank": 2, "alpha": 5.0}}
    params = workdir(tmp_path / "run", run, lora=section)
    model = named_leaves(run.trainable.merged(params))
    found = begun(pairs, Base(pairs), image={"path": str(tmp_path / "run")})
    assert len(run.adapted) == 2
    for name in (name for name in found if name.startswith("encoders/image/")):
        np.testing.assert_allclose(found[name], model[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_another_architecture_is_told_by_names(faces, pairs, tmp_path):
    workdir(tmp_path / "run", faces)
    wider = dataclasses.replace(pairs.config.encoders["image"], width=64)
    run = altered(pairs, encoders={**pairs.config.encoders, "image": wider})
    with pytest.raises(InputError) as error:
        begun(run, Base(run), image={"path": str(tmp_path / "run")})
    message = str(error.value)
    assert message.startswith(f"config.init_from.image.path={tmp_path / 'run'}: another architecture: ")
    assert "encoders/image/patches/kernel is [64, 32] there, [64, 64] here" in message
    assert message.count(" here") == 8
    assert message.endswith("more")


def test_a_damaged_checkpoint_is_passed_over_and_nothing_is_changed_there(faces, pairs, tmp_path):
    workdir(tmp_path / "run", faces, steps=(3, 5))
    metadata = tmp_path / "run" / "checkpoints" / "5" / "metadata.json"
    metadata.write_bytes(metadata.read_bytes() + b" ")
    before = sorted(tmp_path.rglob("*"))
    there = named_leaves(numbers(faces.state_structure.params, 3))
    name = "encoders/image/patches/kernel"
    assert np.array_equal(begun(pairs, Base(pairs), image={"path": str(tmp_path / "run")})[name], there[name])
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match=r"config\.init_from\.image\.path=.*step 5 .*damaged"):
        begun(pairs, Base(pairs), image={"path": str(tmp_path / "run"), "step": 5})
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")
    with pytest.raises(InputError, match="no intact checkpoint"):
        begun(pairs, Base(pairs), image={"path": str(tmp_path / "run")})


OURS = ["encoders/image", "encoders/text", "heads/image", "losses/clip"]


@pytest.mark.parametrize(
    ("key", "parts", "theirs", "found"),
    [
        ("image", (), OURS[:2], {"encoders/image": "encoders/image"}),
        ("image", (), OURS, {"encoders/image": "encoders/image", "heads/image": "heads/image"}),
        ("all", ("*",), OURS[1:3], {part: part for part in OURS[1:3]}),
        ("x", ("encoders/*=encoders/a",), ["encoders/a"], dict.fromkeys(OURS[:2], "encoders/a")),
        ("photo", (), OURS, "no encoder here is called 'photo'"),
        ("image", (), ["encoders/text"], "it has no encoders/image"),
        ("x", ("encoders/imge",), OURS, "parts: nothing here is called 'encoders/imge'; did you mean"),
        ("x", ("heads/image",), OURS[:2], "it has no heads/image"),
        ("x", ("heads/*",), OURS[:2], r"it has no heads/\*"),
        ("x", ("heads/image=heads/b",), OURS, "it has no heads/b; did you mean"),
        ("x", ("losses/clip=encoders/image",), OURS, "losses/clip and encoders/image are of two kinds"),
        ("x", ("*=encoders/image",), OURS, "heads/image and encoders/image are of two kinds"),
    ],
)
def test_which_parts(key, parts, theirs, found):
    if isinstance(found, dict):
        assert matched(key, parts, OURS, theirs) == found
    else:
        with pytest.raises(InputError, match=found):
            matched(key, parts, OURS, theirs)


def test_several_processes_compare_what_they_found(faces, pairs, tmp_path):
    folder = tmp_path / "run"

    def change():
        shutil.rmtree(folder)
        workdir(folder, faces, seed=1)

    workdir(folder, faces)
    check_that_processes_compare(pairs, {"path": str(folder)}, change)


def test_no_part_starts_from_two_places(faces, pairs, tmp_path):
    workdir(tmp_path / "run", faces)
    twice = {"path": str(tmp_path / "run"), "parts": ("encoders/image",)}
    with pytest.raises(
        InputError, match=r"init_from\.b\.parts: encoders/image .*config\.init_from\.a already"
    ):
        begun(pairs, Base(pairs), a=twice, b=twice)


class StopAfter:
    """A stop request that comes with the checkpoint of a step."""

    def __init__(self, folder, step):
        self.place = folder / "checkpoints" / str(step)

    @property
    def requested(self):
        return "SIGTERM" if self.place.exists() else None


@pytest.fixture
def locked(faces, tmp_path, monkeypatch):
    """configs/lit.py on the encoder of another run, its text tower trained through adapters; that run's
    folder and parameters, and what trains and gives the last state."""
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path.parent / "glyphs"))
    source = tmp_path / "faces"
    there = named_leaves(workdir(source, faces, encoders={"image": _section("glyphs_faces.py:small")}))
    spec = f"{CONFIGS}/lit.py:small,image={source}"
    config = build(load(spec, [("steps", "3"), ("batch_size", "16")], Config), Config)
    text = {"text": Adapter("encoders/text/*/attention/*", rank=2)}
    often = dataclasses.replace(config.checkpoint, every=1, keep=None)
    config = dataclasses.replace(config, evaluation=None, lora=text, checkpoint=often)

    def last(name, stop=None):
        folder, run = tmp_path / name, Experiment(config, jax.devices()[:1])
        folder.mkdir(exist_ok=True)
        result = Run(run, folder, stop(folder) if stop else StopRequest())()
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            state = checkpoints.restore(run.state_structure)[1]
        return run, result, named_leaves(state._replace(key=()))

    return source, there, last


@pytest.mark.slow
def test_a_locked_tower_with_adapters_trains(locked):
    source, there, last = locked
    assert architecture(str(source), "image") == _section("glyphs_faces.py:small")
    run, result, state = last("run")
    params = named_leaves(run.state_structure.params)
    frozen = [name for name in params if not run.trainable.trains(name)]
    assert result["frozen_parameters"] == sum(params[name].size for name in frozen)
    for name in (name for name in frozen if name.startswith("encoders/image/")):
        np.testing.assert_array_equal(state[f"params/{name}"], there[name], err_msg=name)
    assert all(np.any(state[f"params/lora/{name}/b"]) for name in run.adapted)


@pytest.mark.slow
def test_it_resumes_exactly_and_without_looking_at_where_it_began(locked):
    source, _, last = locked
    whole = last("whole")[2]
    with pytest.raises(Stopped):
        last("stopped", lambda folder: StopAfter(folder, 1))
    shutil.rmtree(source)
    resumed = last("stopped")[2]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)


def _section(spec):
    return json.loads(load(f"{CONFIGS}/{spec}", [], Config).to_json())["encoders"]["image"]
