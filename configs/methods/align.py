"""ALIGN: pictures and texts find each other in a batch, from many captions of which some are wrong, in place
of few that are right (Jia et al. 2021, 2102.05918; with ablation=smoothing and clean data it is CLIP's loss,
Radford et al. 2021, 2103.00020). The paper's EfficientNet-L7 is a ResNet-101 here, and its
vocabulary of 100,000 is CLIP's of 49,408.

Arguments: see shared/pairs.py; share, of all characters; wrong, the share of these that have the name of
another one of them; ablation=smoothing, no label smoothing.
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
        "ALIGN: 5,855 characters, a quarter of the names wrong": "",
        "1,449 characters, no name wrong": "share=0.25,wrong=0",
        "1,449 characters, a quarter wrong": "share=0.25",
        "353 characters, no name wrong": "share=0.0625,wrong=0",
        "5,855 characters, a quarter wrong, no label smoothing": "ablation=smoothing",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "smoothing", share=1.0, wrong=0.25)
    config = pairs.config(arg, pairs.GLYPHS, steps=300)
    if not arg.paper:
        config.data.source += f"?part=text:0:{arg.share}"
        config.data.source += f"&exchange=text:{arg.wrong}" if arg.wrong else ""
    smoothing = 0.0 if arg.ablation == "smoothing" else 0.1
    scale = 1.0 if arg.paper else 10.0
    clip = pairs.pair(arg, pairs.GLYPHS, kind="softmax", scale=scale, label_smoothing=smoothing)
    config.losses = dict(clip=clip)
    if arg.paper:
        config.steps, config.batch_size = 1_200_000, 16_384
        config.data.views.image.update(resolution=289, crop=(0.698, 0.698), flip=0.5)  # of 346 pixels
        config.data.views.text.length = 64
        config.encoders.image = dict(kind="resnet", size="101")
        config.encoders.text = dict(kind="bert", size="L", vocabulary=49408, length=64, pooling="cls")
        config.heads = dict(text=dict(kind="linear", features=2048))
        config.branches.image.heads = ()
        config.optimizer = dict(kind="lamb", learning_rate=1e-3, warmup=1 / 120, decay="linear")
    config.evaluation = pairs.evaluation(arg, pairs.GLYPHS)
    return config
