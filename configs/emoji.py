"""Emoji pictures and their names: image-text in one language, or n-way with several.

Arguments: data, the folder that holds emoji_noto_multilingual (WebDataset tars of 64 x 64 PNGs with names and
keywords in ten languages); languages, one or several of them as en+de+zh: each is a branch of its own through
one shared text encoder, and has a loss with the picture; symile, one loss of the picture and the first two
languages together in place of the pairwise ones (Saporta et al. 2024, arXiv 2411.01053); small, a model and a
run of seconds. Held-out emoji are whole concepts with all their skin tones; figures are of those without one.
"""

import os

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments

LANGUAGES = ("en", "de", "fr", "es", "zh", "ja", "ar", "hi", "ru", "sw")


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(
        arg,
        data=os.environ.get("CONTRASTIVE_JAX_DATA", "data"),
        languages="en",
        symile=False,
        small=False,
    )
    languages = LANGUAGES if arg.languages == "all" else tuple(arg.languages.split("+"))
    folder = f"{arg.data}/emoji_noto_multilingual"
    width = 32 if arg.small else 128
    vocabulary, length = 4096, 24
    config = ConfigDict()
    config.steps = 8 if arg.small else 800 if len(languages) < 3 else 300
    config.batch_size = 32 if arg.small else 256
    photo = dict(
        kind="photo",
        resolution=16 if arg.small else 32,
        crop=(0.7, 1.0),
        ratio=(0.9, 1.11),
        jitter=(0.2, 0.2, 0.2, 0.0),
    )
    text = dict(kind="text", length=length, word_dropout=0.15)
    config.data = dict(
        source=f"webdataset:{folder}/train-*.tar",
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=vocabulary),
        views=dict(image=photo, **{name: dict(field=f"tts.{name}", **text) for name in languages}),
    )
    config.encoders = dict(
        image=dict(kind="resnet", size="micro", stem="small", stride=2, width=width // 4, groups=8),
        text=dict(
            kind="bert",
            size="micro",
            width=width,
            depth=1 if arg.small else 2,
            vocabulary=vocabulary,
            length=length,
            dropout=0.1,
        ),
    )
    config.heads = dict(image=dict(kind="linear", features=width), text=dict(kind="linear", features=width))
    config.branches = dict(
        image=dict(view="image", encoder="image", heads=("image",)),
        **{name: dict(view=name, encoder="text", heads=("text",)) for name in languages},
    )
    pair = dict(kind="softmax", columns="image", scale=10.0, label_smoothing=0.1)
    config.losses = {name: dict(rows=name, weight=1 / len(languages), **pair) for name in languages}
    if arg.symile:
        config.losses = dict(symile=dict(kind="symile", views=("image", *languages[:2])))
    config.optimizer = dict(kind="adamw", learning_rate=2e-3, warmup=0.1, weight_decay=0.2)
    config.checkpoint = dict(every=4 if arg.small else 250)
    config.logging = dict(every=2 if arg.small else 20)
    config.evaluation = dict(
        source=f"webdataset:{folder}/test-*.tar?where=skin_tone:false",
        evaluators={
            f"retrieval_{name}": dict(kind="retrieval", rows=name, columns="image", right=("record",))
            for name in languages
        },
    )
    return config
