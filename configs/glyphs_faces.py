"""One shared image encoder; two faces of the same character are the two views.

Retrieval is between two pictures of held-out characters that have at least two faces. Argument: small, a
model and a run of seconds for tests.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, small=False)
    config = ConfigDict()
    config.seed = 0
    config.steps = 24 if arg.small else 600
    config.batch_size = 64 if arg.small else 512
    width = 32 if arg.small else 64
    config.data = dict(
        source="glyphs",
        sampler=dict(kind="groups", group="character", members=2),
        views=dict(
            a=dict(kind="glyph", member=0, size=32, shift=1),
            b=dict(kind="glyph", member=1, size=32, shift=1),
        ),
    )
    config.encoders = dict(
        image=dict(
            kind="vision_transformer",
            size="micro",
            width=width,
            depth=1 if arg.small else 3,
            patch=8,
            pooling="mean",
        )
    )
    config.heads = dict(projector=dict(kind="mlp", features=width, hidden=2 * width))
    shared = dict(encoder="image", heads=("projector",))
    config.branches = dict(a=dict(view="a", **shared), b=dict(view="b", **shared))
    config.losses = dict(
        faces=dict(
            kind="softmax",
            rows="a",
            columns="b",
            positives="character",
            ignore=("picture", "picture:1"),
            scale=10.0,
        )
    )
    config.optimizer = dict(kind="adamw", learning_rate=2e-3, warmup=0.1, weight_decay=0.1)
    config.checkpoint = dict(every=12 if arg.small else 200)
    config.logging = dict(every=2 if arg.small else 10)
    config.evaluation = dict(
        source="glyphs:held_out",
        evaluators=dict(
            retrieval=dict(
                kind="retrieval", rows="a", columns="b", group="character", right=("character", "picture")
            ),
        ),
    )
    return config
