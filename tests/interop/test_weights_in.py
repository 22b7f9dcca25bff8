"""Reading folders of weights: what is refused and how it is said, shards, types, other picture sizes."""

import json
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_text_models import image_encoder, model
from safetensors.numpy import load_file, save_file

from contrastive_jax import interop
from contrastive_jax.encoders import Bert, ResNet
from contrastive_jax.errors import InputError
from contrastive_jax.interop.names import flatten
from contrastive_jax.interop.positions import interpolated

TINY = dict(width=16, depth=2, heads=2, mlp=40, activation="gelu", epsilon=1e-12)
ENCODER = image_encoder(**TINY)
ANY = np.zeros((2, 3), np.float32)


@pytest.fixture
def folder(tmp_path):
    """A small ViTModel."""
    interop.save("huggingface", model(image=ENCODER, shape=(16, 16, 3)), tmp_path / "vit")
    return tmp_path / "vit"


def edited(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_tensors_of_any_type_come_out_as_float32(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    values = {"half": ANY.astype(np.float16), "brain": (ANY + 1.5).astype(ml_dtypes.bfloat16), "own": ANY}
    save_file(values, tmp_path / "model.safetensors")
    weights = interop.read(tmp_path)
    assert weights.names == ("brain", "half", "own")
    assert {weights[name].dtype for name in weights.names} == {np.dtype(np.float32)}
    assert (weights["brain"] == 1.5).all()
    assert weights.shape("half") == (2, 3)


def test_shards(folder):
    whole = flatten(interop.load(folder, "image", ENCODER))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(index.values()):
        save_file({name: tensors[name] for name in names if index[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    parts = flatten(interop.load(folder, "image", ENCODER))
    assert all((parts[name] == whole[name]).all() for name in whole)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(InputError, match=r"part-1.safetensors: no such file"):
        interop.read(folder)


def test_a_folder_of_two_libraries_is_read_as_one_of_them(folder):
    (folder / "open_clip_config.json").write_text("{}")
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    assert interop.read(folder).config_name == "config.json"
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    weights = interop.read(folder)
    assert weights.config_name == "open_clip_config.json"
    assert "layernorm.weight" in weights


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": "four"}, {"layer_norm_eps": None}, {"image_size": "big"}]
)
def test_a_config_with_other_values_is_refused(folder, change):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError) as raised:
        interop.load(folder, "image", ENCODER)
    assert "weights of another architecture" in str(raised.value) or "config.json: not as" in str(
        raised.value
    )


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "inner/x.safetensors", "x.bin"])
def test_a_shard_outside_the_folder_is_refused(tmp_path, name):
    save_file({"a": ANY}, tmp_path / "outside.safetensors")
    (tmp_path / "in/inner").mkdir(parents=True)
    (tmp_path / "in/config.json").write_text("{}")
    index = json.dumps({"weight_map": {"a": name}})
    (tmp_path / "in/model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match="is no safetensors file of this folder"):
        interop.read(tmp_path / "in")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl", "last.ckpt"])
def test_pickles_are_refused_unread(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"\x80\x04cposix\nsystem\n")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=f"{name}: pickled weights are refused: convert to safetensors"):
            interop.read(path)


def test_folders_that_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cases = {
        tmp_path / "nowhere": "no such folder, and no name owner/model",
        "owner/model-that-is-nowhere": "no such folder, and the hub did not give it",
        tmp_path: "neither config.json nor open_clip_config.json is there",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words):
            interop.read(path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(InputError, match="no readable JSON"):
        interop.read(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no \*.safetensors there"):
        interop.read(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(InputError, match="damaged, or no safetensors"):
        interop.read(tmp_path)


def test_a_hub_name_where_nothing_reads_the_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="runs/typo: no such folder; to fetch it from the hub: pip install"):
        interop.read("runs/typo")


def test_an_unknown_family_and_an_unknown_part_are_named(folder):
    with pytest.raises(InputError, match="a vit has no text encoder"):
        interop.architecture(folder, "text")
    with pytest.raises(InputError, match="part 'sound': choose one of image, text"):
        interop.architecture(folder, "sound")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(InputError, match="model_type 'llama' is not one of clip, "):
        interop.load(folder, "image", ENCODER)


def test_every_mismatch_is_named_in_one_line(folder):
    layer = "encoder.layer.1."

    def spoil(tensors):
        tensors[f"{layer}more.weight"] = ANY
        tensors["pooler.dense.weight"] = ANY  # nothing here depends on it
        del tensors[f"{layer}output.dense.bias"]
        tensors["layernorm.weight"] = np.zeros(17, np.float32)

    edited(folder, spoil)
    with pytest.raises(InputError) as raised:
        interop.load(folder, "image", ENCODER)
    assert str(raised.value) == (
        f"{folder}: weights of another architecture: 1 missing: {layer}output.dense.bias; "
        f"1 left over: {layer}more.weight; 1 of another shape: layernorm.weight [17] (wanted [16])"
    )


def test_many_mismatches_are_counted(folder):
    with pytest.raises(InputError, match=r"16 missing: .* and 8 more") as raised:
        interop.load(folder, "image", image_encoder(**{**TINY, "depth": 3}))
    assert str(raised.value).count("encoder.layer.2.") == 8


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(activation="quick_gelu"), "activation='quick_gelu' (there 'gelu')"),
        (dict(epsilon=1e-6, heads=4), "epsilon=1e-06 (there 1e-12), heads=4 (there 2)"),
        (dict(pooling="mean"), "pooling='mean' (there 'cls')"),
    ],
)
def test_fields_that_change_no_shape_are_compared(folder, fields, words):
    with pytest.raises(InputError) as raised:
        interop.load(folder, "image", image_encoder(**{**TINY, **fields}))
    differ = str(raised.value).partition("architecture: ")[2]
    assert sorted(differ.split(", ")) == sorted(words.split(", "))


