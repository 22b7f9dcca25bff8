"""CLIP on captioned pictures: the config to start one's own run from.

Arguments: size=B/16 (Ti, S, B or L with a patch size), res=224 pixels, source=jsonl:captions.jsonl (a JSON
object {"image": path, "text": caption} a line), held_out=jsonl:... to measure retrieval on, and small,
a model and a run of seconds. The rest follows the paper: Radford et al. 2021, arXiv 2103.00020.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments
from contrastive_jax.data.tokenizers import END

# Width, heads and embedding of the text tower beside an image tower of each size; it has 12 layers.
TEXT = {
    "micro": (32, 2, 32),
    "Ti": (192, 3, 192),
    "S": (384, 6, 384),
    "B": (512, 8, 512),
    "L": (768, 12, 768),
}


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(
        arg, size="B/16", res=224, source="jsonl:captions.jsonl", held_out="", loss="softmax", small=False
    )
    size = "micro/16" if arg.small else arg.size
    resolution = 32 if arg.small else arg.res
    vocabulary, length = (512, 16) if arg.small else (49408, 77)
    width, heads, embedding = TEXT.get(size.partition("/")[0], TEXT["B"])
    depth = 2 if arg.small else 12

    config = ConfigDict()
    config.seed = 0
    config.steps = 20 if arg.small else 100_000
    config.batch_size = 16 if arg.small else 32_768
    config.data = dict(
        source=arg.source,
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=vocabulary),
        views=dict(
            image=dict(kind="photo", resolution=resolution, crop=(0.9, 1.0)),
            text=dict(kind="text", length=length),
        ),
        workers=0 if arg.small else 8,
    )
    common = dict(activation="quick_gelu", epsilon=1e-5, dtype="float32" if arg.small else "bfloat16")
    config.encoders = dict(
        image=dict(
            kind="vision_transformer",
            size=size,
            patch_bias=False,
            first_norm=True,
            pooling="cls",
            **common,
        ),
        text=dict(
            kind="text_transformer",
            width=width,
            heads=heads,
            depth=depth,
            mlp=4 * width,
            vocabulary=vocabulary,
            length=length,
            causal=True,
            pooling="last",
            end=END,
            **common,
        ),
    )
    config.heads = dict(
        image=dict(kind="linear", features=embedding), text=dict(kind="linear", features=embedding)
    )
    config.branches = dict(
        image=dict(view="image", encoder="image", heads=("image",)),
        text=dict(view="text", encoder="text", heads=("text",)),
    )
    config.losses = dict(clip=dict(kind=arg.loss, rows="image", columns="text"))
    config.optimizer = dict(
        kind="adamw", learning_rate=5e-4, warmup=0.02, weight_decay=0.2, b1=0.9, b2=0.98, eps=1e-6
    )
    config.checkpoint = dict(every=10 if arg.small else None)
    config.logging = dict(every=1 if arg.small else 20)
    if arg.held_out:
        config.evaluation = dict(
            source=arg.held_out,
            evaluators=dict(
                retrieval=dict(kind="retrieval", rows="text", columns="image", right=("record",))
            ),
        )
    return config
