"""SigLIP: whether each picture and each text of a batch belong together is a question of its own, answered by
a logistic regression, in place of a softmax over the batch (Zhai et al. 2023, 2303.15343).

The bias begins where the loss expects one right text in a batch, -log(batch - 1): about the paper's -10 for
the paper's batch.

Arguments: see shared/pairs.py; batch, examples a step; ablation=softmax, CLIP's loss.
"""

import math

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside
from contrastive_jax.errors import InputError

pairs = beside(__file__, "shared/pairs.py")

CHECK = dict(
    figures={
        "R@1, name to picture": "retrieval/text_to_image/R@1",
        "R@10, name to picture": "retrieval/text_to_image/R@10",
        "R@10, picture to name": "retrieval/image_to_text/R@10",
    },
    arms={
        "SigLIP, batch 128": "",
        "softmax, batch 128": "ablation=softmax",
        "SigLIP, batch 16": "batch=16",
        "softmax, batch 16": "ablation=softmax,batch=16",
    },
    seeds=3,
    once=("SigLIP, batch 16", "softmax, batch 16"),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "softmax", batch=128)
    if arg.batch < 2:
        raise InputError(f"batch={arg.batch}: give 2 or more")
    config = pairs.config(arg, pairs.GLYPHS, steps=300, batch_size=arg.batch)
    bias = -10.0 if arg.paper else -math.log(config.batch_size - 1)
    kind = dict(kind="softmax", scale=10.0) if arg.ablation else dict(kind="sigmoid", scale=10.0, bias=bias)
    config.losses = dict(pairs=pairs.pair(arg, pairs.GLYPHS, **kind))
    if arg.paper:
        config.steps, config.batch_size = 107_000, 32_768
        config.data.tokenizer.vocabulary = config.encoders.text.vocabulary = 32_000
        config.data.views.text.length = config.encoders.text.length = 64
        config.encoders.image.pooling = "map"
        config.encoders.text.update(width=768, heads=12, mlp=3072, causal=False, padding=None, end=None)
        config.heads = dict(text=dict(kind="linear", features=768, bias=True))
        config.branches.image.heads = ()
        config.optimizer.update(learning_rate=1e-3, weight_decay=1e-4, b2=0.95)
    config.evaluation = pairs.evaluation(arg, pairs.GLYPHS)
    return config
