"""CACR: far positives are pulled more than near ones, near negatives are pushed more than far ones.

Source: Zheng et al. 2021, arXiv 2105.03746. Four views a picture, of a long tail of CIFAR-10: there are a
hundred times fewer pictures of the rarest class. Arguments: see shared/pictures.py; ablation=infonce (the
same views, all of a picture each other's positives) or untrained. With paper, the batch's own pictures are
the negatives; the queue and the teacher of the paper's largest runs are left out.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES,
    arms={
        "CACR": "",
        "InfoNCE, the same four views": "ablation=infonce",
        "no training": "ablation=untrained",
    },
    seeds=3,
    once=("no training",),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "infonce", "untrained")
    config = pictures.config(arg, dict(crops=pictures.moco_view(arg, count=4)), steps=200, batch_size=64)
    if not arg.paper:
        config.data.source += "?tail=label:0.01"
    config.heads = dict(projector=pictures.mlp(arg, 128, 2048, norm="none"))
    config.branches = dict(crops=dict(view="crops", encoder="image", heads=("projector",)))
    contrast = dict(kind="supervised", labels="record", scale=2.0, learn_scale=False)
    apart = dict(kind="attraction_repulsion", t_plus=1.0, t_minus=2.0 if arg.paper else 0.9)
    loss = contrast if arg.ablation == "infonce" else apart
    config.losses = dict(cacr=dict(views=("crops",), **loss))
    if arg.paper:
        config.steps, config.batch_size = 1_000_000, 256  # 200 epochs
        config.optimizer = dict(kind="sgd", learning_rate=0.03, warmup=0.0, weight_decay=1e-4)
    if arg.ablation == "untrained":
        pictures.untrained(config)
    config.evaluation = pictures.probes(arg, "crops")
    return config
