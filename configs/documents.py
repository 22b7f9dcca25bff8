"""Retrieval in a small collection, learned from nothing but the collection: titles find their texts.

Arguments: data, the folder that holds retrieval/SET in BEIR's layout; set=cranfield|cacm|vaswani_npl; small,
a model and a run of seconds. Beside titles and texts (a span of the text where there is no title: Izacard et
al. 2022, arXiv 2112.09118) the judged pairs of the training queries are used. Measured on the test queries,
beside BM25 and fused with it.
"""

import os

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, set="cranfield", data=os.environ.get("CONTRASTIVE_JAX_DATA", "data"), small=False)
    folder = f"{arg.data}/retrieval/{arg.set}"
    width = 32 if arg.small else 192
    vocabulary, words, tokens = 8192, 32, 96
    config = ConfigDict()
    config.steps = 6 if arg.small else 600
    config.batch_size = 32 if arg.small else 128
    config.data = dict(
        source=f"beir:{folder}/titles + beir:{folder}/train",
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=vocabulary),
        views=dict(
            query=dict(kind="text", field="query", length=words, span=(0.3, 1.0)),
            document=dict(kind="text", field="document", length=tokens, span=(0.3, 1.0), word_dropout=0.1),
        ),
    )
    config.encoders = dict(
        text=dict(
            kind="text_transformer",
            size="micro",
            width=width,
            depth=1,
            mlp=width,
            pooling="map",
            vocabulary=vocabulary,
            length=tokens,
        )
    )
    config.branches = dict(
        query=dict(view="query", encoder="text"), document=dict(view="document", encoder="text")
    )
    config.losses = dict(
        search=dict(kind="softmax", rows="query", columns="document", positives="document_number", scale=20.0)
    )
    config.optimizer = dict(kind="adamw", learning_rate=1e-3, warmup=0.1, weight_decay=0.1)
    config.checkpoint = dict(every=3 if arg.small else 200)
    config.logging = dict(every=1 if arg.small else 20)
    config.evaluation = dict(
        evaluators=dict(
            test=dict(
                kind="beir",
                queries="query",
                documents="document",
                folder=folder,
                ignore_identical_ids=False,  # queries and documents are both numbered from 1
                fusion="min_max",
                weight=0.3,
            )
        )
    )
    return config
