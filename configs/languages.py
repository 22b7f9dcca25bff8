"""Questions that find their paragraph in another language: XQuAD, learned from few translations.

Arguments: data, the folder that holds retrieval/xquad (corpus/LANG.jsonl, queries/LANG.jsonl) and
parallel/tatoeba/test.parquet (lang, text, english); small, a model and a run of seconds. Trained on sentences
with their English translation and on the questions of the training articles, each language's with English
paragraphs and the other way round; measured on the test articles, beside runs of letters, which need no
translation where names and numbers are written alike. Pairs of two scripts are a figure of their own.
"""

import os

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments

LANGUAGES = {
    "en": "eng",
    "de": "deu",
    "es": "spa",
    "ru": "rus",
    "ar": "ara",
    "hi": "hin",
    "tr": "tur",
    "zh": "cmn",
}


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, data=os.environ.get("CONTRASTIVE_JAX_DATA", "data"), small=False)
    folder = f"{arg.data}/retrieval/xquad"
    width = 32 if arg.small else 192
    vocabulary, words, tokens = 16_384, 32, 128
    languages = ("en", "de", "ru") if arg.small else tuple(LANGUAGES)
    renamed = "rename=text:query,english:document,record:document_number"
    tatoeba = f"parquet:{arg.data}/parallel/tatoeba/test.parquet"
    parts = [f"beir:{folder}/train:{name}" for name in languages]
    parts += [f"beir:{folder}/train:{name}-en" for name in languages if name != "en"]
    parts += [f"beir:{folder}/train:en-{name}" for name in languages if name != "en"]
    parts += [f"{tatoeba}?where=lang:{LANGUAGES[name]}&{renamed}" for name in languages if name != "en"]
    config = ConfigDict()
    config.steps = 6 if arg.small else 600
    config.batch_size = 32 if arg.small else 256
    config.data = dict(
        source=" + ".join(parts),
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=vocabulary),
        views=dict(
            query=dict(kind="text", field="query", length=words, word_dropout=0.1),
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
            xquad=dict(
                kind="beir",
                queries="query",
                documents="document",
                folder=folder,
                query_languages=languages,
                corpus_languages=languages,
                measures=("nDCG@10", "MRR@10"),
                baselines=("tfidf_characters",),
                fusion="min_max",
                weight=0.5,
            )
        )
    )
    return config
