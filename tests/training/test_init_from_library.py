"""A run begins from the weights of another library, in a folder; what it cannot take is named."""

import json
import shutil

import jax
import numpy as np
import pytest
from beginnings import Base, begun, check_that_processes_compare, numbers
from safetensors.numpy import load_file, save_file
from small import altered, experiment

from contrastive_jax import interop
from contrastive_jax.encoders.vision_transformer import VisionTransformer
from contrastive_jax.errors import InputError
from contrastive_jax.interop import names
from contrastive_jax.losses.sigmoid import SigmoidContrastive
from contrastive_jax.training.structure import named_leaves


@pytest.fixture(scope="module")
def pairs():
    return experiment("glyphs.py:small", batch_size=16)


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


def test_several_processes_compare_what_they_read(library, tmp_path):
    shutil.copytree(library[0], tmp_path / "vit")
    file = tmp_path / "vit" / "model.safetensors"
    photos = experiment("clip.py:small", batch_size=16)
    run = altered(photos, encoders={**photos.config.encoders, "image": library[1]})

    def change():
        tensors = load_file(file)
        tensors["layernorm.bias"] += 1
        save_file(tensors, file)

    check_that_processes_compare(run, {"path": str(tmp_path / "vit")}, change)


def test_the_scale_of_another_library(library, pairs, tmp_path):
    shutil.copy(library[0] / "config.json", tmp_path)
    save_file({"logit_scale": np.log([np.float32(20)])}, tmp_path / "model.safetensors")
    entry = {"path": str(tmp_path), "parts": ("losses/clip=losses/scale",)}
    assert np.exp(begun(pairs, Base(pairs), x=entry)["losses/clip/log_scale"]) == pytest.approx(20, rel=1e-6)
    save_file({"logit_bias": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"init_from\.x\.path=.*it has no losses/scale"):
        begun(pairs, Base(pairs), x=entry)


def stored(folder, config, **tensors):
    """A folder of nothing but what a loss learned."""
    folder.mkdir(exist_ok=True)
    shutil.copy(config / "config.json", folder)
    save_file({name: np.array([x], np.float32) for name, x in tensors.items()}, folder / "model.safetensors")
    return {"path": str(folder), "parts": ("losses/clip=losses/scale",)}


def test_what_only_one_of_two_losses_learns_is_named(library, pairs, tmp_path, caplog):
    """SigLIP's weights under the softmax loss, CLIP's under the sigmoid loss; the scale in its own unit."""
    caplog.set_level("INFO")
    siglip = stored(tmp_path / "siglip", library[0], logit_scale=np.log(90), logit_bias=-12.5)
    found = begun(pairs, Base(pairs), x=siglip)
    assert np.exp(found["losses/clip/log_scale"]) == pytest.approx(90, rel=1e-6)
    assert "losses/clip/bias" not in found
    assert "init_from.x: no loss here has losses/clip/bias: left there" in caplog.text
    assert f"not taken from {tmp_path}/siglip: encoders/image" in caplog.text

    rows, columns = pairs.config.losses["clip"].branches
    sigmoid = altered(pairs, losses={"clip": SigmoidContrastive(rows=rows, columns=columns)})
    found = begun(sigmoid, Base(sigmoid), x=siglip)
    assert np.exp(found["losses/clip/log_scale"]) == pytest.approx(90, rel=1e-6)
    assert float(found["losses/clip/bias"]) == -12.5
    assert caplog.text.count("losses/clip/bias") == 1

    base = Base(sigmoid)
    found = begun(sigmoid, base, x=stored(tmp_path / "clip", library[0], logit_scale=np.log(50)))
    assert np.exp(found["losses/clip/log_scale"]) == pytest.approx(50, rel=1e-6)
    assert found["losses/clip/bias"] == base.params["losses"]["clip"]["bias"]
    assert "init_from.x: losses/clip/bias is not there: it starts anew" in caplog.text


def test_a_scale_beyond_its_bound_is_refused(library, pairs, tmp_path):
    """The first update would cut it to 100; CLIP's own stands at 100 within its rounding."""
    large = stored(tmp_path / "x", library[0], logit_scale=np.log(117.3))
    with pytest.raises(
        InputError, match=r"config\.losses\.clip\.scale_max=100: .* is 117\.3; give a larger one"
    ):
        begun(pairs, Base(pairs), x=large)
    begun(pairs, Base(pairs), x=stored(tmp_path / "x", library[0], logit_scale=4.6052))


def test_pickles_and_empty_folders_are_refused(library, pairs, tmp_path):
    (tmp_path / "pickled").mkdir()
    shutil.copy(library[0] / "config.json", tmp_path / "pickled")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "untrained" / "checkpoints").mkdir(parents=True)
    for name, message in (("pickled", "pickle"), ("untrained", "no checkpoint yet"), ("absent", "no such")):
        with pytest.raises(InputError, match=rf"config\.init_from\.image\.path=.*{name}.*{message}"):
            begun(pairs, Base(pairs), image={"path": str(tmp_path / name)})
