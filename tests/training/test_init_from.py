"""A run begins from the weights of another run or another library; what does not fit is named."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from small import CONFIGS, altered, experiment

from contrastive_jax import interop
from contrastive_jax.configuration import build, load
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.encoders.vision_transformer import VisionTransformer
from contrastive_jax.errors import InputError
from contrastive_jax.interop import names
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.loop import Run, Stopped
from contrastive_jax.training.lora import Adapter
from contrastive_jax.training.starting import InitFrom, architecture, matched
from contrastive_jax.training.structure import named_leaves
from contrastive_jax.training.workdir import write_json


def numbers(structure, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), structure)


def workdir(path, run, seed=0, steps=(7,), **config):
    """A work directory of a run, with made-up parameters in its checkpoints."""
    path.mkdir(parents=True)
    write_json(path / "config.json", {"lora": {}, "encoders": {}, **config})
    with Checkpoints(path / "checkpoints", every=1, keep=None) as checkpoints:
        for step in steps:
            params = numbers(run.state_structure.params, seed + step)
            checkpoints.save(step, {"step": np.int32(step), "params": jax.device_put(params)})
            checkpoints.wait()
    return params


@pytest.fixture(scope="module")
def faces():
    return experiment("glyphs_faces.py:small", batch_size=16)


@pytest.fixture(scope="module")
def pairs():
    """Two towers and two heads; `image` is the tower of `faces`."""
    return experiment("glyphs.py:small", batch_size=16)


def begun(run, base, **entries):
    """The parameters of a run, with those of `entries` in place of `base`."""
    run = altered(run, run.mesh.size, init_from={n: InitFrom(**e) for n, e in entries.items()})
    run.__dict__["_new_state"] = lambda key: base  # what a seed gives is tested elsewhere
    return named_leaves(run.initial_state().params)


class Base:
    """A state that is only parameters."""

    def __init__(self, run, seed=99):
        self.params = jax.device_put(numbers(run.state_structure.params, seed), run.state_shardings.params)

    def _replace(self, params):
        made = object.__new__(Base)
        made.params = params
        return made


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
    ],
)
def test_which_parts(key, parts, theirs, found):
    if isinstance(found, dict):
        assert matched(key, parts, OURS, theirs) == found
    else:
        with pytest.raises(InputError, match=found):
            matched(key, parts, OURS, theirs)


def test_no_part_starts_from_two_places(faces, pairs, tmp_path):
    workdir(tmp_path / "run", faces)
    twice = {"path": str(tmp_path / "run"), "parts": ("encoders/image",)}
    with pytest.raises(
        InputError, match=r"init_from\.b\.parts: encoders/image .*config\.init_from\.a already"
    ):
        begun(pairs, Base(pairs), a=twice, b=twice)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder as Hugging Face's ViT writes it, and its encoder."""
    folder = tmp_path_factory.mktemp("library") / "vit"
    folder.mkdir()
    config = {
        "model_type": "vit",
        "architectures": ["ViTModel"],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
        "num_channels": 3,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"a": np.zeros(1, np.float32)}, folder / "model.safetensors")
    section = interop.architecture(str(folder), "image")
    assert section.pop("kind") == "vision_transformer"
    encoder = VisionTransformer(**section)
    example = jax.ShapeDtypeStruct((1, 32, 32, 3), np.uint8)
    params = numbers(jax.eval_shape(encoder.init, jax.random.key(0), example))
    table = interop.family_of(interop.read(folder)).table(interop.read(folder), "image", encoder)
    save_file(names.save(table.rows, names.flatten(params)), folder / "model.safetensors")
    return folder, encoder, params


def test_the_weights_of_another_library(library):
    folder, encoder, params = library
    photos = experiment("clip.py:small", batch_size=16)
    run = altered(photos, encoders={**photos.config.encoders, "image": encoder})
    found = begun(run, Base(run), image={"path": str(folder)})
    for name, array in named_leaves({"encoders": {"image": params}}).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    with pytest.raises(InputError, match=r"config\.init_from\.image\.path=.*another architecture"):
        begun(photos, Base(photos), image={"path": str(folder)})
    with pytest.raises(InputError, match=r"step=4 and no work directory"):
        begun(run, Base(run), image={"path": str(folder), "step": 4})


def test_the_scale_of_another_library(library, pairs, tmp_path):
    shutil.copy(library[0] / "config.json", tmp_path)
    save_file({"logit_scale": np.log([np.float32(20)])}, tmp_path / "model.safetensors")
    entry = {"path": str(tmp_path), "parts": ("losses/clip=losses/scale",)}
    assert np.exp(begun(pairs, Base(pairs), x=entry)["losses/clip/log_scale"]) == pytest.approx(20, rel=1e-6)


def test_pickles_and_empty_folders_are_refused(library, pairs, tmp_path):
    (tmp_path / "pickled").mkdir()
    shutil.copy(library[0] / "config.json", tmp_path / "pickled")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "untrained" / "checkpoints").mkdir(parents=True)
    for name, message in (("pickled", "pickle"), ("untrained", "no checkpoint yet"), ("absent", "no such")):
        with pytest.raises(InputError, match=rf"config\.init_from\.image\.path=.*{name}.*{message}"):
            begun(pairs, Base(pairs), image={"path": str(tmp_path / name)})


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
        with Checkpoints(folder / "checkpoints", 1, read_only=True) as checkpoints:
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
