"""Mixed Barlow Twins: the correlation of a blended picture is to be the blend of the correlations.

Source: Bandara et al. 2023, arXiv 2312.02151. Arguments: see shared/pictures.py; ablation=barlow: no blends.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

PAPER = "cifar10"
CHECK = dict(
    figures=pictures.FIGURES,
    arms={"Mixed Barlow Twins": "", "Barlow Twins": "ablation=barlow"},
    seeds=3,
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "barlow")
    view = pictures.photo(arg, PAPER)
    config = pictures.config(arg, dict(a=view, b=view), paper=PAPER)
    features = 1024 if arg.paper else 256
    hidden = 512 if arg.paper else 256
    config.heads = dict(
        projector=dict(kind="mlp", features=features, hidden=hidden, norm="batch", activation="relu")
    )
    config.branches = pictures.two(("projector",), normalize=False)
    barlow = dict(a="a", b="b", off_diagonal=1 / 128)
    if arg.ablation == "barlow":
        config.losses = dict(barlow=dict(kind="cross_correlation", **barlow))
    else:
        config.branches.mixed = dict(config.branches.a, mix="b")
        config.losses = dict(barlow=dict(kind="mixed_barlow", mixed="mixed", mixed_weight=4.0, **barlow))
    if arg.paper:
        config.steps, config.batch_size = 390_000, 256  # 2,000 epochs
        config.optimizer = dict(kind="adam", learning_rate=0.01, warmup=0.005, final=1e-5, weight_decay=1e-6)
    config.evaluation = pictures.probes(arg, "a", PAPER)
    return config
