"""Barlow Twins: the correlations of two views' dimensions are to be the identity; no negatives, no teacher.

Source: Zbontar et al. 2021, arXiv 2103.03230. Arguments: see shared/pictures.py; ablation=diagonal, in which
nothing keeps the dimensions apart.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES | {"spread (1 even, 0 collapsed)": "geometry/std/a"},
    arms={"Barlow Twins": "", "the diagonal alone": "ablation=diagonal"},
    seeds=3,
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "diagonal")
    config = pictures.config(arg, pictures.byol_views(arg))
    wide = dict(features=8192 if arg.paper else 256, hidden=8192 if arg.paper else 256)
    config.heads = dict(projector=dict(kind="mlp", layers=3, norm="batch", activation="relu", **wide))
    config.branches = pictures.two(("projector",), normalize=False)
    off = 0.0 if arg.ablation == "diagonal" else 0.0051 if arg.paper else 1 / 128
    config.losses = dict(barlow=dict(kind="cross_correlation", a="a", b="b", off_diagonal=off))
    if arg.paper:
        config.steps, config.batch_size = 625_000, 2048  # 1,000 epochs
        config.optimizer = dict(kind="lars", learning_rate=1.6, warmup=0.01, weight_decay=1.5e-6)
    config.evaluation = pictures.probes(arg, "a", **pictures.spread("a", "b"))
    return config
