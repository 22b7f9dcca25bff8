"""Our text encoders as transformers loads them, each by its own class."""

import numpy as np
import pytest
import torch
import transformers
from agreement import TOLERANCE, error
from text_models import LENGTH, SMALL, TEXTS, model

from contrastive_jax import interop
from contrastive_jax.encoders import Bert, ModernBert

LATER = dict(SMALL, padding=1, offset=2)
CLASSES = {
    "BertModel": Bert(**SMALL, pooling="pooler"),
    "RobertaModel": Bert(**LATER, types=1, pooling="pooler"),
    "XLMRobertaModel": Bert(**LATER, types=1, pooling="pooler"),
    "MPNetModel": Bert(**LATER, types=0, relative_buckets=32, pooling="pooler"),
    "ModernBertModel": ModernBert(**SMALL, window=4, every=2, theta=1000.0, local_theta=100.0),
}


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_tokens_and_embeddings(name, tmp_path):
    encoder = CLASSES[name]
    ours = model(encoder, None, False, tmp_path)
    interop.save("huggingface", ours, tmp_path / "folder")
    theirs = getattr(transformers, name).from_pretrained(tmp_path / "folder").eval()
    ids = np.random.default_rng(0).integers(2, 400, (5, 30))
    ids = np.where(np.arange(30) < np.array([30, 4, 1, 17, 29])[:, None], ids, encoder.padding)
    real = ids != encoder.padding
    out = theirs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(real).long())
    own = encoder.apply(ours.params["encoders"]["text"], ids, train=False, key=None)
    assert error(np.asarray(own.tokens)[real], out.last_hidden_state.detach().numpy()[real]) < TOLERANCE
    if encoder.pooling == "pooler":
        assert error(own.embedding, out.pooler_output.detach()) < TOLERANCE


def test_the_tokenizer_is_there(tmp_path):
    interop.save("huggingface", model(CLASSES["BertModel"], None, False, tmp_path), tmp_path / "folder")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert loaded.model_max_length == LENGTH
    assert (loaded.pad_token_id, loaded.unk_token_id, loaded.cls_token_id, loaded.sep_token_id) == (
        0,
        1,
        2,
        3,
    )
    assert loaded(TEXTS[0])["input_ids"][0] == 2
