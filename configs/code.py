"""Code search: a function is found by what its docstring says.

Arguments: set=docstrings, the functions of the Python packages that are installed here, with whole packages
held out; set=cosqa, questions that people asked the web (needs data, the folder that holds
code_search/cosqa); small, a model and a run of seconds. One encoder embeds both, so that a word means the
same on both sides.
"""

import os

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments

BASELINES = ("bm25_identifiers", "tfidf_characters")


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, set="docstrings", data=os.environ.get("CONTRASTIVE_JAX_DATA", "data"), small=False)
    width = 32 if arg.small else 192
    vocabulary, words, tokens = 16_384, 32, 96
    config = ConfigDict()
    config.steps = 6 if arg.small else 800
    config.batch_size = 32 if arg.small else 256
    config.data = dict(
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=vocabulary, identifiers=True),
        views=dict(
            docstring=dict(kind="text", field="docstring", length=words, word_dropout=0.1),
            code=dict(kind="text", field="code", length=tokens, word_dropout=0.1),
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
        docstring=dict(view="docstring", encoder="text"), code=dict(view="code", encoder="text")
    )
    config.losses = dict(search=dict(kind="softmax", rows="docstring", columns="code", scale=20.0))
    config.optimizer = dict(kind="adamw", learning_rate=1e-3, warmup=0.1, weight_decay=0.1)
    config.checkpoint = dict(every=3 if arg.small else 200)
    config.logging = dict(every=1 if arg.small else 20)
    compare = dict(baselines=BASELINES, fusion="min_max")
    if arg.set == "cosqa":
        folder = f"{arg.data}/code_search/cosqa"
        config.steps = 6 if arg.small else 400
        config.data.source = f"jsonl:{folder}/corpus.jsonl?keys={folder}/train_ids.txt"
        config.data.views.docstring.field = "metadata.docstring"
        config.data.views.code.field = "metadata.code_without_docstring"
        evaluator = dict(
            kind="beir",
            queries="docstring",
            documents="code",
            folder=folder,
            document_text=("metadata.code_without_docstring",),
            **compare,
        )
    else:
        config.data.source = "docstrings:train"
        evaluator = dict(
            kind="pairs",
            queries="docstring",
            answers="code",
            query_text="docstring",
            answer_text="code",
            source="docstrings:held_out",
            candidates=100 if arg.small else 1000,
            **compare,
        )
    config.evaluation = dict(evaluators=dict(functions=evaluator))
    return config
