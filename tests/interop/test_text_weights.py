"""Text encoders in and out: their names and shapes, that they come back as they went, what is refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from image_text_models import model
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from contrastive_jax import interop
from contrastive_jax.configuration import Kind, build, complete
from contrastive_jax.encoders import KINDS, Bert, ModernBert
from contrastive_jax.errors import InputError
from contrastive_jax.interop.names import flatten

THEIRS = json.loads(Path(__file__).with_name("their_text_names.json").read_text())
TINY = dict(width=16, depth=2, heads=2, mlp=40, vocabulary=60, length=12)
LATER = dict(TINY, padding=1, offset=2, pooling="pooler")
ENCODERS = {
    "BertModel": Bert(**TINY, pooling="pooler"),
    "RobertaModel": Bert(**LATER, types=1, activation="gelu_tanh", epsilon=1e-5),
    "MPNetModel": Bert(**LATER, types=0, relative_buckets=32),
    "ModernBertModel": ModernBert(**TINY, padding=1, window=6, every=2, theta=1e3, local_theta=1e2),
}


def encoder_of(folder, **changes):
    """The encoder that a config file would make of a folder."""
    section = ConfigDict({**interop.architecture(folder, "text"), **changes})
    complete(section, Kind(KINDS))
    return build(section, Kind(KINDS))


def saved(name, folder):
    """Weights of such a class, and the parameters that they came from."""
    made = model(text=ENCODERS[name])
    interop.save("huggingface", made, folder)
    return made.params["encoders"]["text"]


def edited(folder, name="config.json", **changes):
    """Changes keys of a JSON object; those that are ... are removed."""
    content = {**json.loads((folder / name).read_text()), **changes}
    (folder / name).write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def assert_equal(one, two):
    one, two = flatten(one), flatten(two)
    assert set(one) == set(two)
    for name, array in one.items():
        # The first attention norm of ModernBERT is in no file, for nothing reads it.
        skipped = int(name == "blocks/attention_norm/scale" and "embedding_norm/scale" in one)
        np.testing.assert_array_equal(array[skipped:], two[name][skipped:], err_msg=name)


@pytest.mark.parametrize("name", ENCODERS)
def test_their_names_and_back(name, tmp_path):
    params = saved(name, tmp_path)
    weights = interop.read(tmp_path)
    assert {key: list(weights.shape(key)) for key in weights.names} == THEIRS[name]
    assert weights.config["architectures"] == [name]
    pooling = ENCODERS[name].pooling
    encoder = encoder_of(tmp_path, **({"pooling": pooling} if pooling == "pooler" else {}))
    assert encoder == ENCODERS[name]
    loaded = interop.load(tmp_path, "text", encoder)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("float32")}
    assert_equal(loaded, params)


def test_names_around_the_encoder_and_older_ones(tmp_path):
    params = saved("BertModel", tmp_path)
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, array in load_file(tmp_path / "model.safetensors").items():
        for new, old in older.items():
            name = name.replace(new, old)
        tensors[f"bert.{name}"] = array
    tensors |= {
        "cls.predictions.bias": tensors["bert.pooler.dense.bias"],
        "bert.embeddings.position_ids": np.arange(12),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert_equal(interop.load(tmp_path, "text", encoder_of(tmp_path, pooling="pooler")), params)
    without = interop.load(tmp_path, "text", encoder_of(tmp_path))
    assert_equal(without, {name: value for name, value in params.items() if name != "pooler"})


def test_an_xlm_roberta_is_a_roberta(tmp_path):
    params = saved("RobertaModel", tmp_path)
    edited(tmp_path, model_type="xlm-roberta", type_vocab_size=1, hidden_act="gelu_new", pad_token_id=...)
    encoder = encoder_of(tmp_path, pooling="pooler")
    assert encoder == ENCODERS["RobertaModel"]
    assert_equal(interop.load(tmp_path, "text", encoder), params)


def test_older_keys_of_modernbert(tmp_path):
    saved("ModernBertModel", tmp_path)
    edited(tmp_path, layer_types=..., rope_parameters=...)
    assert encoder_of(tmp_path) == ENCODERS["ModernBertModel"]
    edited(tmp_path, local_rope_theta=None)
    assert encoder_of(tmp_path).local_theta == 1e3
    edited(tmp_path, layer_types=["full_attention"] * 2, rope_parameters=None)
    assert encoder_of(tmp_path).every == 1


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("BertModel", {"is_decoder": True}, "is_decoder=True is not supported, only False is"),
        ("BertModel", {"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ("BertModel", {"hidden_act": "mish"}, "activation 'mish' is not one of gelu,"),
        ("MPNetModel", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets=16 is not"),
        ("ModernBertModel", {"norm_bias": True}, "norm_bias=True is not supported"),
        ("ModernBertModel", {"rope_scaling": {"factor": 2.0}}, "rope_scaling={'factor': 2.0} is not"),
        ("ModernBertModel", {"layer_types": ["sliding_attention"] * 2}, r"layers \[\] is not every n-th"),
        ("ModernBertModel", {"model_type": "gpt2"}, "model_type 'gpt2' is not one of"),
    ],
)
def test_variants_that_are_not_here_are_refused_by_key(name, changes, words, tmp_path):
    saved(name, tmp_path)
    edited(tmp_path, **changes)
    with pytest.raises(InputError, match=words):
        interop.architecture(tmp_path, "text")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 1}, "6 left over: layers.1.attn.Wo.weight"),
        ({"depth": 3, "every": 2}, "6 missing: layers.2.attn_norm.weight"),
        ({"mlp": 44}, r"of another shape: layers.0.mlp.Wi.weight \[80, 16\] \(wanted \[88, 16\]\)"),
        ({"window": 8, "theta": 5.0}, r"window=8 \(there 6\), theta=5.0 \(there 1000.0\)"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_name(changes, words, tmp_path):
    saved("ModernBertModel", tmp_path)
    encoder = ModernBert(**{**vars(ENCODERS["ModernBertModel"]), **changes})
    with pytest.raises(InputError, match=words):
        interop.load(tmp_path, "text", encoder)


def test_there_is_no_image_part(tmp_path):
    saved("BertModel", tmp_path)
    with pytest.raises(InputError, match="a bert has no image part"):
        interop.architecture(tmp_path, "image")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offset": 3}, r"text.offset=3 \(it wants 0 or 2\)"),
        ({"types": 0}, r"text.types=0 \(it wants 1 or 2\)"),
        ({"relative_buckets": 8, "types": 0}, r"text.relative_buckets=8 \(it wants 32\)"),
        ({"relative_buckets": 32, "types": 0, "padding": 0}, r"text.padding=0 \(it wants 1\)"),
    ],
)
def test_what_no_class_of_theirs_computes_is_refused_by_key(changes, words, tmp_path):
    encoder = Bert(**{**LATER, "types": 1, **changes})
    with pytest.raises(InputError, match=words):
        interop.save("huggingface", model(text=encoder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
