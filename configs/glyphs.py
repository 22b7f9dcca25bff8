"""Pictures of characters and their Unicode names: the run of `make train`.

Arguments: loss=softmax|sigmoid; small, a model and a run of seconds for tests.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments

TEMPLATES = (
    "{} letter",
    "{} small letter",
    "{} capital letter",
    "{} syllable",
    "{} sign",
)


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, loss="softmax", small=False)
    config = ConfigDict()
    config.seed = 0
    config.steps = 24 if arg.small else 1200
    config.batch_size = 64 if arg.small else 256
    config.data = dict(
        source="glyphs",
        sampler=dict(kind="groups", group="character"),
        tokenizer=dict(kind="bpe", vocabulary=2048),
        views=dict(
            image=dict(kind="glyph", size=32, shift=1),
            text=dict(kind="text", length=16, word_dropout=0.15),
        ),
    )
    width, depth = (32, 1) if arg.small else (64, 3)
    tower = dict(size="micro", width=width, pooling="mean")
    config.encoders = dict(
        image=dict(kind="vision_transformer", patch=8, depth=depth, **tower),
        text=dict(kind="text_transformer", vocabulary=2048, length=16, depth=max(depth - 1, 1), **tower),
    )
    config.heads = dict(
        image=dict(kind="linear", features=width),
        text=dict(kind="linear", features=width),
    )
    config.branches = dict(
        image=dict(view="image", encoder="image", heads=("image",)),
        text=dict(view="text", encoder="text", heads=("text",)),
    )
    pair = dict(rows="image", columns="text", positives="character", ignore="picture")
    own = dict(scale=10.0, label_smoothing=0.1) if arg.loss == "softmax" else {}
    config.losses = dict(clip=dict(kind=arg.loss, **own, **pair))
    config.optimizer = dict(kind="adamw", learning_rate=4e-3, warmup=0.1, weight_decay=0.5)
    config.checkpoint = dict(every=12 if arg.small else 200)
    config.logging = dict(every=2 if arg.small else 10)
    config.evaluation = dict(
        source="glyphs:held_out_characters",
        evaluators=dict(
            retrieval=dict(kind="retrieval", rows="text", columns="image", right=("picture",)),
            scripts=dict(
                kind="zero_shot",
                examples="image",
                prompts="text",
                label="script",
                templates=TEMPLATES,
                ignore=("Common", "Inherited"),
                at_least=5,
            ),
            geometry=dict(kind="geometry", rows="image", columns="text"),
        ),
    )
    return config
