"""CLIP-ReIdent: two pictures of one identity find each other among those of other identities, in one encoder.

Source: Habel et al. 2022, arXiv 2303.11855; there CLIP's ViT-L/14 is trained on, here a small network learns
Omniglot's characters, and is asked for characters of alphabets that it has not seen. No identity comes twice
in a batch; both pictures of a pair are flipped together. Arguments: data, the folder that holds
omniglot/background.parquet and evaluation.parquet; small, paper; ablation=random_sampler, which does not look
at identities, or untrained.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures={"mAP": "players/mAP", "rank 1": "players/rank_1", "chance": "players/chance"},
    arms={
        "CLIP-ReIdent": "",
        "identities may repeat": "ablation=random_sampler",
        "no training": "ablation=untrained",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "random_sampler", "untrained")
    view = dict(kind="photo", resolution=224 if arg.paper else 16, flip=0.5, crop=(1.0, 1.0), together="pair")
    if arg.paper:  # whole, squeezed to a square: players are taller than wide
        view.update(ratio=(0.1, 10.0), squeeze=True)
    views = dict(query=dict(view), gallery=dict(view, member=1))
    config = pictures.config(arg, views, steps=400)
    unique = arg.ablation != "random_sampler"
    config.data.source = f"parquet:{arg.data}/omniglot/background.parquet"
    config.data.sampler = dict(kind="groups", group="class_name", members=2, unique=unique)
    config.branches = {name: dict(view=name, encoder="image") for name in views}
    smoothing = dict(label_smoothing=0.1, scale=1 / 0.07)
    config.losses = dict(clip=dict(kind="softmax", rows="query", columns="gallery", **smoothing))
    if arg.paper:
        config.encoders = dict(image=pictures.clip_tower("L/14"))
        config.losses.clip.scale = 100.0  # CLIP's, where its training ended
        config.init_from = dict(image=dict(path="openai/clip-vit-large-patch14"))
        config.steps, config.batch_size = 280, 16  # 4 epochs of 1,120 players
        config.optimizer = dict(kind="adamw", learning_rate=4e-5, warmup=0.25, decay="linear", final=1e-5)
    if arg.ablation == "untrained":
        pictures.untrained(config)
    limit = dict(limit=200 if arg.small else 2000)
    players = dict(kind="re_identification", branch="query", identity="class_name", camera="drawer", **limit)
    source = f"parquet:{arg.data}/omniglot/evaluation.parquet"
    config.evaluation = dict(source=source, evaluators=dict(players=players))
    return config
