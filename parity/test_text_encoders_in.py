"""BERT, RoBERTa, XLM-R, MPNet and ModernBERT: transformers' models against ours with their weights."""

import numpy as np
import pytest
import torch
import transformers
from agreement import TOLERANCE, check, error, randomized

from contrastive_jax import interop
from contrastive_jax.encoders import KINDS
from contrastive_jax.encoders.bert import buckets
from contrastive_jax.encoders.token_encoder import ACTIVATIONS
from contrastive_jax.interop.bert import ACTIVATIONS as THEIR_ACTIVATIONS

SMALL = dict(
    vocab_size=99,
    hidden_size=48,
    num_hidden_layers=5,
    num_attention_heads=4,
    intermediate_size=80,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
LATER = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, max_position_embeddings=300)
POOLED = {
    "bert": (transformers.BertModel, dict(max_position_embeddings=200, hidden_act="gelu_new")),
    "roberta": (transformers.RobertaModel, dict(LATER, type_vocab_size=1, layer_norm_eps=1e-5)),
    "xlm-roberta": (transformers.XLMRobertaModel, dict(LATER, type_vocab_size=1)),
    "mpnet": (transformers.MPNetModel, LATER),
}
SPECIAL = dict(pad_token_id=3, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
# Longer than the windows, and 7 blocks are two rounds of a global and two local ones, and a global one.
ROTATED = dict(SPECIAL, num_hidden_layers=7, local_attention=16, max_position_embeddings=256)
FAMILIES = {**POOLED, "modernbert": (transformers.ModernBertModel, ROTATED)}
LENGTHS = (180, 1, 140, 33, 7, 90)


def made(kind, tmp_path):
    """A randomized model of transformers, saved, and texts [6, 180] that end with its padding."""
    model, settings = FAMILIES[kind]
    model = randomized(model(model.config_class(**{**SMALL, **settings})))
    model.save_pretrained(tmp_path)
    return model, texts(model.config.pad_token_id)


def texts(padding, lengths=LENGTHS):
    ids = np.random.default_rng(1).integers(4, 99, (len(lengths), max(lengths)))
    return np.where(np.arange(max(lengths)) < np.array(lengths)[:, None], ids, padding).astype(np.int32)


def encoder_of(folder, **changes):
    section = {**interop.architecture(folder, "text"), **changes}
    return KINDS[section.pop("kind")](**section)


def outputs(model, ids):
    ids = torch.as_tensor(ids)
    return model(input_ids=ids, attention_mask=(ids != model.config.pad_token_id).long()), ids


def mean(model, ids):
    out, ids = outputs(model, ids)
    real = (ids != model.config.pad_token_id)[..., None]
    return (out.last_hidden_state * real).sum(1) / real.sum(1)


def first(model, ids):
    return outputs(model, ids)[0].last_hidden_state[:, 0]


def pooler(model, ids):
    return outputs(model, ids)[0].pooler_output


@pytest.mark.parametrize(("pooling", "features"), [("mean", mean), ("cls", first)])
@pytest.mark.parametrize("kind", FAMILIES)
def test_embeddings_and_gradients(kind, pooling, features, tmp_path):
    model, ids = made(kind, tmp_path)
    check(tmp_path, "text", encoder_of(tmp_path, pooling=pooling), model, features, ids)


@pytest.mark.parametrize("kind", POOLED)
def test_the_pooler(kind, tmp_path):
    model, ids = made(kind, tmp_path)
    check(tmp_path, "text", encoder_of(tmp_path, pooling="pooler"), model, pooler, ids)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_token(kind, tmp_path):
    model, ids = made(kind, tmp_path)
    encoder = encoder_of(tmp_path)
    out = encoder.apply(interop.load(tmp_path, "text", encoder), ids, train=False, key=None)
    real = ids != encoder.padding
    theirs = outputs(model, ids)[0].last_hidden_state.detach().numpy()
    assert error(np.asarray(out.tokens)[real], theirs[real]) < TOLERANCE


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_file_with_a_task_around_the_encoder(kind, tmp_path):
    model, ids = made(kind, tmp_path / "plain")
    whole = transformers.AutoModelForMaskedLM.from_config(model.config)
    whole.base_model.load_state_dict(model.state_dict(), strict=False)
    whole.save_pretrained(tmp_path / "whole")
    encoder = encoder_of(tmp_path / "whole")
    params = interop.load(tmp_path / "whole", "text", encoder)
    ours = encoder.apply(params, ids, train=False, key=None).embedding
    assert error(ours, mean(model, ids).detach()) < TOLERANCE


@pytest.mark.parametrize("name", sorted(THEIR_ACTIVATIONS))
def test_activations_by_their_names(name):
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    theirs = transformers.activations.ACT2FN[name](torch.tensor(x))
    assert error(ACTIVATIONS[THEIR_ACTIVATIONS[name]](x), theirs) < TOLERANCE


def test_buckets_of_relative_positions_at_every_distance():
    places = torch.arange(600)
    bucket = transformers.models.mpnet.modeling_mpnet.MPNetEncoder.relative_position_bucket
    np.testing.assert_array_equal(buckets(600, 32), bucket(places[None, :] - places[:, None]).numpy())