def test_the_normalisation_of_pixels_is_read_where_each_version_writes_it(folder):
    def found():
        section = interop.architecture(folder, "image")
        return section["mean"], section["std"]

    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").unlink()
    assert found() == ((0.5,) * 3, (0.5,) * 3)
    whole = {"processor_class": "CLIPProcessor", "image_processor": said}
    (folder / "processor_config.json").write_text(json.dumps(whole))
    assert found() == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, "image_mean": [0.7, 0.8, 0.9]}))
    assert found() == ((0.7, 0.8, 0.9), (0.4, 0.5, 0.6))


def test_an_encoder_that_is_told_by_its_size_fits(tmp_path):
    by_size = dict(TINY, size="micro", width=None, depth=None, heads=None, mlp=None)
    made = model(image=image_encoder(**by_size), shape=(16, 16, 3))
    interop.save("huggingface", made, tmp_path / "vit")
    loaded = flatten(interop.load(tmp_path / "vit", "image", image_encoder(**by_size)))
    for name, array in flatten(made.params["encoders"]["image"]).items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)
    with pytest.raises(InputError, match=r"heads=2 \(there 4\)"):
        interop.load(tmp_path / "vit", "image", image_encoder(**{**by_size, "heads": 2}))


def test_an_encoder_of_another_kind_is_told_so(folder):
    with pytest.raises(InputError, match="weights of a vision_transformer, and the encoder here is a resnet"):
        interop.load(folder, "image", ResNet(size="micro"))
    # In every field that both have it is alike.
    alike = Bert(**TINY, pooling="cls")
    with pytest.raises(InputError, match="weights of a vision_transformer, and the encoder here is a bert"):
        interop.load(folder, "image", alike, jax.ShapeDtypeStruct((1, 16), np.int32))


@pytest.mark.parametrize("shape", [(17,), (1, 16), (1, 3, 16)])
def test_a_table_of_positions_that_is_none(folder, shape):
    name = "embeddings.position_embeddings"
    edited(folder, lambda tensors: tensors.update({name: np.zeros(shape, np.float32)}))
    with pytest.raises(InputError):
        interop.load(folder, "image", ENCODER)


def test_a_scale_that_is_several_numbers_is_refused(folder):
    edited(folder, lambda tensors: tensors.update(logit_scale=np.zeros(2, np.float32)))
    with pytest.raises(InputError, match=r"logit_scale \[2\] is no single number"):
        interop.scale(folder)


def test_a_larger_picture_has_its_positions_interpolated(folder):
    example = jax.ShapeDtypeStruct((1, 24, 32, 3), np.uint8)
    larger = interop.load(folder, "image", ENCODER, example)["transformer"]["position"]
    own = interop.load(folder, "image", ENCODER)["transformer"]["position"]
    assert larger.shape == (1 + 3 * 4, 16)
    np.testing.assert_array_equal(larger[0], own[0])
    np.testing.assert_array_equal(larger[1:], interpolated(own[1:], 3, 4))


# PyTorch's interpolate(mode="bicubic", align_corners=False) of 0, 1, ..., 8 as a grid of 3 x 3.
AS_PYTORCH = {
    (2, 2): [[0.765625, 2.3828125], [5.6171875, 7.234375]],
    (4, 4): [
        [-0.287109375, 0.314453125, 1.2548828125, 1.8564453125],
        [1.517578125, 2.119140625, 3.0595703125, 3.661133050918579],
        [4.3388671875, 4.9404296875, 5.880859375, 6.482421875],
        [6.1435546875, 6.7451171875, 7.685546875, 8.287109375],
    ],
}


@pytest.mark.parametrize("size", AS_PYTORCH)
def test_interpolation_has_known_values(size):
    found = interpolated(np.arange(9.0)[:, None], *size).reshape(size)
    np.testing.assert_allclose(found, AS_PYTORCH[size], atol=1e-5)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))
def test_interpolation_keeps_a_level_and_the_same_size(side, height, width):
    level = interpolated(np.full((side * side, 2), 3.0), height, width)
    np.testing.assert_allclose(level, 3, atol=1e-6)
    drawn = np.random.default_rng(side).normal(size=(side * side, 2)).astype(np.float32)
    np.testing.assert_array_equal(interpolated(drawn, side, side), drawn)


def test_positions_that_are_no_square_are_refused():
    with pytest.raises(InputError, match="7 positions are no square grid"):
        interpolated(np.zeros((7, 2)), 3, 3)
