"""Our text models as sentence-transformers loads them, with our own tokenizer."""

import jax
import numpy as np
import pytest
from agreement import TOLERANCE, error
from sentence_transformers import SentenceTransformer
from text_models import LENGTH, SMALL, TEXTS, model, tokenizer
from transformers import AutoTokenizer

from contrastive_jax import interop
from contrastive_jax.encoders import Bert, ModernBert
from contrastive_jax.encoders.heads import Linear
from contrastive_jax.interop.sentence_transformers import modules

MODELS = {  # encoder, head, whether to unit length
    "bert": (Bert(**SMALL), None, True),
    "bert, cls": (
        Bert(**SMALL, pooling="cls", activation="gelu_tanh", types=1, epsilon=1e-6),
        Linear(20, bias=True),
        False,
    ),
    "roberta": (Bert(**SMALL, offset=1, types=1), Linear(20), True),
    "modernbert": (ModernBert(**SMALL, window=4), Linear(20, bias=True), True),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_vectors_there_and_the_same_weights_back(kind, tmp_path):
    ours, folder = model(*MODELS[kind], tmp_path), tmp_path / "folder"
    interop.save("sentence-transformers", ours, folder)
    ids = np.stack([tokenizer().encode(text, LENGTH) for text in TEXTS])
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert error(ours.embed(ours.params, "text", ids), theirs) < TOLERANCE

    encoder, head, normalize = MODELS[kind]
    assert interop.architecture(folder, "text")["pooling"] == encoder.pooling
    params = interop.load(folder, "text", encoder)
    jax.tree.map(np.testing.assert_array_equal, params, unread(ours.params["encoders"]["text"]))
    found = interop.head(folder, "text")
    jax.tree.map(np.testing.assert_array_equal, found, head and ours.params["heads"]["out"]["out"])
    found = modules(interop.read(folder))
    assert (found.normalize, found.length) == (normalize, LENGTH)


def test_the_same_tokens(tmp_path):
    interop.save("sentence-transformers", model(*MODELS["bert"], tmp_path), tmp_path / "folder")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "folder")
    theirs = loaded(TEXTS, padding="max_length", truncation=True)
    for text, ids, mask in zip(TEXTS, theirs["input_ids"], theirs["attention_mask"], strict=True):
        np.testing.assert_array_equal(ids, tokenizer().encode(text, LENGTH))
        np.testing.assert_array_equal(mask, np.asarray(ids) != 0)
    assert len(loaded) == len(tokenizer())


def unread(params):
    """ModernBERT's first attention norm is never read, nor written."""
    if "embedding_norm" not in params:
        return params
    params = jax.tree.map(np.array, params)
    params["blocks"]["attention_norm"]["scale"][0] = 1
    return params
