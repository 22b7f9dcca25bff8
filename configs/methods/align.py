"""ALIGN: pictures and texts find each other in a batch, from many captions of which some are wrong, in place
of few that are right (Jia et al. 2021, 2102.05918; with ablation=smoothing and clean data it is CLIP's loss,
Radford et al. 2021, 2103.00020). The paper's EfficientNet-L7 is a ResNet-101 here.

Arguments: see shared/pairs.py; here a quarter of the characters have the name of another one.
ablation=quarter, a quarter of the characters, all with their own names; clean, all of them with their own;
smoothing, no label smoothing.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pairs = beside(__file__, "shared/pairs.py")

CHECK = dict(
    figures={
        "R@1, name to picture": "retrieval/text_to_image/R@1",
        "R@10, name to picture": "retrieval/text_to_image/R@10",
        "R@10, picture to name": "retrieval/image_to_text/R@10",
    },
    arms={
        "ALIGN: all characters, a quarter of the names wrong": "",
        "a quarter of the characters, no name wrong": "ablation=quarter",
        "all characters, no name wrong": "ablation=clean",
        "wrong names, no label smoothing": "ablation=smoothing",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "quarter", "clean", "smoothing")
    config = pairs.config(arg, pairs.GLYPHS, steps=300)
    if not arg.paper:
        drawn = {"quarter": "?part=text:0:0.25", "clean": ""}.get(arg.ablation, "?exchange=text:0.25")
        config.data.source += drawn
    smoothing = 0.0 if arg.ablation == "smoothing" else 0.1
    scale = 1.0 if arg.paper else 10.0
    clip = pairs.pair(arg, pairs.GLYPHS, kind="softmax", scale=scale, label_smoothing=smoothing)
    config.losses = dict(clip=clip)
    if arg.paper:
        config.steps, config.batch_size = 1_200_000, 16_384
        config.data.views.image.update(resolution=289, flip=0.5)
        config.data.views.text.length = 64
        config.encoders.image = dict(kind="resnet", size="101")
        config.encoders.text = dict(kind="bert", size="L", vocabulary=49408, length=64, pooling="cls")
        config.heads = dict(text=dict(kind="linear", features=2048))
        config.branches.image.heads = ()
        config.optimizer = dict(kind="lamb", learning_rate=1e-3, warmup=1 / 120, weight_decay=1e-5)
    config.evaluation = pairs.evaluation(arg, pairs.GLYPHS)
    return config
