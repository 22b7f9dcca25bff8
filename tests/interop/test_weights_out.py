"""What is exported: their names and shapes, that it comes back as it went, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from image_text_models import image_encoder, model, projections, text_encoder, tokenizer
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from contrastive_jax import interop
from contrastive_jax.configuration import Kind, build, complete
from contrastive_jax.encoders import KINDS
from contrastive_jax.encoders.heads import MLP, Linear
from contrastive_jax.errors import InputError
from contrastive_jax.interop.names import flatten

THEIRS = json.loads(Path(__file__).with_name("their_names.json").read_text())
TINY = dict(width=16, depth=2, heads=2, mlp=40)
GELU = dict(TINY, activation="gelu")
SIGLIP = dict(TINY, activation="gelu_tanh", epsilon=1e-6)
SIDE = (16, 16, 3)


def image(**fields):
    return image_encoder(**{**GELU, **fields})


def pair(**fields):
    return model(image(first_norm=True, **fields), text_encoder(**GELU), projections(), SIDE)


def siglip():
    text = text_encoder(**SIGLIP, causal=False, padding=None, end=None)
    head = {"text": Linear(features=16, bias=True)}
    return model(image_encoder(**SIGLIP, pooling="map"), text, head, SIDE, scale=10.0, bias=-9.0)


MODELS = {
    "CLIPModel": pair,
    "CLIPVisionModelWithProjection": lambda: model(
        image(first_norm=True), heads={"image": Linear(features=24)}, shape=SIDE
    ),
    "SiglipModel": siglip,
    "SiglipVisionModel": lambda: model(image_encoder(**SIGLIP, pooling="map"), shape=SIDE),
    "ViTModel": lambda: model(image(), shape=SIDE),
    "Dinov2Model": lambda: model(image(layer_scale=0.1, mlp=64), shape=SIDE),
    "Dinov2Model with SwiGLU": lambda: model(image(layer_scale=0.1, mlp=48, activation="swiglu"), shape=SIDE),
    "Dinov2WithRegistersModel": lambda: model(image(layer_scale=0.1, mlp=64, registers=4), shape=SIDE),
    "open_clip": lambda: model(
        image(layer_scale=0.1, first_norm=True),
        text_encoder(**GELU, layer_scale=0.2),
        projections(bias=True),
        SIDE,
        scale=10.0,
        bias=-1.0,
    ),
}


def written(name, folder):
    made = MODELS[name]()
    interop.save("open_clip" if name == "open_clip" else "huggingface", made, folder)
    return made


def encoder_of(folder, part):
    """The encoder that a config file would make of a folder."""
    section = ConfigDict(interop.architecture(folder, part))
    complete(section, Kind(KINDS))
    return build(section, Kind(KINDS))


def test_a_ratio_that_is_written_with_a_point(tmp_path):
    written("Dinov2Model", tmp_path / "out")
    file = tmp_path / "out/config.json"
    file.write_text(file.read_text().replace('"mlp_ratio": 4,', '"mlp_ratio": 4.0,'))
    mlp = interop.architecture(tmp_path / "out", "image")["mlp"]
    assert (mlp, type(mlp)) == (64, int)


@pytest.mark.parametrize("name", MODELS)
def test_their_names_and_back(tmp_path, name):
    made = written(name, tmp_path / "out")
    weights = interop.read(tmp_path / "out")
    assert {key: list(weights.shape(key)) for key in weights.names} == THEIRS[name]
    known = {"SiglipModel": {"scale": 10, "bias": -9}, "open_clip": {"scale": 10, "bias": -1}}
    own = known.get(name, {"scale": 1} if "logit_scale" in weights else {})
    assert interop.scale(weights) == pytest.approx(own)
    for part, encoder in made.encoders.items():
        found = encoder_of(tmp_path / "out", part)
        params = flatten(interop.load(tmp_path / "out", part, found))
        own = flatten(made.params["encoders"][part])
        without_bias = set(own) - set(params)
        assert without_bias <= {"patches/bias"}
        if without_bias:  # the positions have it
            bias = own.pop("patches/bias")
            own["transformer/position"] = own["transformer/position"] + np.where([[0]] + [[1]] * 4, bias, 0)
        for path, array in params.items():
            np.testing.assert_array_equal(array, own[path], err_msg=path)
        head = interop.head(tmp_path / "out", part)
        if part in made.heads:
            for path, array in made.params["heads"][part]["out"].items():
                np.testing.assert_array_equal(head[path], array)
        assert (found.activation, found.epsilon) == (encoder.activation, encoder.epsilon)


def test_the_same_embeddings_after_a_bias_went_into_the_positions(tmp_path):
    made = written("CLIPModel", tmp_path / "out")
    encoder = encoder_of(tmp_path / "out", "image")
    params, head = (
        f(tmp_path / "out", "image", *more) for f, more in ((interop.load, (encoder,)), (interop.head, ()))
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIDE), dtype=np.uint8)
    apply = jax.jit(lambda params: encoder.apply(params, pixels, train=False, key=None).embedding)
    z = apply(params) @ head["kernel"]
    wanted = jax.jit(made.embed, static_argnums=1)(made.params, "image", pixels)
    np.testing.assert_allclose(z / np.linalg.norm(z, axis=1, keepdims=True), wanted, atol=2e-6)


def test_tokenizer_card_and_pixels_go_along(tmp_path):
    _, vocabulary = tokenizer(tmp_path)
    made = pair(mean=(0.4, 0.5, 0.6), std=(0.2,))
    card = {"step": 7, "data": "jsonl:pairs.jsonl", "metrics": {"retrieval/R@1": 0.25}}
    made = type(made)(**{**vars(made), "vocabulary": vocabulary, "card": card, "scale": 20.0})
    said = interop.save("huggingface", made, tmp_path / "out")
    assert said == {"format": "huggingface", "output": str(tmp_path / "out"), "model": "CLIPModel"}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["text_config"]["eos_token_id"], config["text_config"]["bos_token_id"]) == (3, 2)
    assert (tmp_path / "out/tokenizer.json").read_text() == vocabulary.json
    assert interop.architecture(tmp_path / "out", "image")["mean"] == (0.4, 0.5, 0.6)
    page = (tmp_path / "out/README.md").read_text()
    assert 'CLIPModel.from_pretrained("FOLDER")' in page
    assert "| retrieval/R@1 | 0.25 |" in page
    assert "- step: 7" in page


@pytest.mark.parametrize(
    ("format", "make", "words"),
    [
        ("huggingface", lambda: pair(pooling="mean"), "encoders.image.pooling='mean' (it wants 'cls')"),
        (
            "huggingface",
            lambda: model(image(), text_encoder(**GELU, causal=False), projections(), SIDE),
            "first_norm=False (it wants True); config.encoders.text.causal=False (it wants True)",
        ),
        (
            "huggingface",
            lambda: model(image(first_norm=True), text_encoder(**GELU, end=2), projections(), SIDE),
            "config.encoders.text.end=2 (it wants the id that ends every text, other than 2)",
        ),
        ("huggingface", lambda: model(image(pooling="mean"), shape=SIDE), "(ViTModel) cannot hold"),
        ("huggingface", lambda: model(image(), shape=(16, 8, 3)), "pictures of 16 x 8 x 3"),
        (
            "open_clip",
            lambda: model(image(), text_encoder(**GELU), {"image": MLP(24), "text": Linear(24)}, SIDE),
            "config.branches.image.heads=('image',) (it wants one linear)",
        ),
        ("open_clip", lambda: model(image(), shape=SIDE), "this model has not both"),
        (
            "huggingface",
            lambda: model(image(layer_scale=0.1), shape=SIDE),
            "config.encoders.image.mlp=40 (it wants 32, or of another whole ratio)",
        ),
        ("open_clip", lambda: pair(registers=2), "registers=2 (it wants 0)"),
        ("jar", lambda: pair(), "--format jar: choose one of"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_named(tmp_path, format, make, words):
    with pytest.raises(InputError) as raised:
        interop.save(format, make(), tmp_path / "out")
    assert words in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="there is something there"):
        interop.save("safetensors", pair(), tmp_path)


def test_our_own_names(tmp_path):
    made = pair()
    interop.save("safetensors", made, tmp_path / "out")
    stored = load_file(tmp_path / "out/model.safetensors")
    own = flatten(made.params)
    assert set(stored) == set(own)
    assert "encoders/text/transformer/blocks/mlp/in/kernel" in stored
    for name, array in own.items():
        np.testing.assert_array_equal(stored[name], array, strict=True)


def test_a_single_number_keeps_its_shape(tmp_path):
    made = pair()
    made = type(made)(
        **{**vars(made), "params": {**made.params, "losses": {"clip": {"log_scale": np.float32(3)}}}}
    )
    interop.save("safetensors", made, tmp_path / "out")
    stored = load_file(tmp_path / "out/model.safetensors")
    assert stored["losses/clip/log_scale"].shape == ()


def test_programs_larger_than_their_file_format_are_refused(tmp_path):
    made = pair()
    huge = np.broadcast_to(np.float32(0), (2**29,))
    made = type(made)(**{**vars(made), "params": {**made.params, "losses": {"clip": {"more": huge}}}})
    with pytest.raises(InputError, match="take --format safetensors"):
        interop.save("jax", made, tmp_path / "out")


def test_serialised_programs_embed_without_this_package(tmp_path):
    made = pair()
    interop.save("jax", made, tmp_path / "out")
    said = json.loads((tmp_path / "out/signatures.json").read_text())
    assert said["branches"]["text"]["input"] == {"shape": [None, 12], "dtype": "int32"}
    assert said["branches"]["image"]["output"] == {"shape": [None, 24], "dtype": "float32"}
    draw = np.random.default_rng(0)
    batches = {"image": draw.integers(0, 256, (3, *SIDE), dtype=np.uint8)}
    batches["text"] = draw.integers(0, 60, (3, 12)).astype(np.int32)
    for name, batch in batches.items():
        stored = (tmp_path / f"out/{name}.bin").read_bytes()
        exported = jax.export.deserialize(bytearray(stored))
        assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
        wanted = jax.jit(made.embed, static_argnums=1)(made.params, name, batch)
        rows = {"image": 3, "text": 2}[name]
        np.testing.assert_allclose(exported.call(batch[:rows]), wanted[:rows], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: replace(pair(), scale=5.0, bias=-9.5),
            "has no logit_bias: the loss's bias of -9.5 is",
        ),
        (pair, "no loss here has a scale"),
        (lambda: replace(siglip(), bias=None), "the loss here has no bias: logit_bias is 0"),
    ],
)
def test_a_bias_that_is_lost_or_made_up_is_named(tmp_path, caplog, make, said):
    interop.save("huggingface", make(), tmp_path / "out")
    assert said in caplog.text
