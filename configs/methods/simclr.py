"""SimCLR: two views of a picture find each other among all views of a batch (Chen et al. 2020, 2002.05709).

Arguments: see shared/pictures.py; ablation=crops (views keep their colours) or untrained.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES,
    arms={"SimCLR": "", "crops alone": "ablation=crops", "no training": "ablation=untrained"},
    seeds=3,
    once=("no training",),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "crops", "untrained")
    view = pictures.photo(arg, **(dict(jitter=(), grey=0.0) if arg.ablation == "crops" else {}))
    config = pictures.config(arg, dict(a=view, b=view))
    config.heads = dict(projector=pictures.mlp(arg, 128, 2048))
    config.branches = pictures.two(("projector",))
    scale = 10.0 if arg.paper else 2.0
    config.losses = dict(simclr=dict(kind="nt_xent", views=("a", "b"), scale=scale, learn_scale=False))
    if arg.paper:
        config.steps, config.batch_size = 312_500, 4096  # 1,000 epochs
        config.optimizer = dict(kind="lars", learning_rate=4.8, warmup=0.01, weight_decay=1e-6)
    if arg.ablation == "untrained":
        pictures.untrained(config)
    config.evaluation = pictures.probes(arg, "a")
    return config
