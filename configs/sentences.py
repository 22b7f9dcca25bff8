"""Sentence embeddings from inference data: supervised SimCSE (Gao et al. 2021, arXiv 2104.08821).

A sentence, what follows from it, and what contradicts it as a hard negative; measured on sentence pairs whose
similarity people have scored. Arguments: data, the folder that holds nli/triples_train.jsonl (anchor,
positive, negative) and sts/; small, a model and a run of seconds.
"""

import os

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, data=os.environ.get("CONTRASTIVE_JAX_DATA", "data"), small=False)
    width = 32 if arg.small else 128
    vocabulary, length = 8192, 32
    config = ConfigDict()
    config.steps = 6 if arg.small else 600
    config.batch_size = 32 if arg.small else 256
    roles = ("anchor", "positive", "negative")
    config.data = dict(
        source=f"jsonl:{arg.data}/nli/triples_train.jsonl",
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=vocabulary),
        views={role: dict(kind="text", field=role, length=length, word_dropout=0.1) for role in roles},
    )
    config.encoders = dict(
        text=dict(
            kind="bert",
            size="micro",
            width=width,
            depth=1,
            vocabulary=vocabulary,
            length=length,
            dropout=0.1,
        )
    )
    config.branches = {role: dict(view=role, encoder="text") for role in roles}
    config.losses = dict(
        simcse=dict(kind="softmax", rows="anchor", columns="positive", negatives="negative", scale=20.0)
    )
    config.optimizer = dict(kind="adamw", learning_rate=1e-3, warmup=0.1, weight_decay=0.1)
    config.checkpoint = dict(every=3 if arg.small else 200)
    config.logging = dict(every=1 if arg.small else 20)
    sts = dict(kind="sts", branch="anchor", baselines=("tfidf", "tfidf_characters"))
    config.evaluation = dict(
        source=f"parquet:{arg.data}/sts/stsb_en/test.parquet",
        evaluators=dict(
            stsb=dict(**sts),
            sts12_16=dict(source=f"parquet:{arg.data}/sts/sts12_16.parquet", group="year", **sts),
            sick=dict(
                **sts,
                source=f"parquet:{arg.data}/sts/sick/test.parquet",
                score="relatedness",
            ),
        ),
    )
    return config
