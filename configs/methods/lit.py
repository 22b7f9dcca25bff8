"""LiT: a picture tower that is trained already stays locked, and a text tower learns to read it out (Zhai et
al. 2022, 2111.07991). The paper's ViT-g/14 is an L/16 here.

Arguments: see shared/pairs.py; stage=pictures, the training of the picture tower, by the faces of characters;
image, its work directory (without it the locked tower is a new one): here a tenth of the characters have
captions. ablation=tuned, the picture tower is trained on as well; scratch, both towers are new.
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
        "LiT": ("stage=pictures", "image={0}"),
        "the picture tower is trained on": ("stage=pictures", "image={0},ablation=tuned"),
        "both towers are new": "ablation=scratch",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "tuned", "scratch", stage="", image="")
    pairs.one_of("stage", arg.stage, ("", "pictures"))
    config = pairs.config(arg, pairs.GLYPHS, steps=200)
    if arg.stage == "pictures":
        return pictures(arg, config)
    width = 1024 if arg.paper else config.encoders.image.width
    config.heads = dict(text=dict(kind="linear", features=width))
    config.branches.image.heads = ()
    if arg.image:
        config.init_from = dict(image=dict(path=arg.image, parts=("encoders/image",)))
    if not arg.ablation:
        config.frozen = ("encoders/image/*",)
    config.losses = dict(clip=pairs.pair(arg, pairs.GLYPHS, kind="softmax", scale=10.0))
    if arg.paper:
        config.steps, config.batch_size = 550_000, 32_768
        config.encoders.image.size = "L/16"
        config.encoders.text.update(width=1024, heads=16, depth=24, mlp=4096)
        config.optimizer = dict(kind="adafactor", learning_rate=1e-3, warmup=0.02, weight_decay=1e-4)
    else:
        config.data.source += "?part=character:0:0.1"
    config.evaluation = pairs.evaluation(arg, pairs.GLYPHS)
    return config


def pictures(arg: ConfigDict, config: ConfigDict) -> ConfigDict:
    """Two faces of a character find each other."""
    views = {name: pairs.picture(arg, pairs.GLYPHS, member=member) for member, name in enumerate("ab")}
    sampler = dict(kind="groups", group="character", members=2)
    config.data = dict(source="glyphs", sampler=sampler, views=views)
    config.encoders = dict(image=config.encoders.image)
    config.heads = {}
    config.branches = {name: dict(view=name, encoder="image") for name in views}
    faces = dict(rows="a", columns="b", positives="character", ignore=("picture", "picture:1"))
    config.losses = dict(faces=dict(kind="softmax", scale=10.0, **faces))
    return config
