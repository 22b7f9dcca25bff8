"""SupCon: all views of all pictures of a class are each other's positives (Khosla et al. 2020, 2004.11362).

Arguments: see shared/pictures.py; ablation=simclr, the same without labels.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES,
    arms={"SupCon": "", "without labels (SimCLR)": "ablation=simclr", "no training": "ablation=untrained"},
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "simclr", "untrained")
    view = pictures.photo(arg)
    config = pictures.config(arg, dict(a=view, b=view))
    config.heads = dict(projector=pictures.mlp(arg, 128, 2048, norm="none"))
    config.branches = pictures.two(("projector",))
    loss = dict(kind="nt_xent") if arg.ablation == "simclr" else dict(kind="supervised", labels="label")
    scale = 10.0 if arg.paper else 5.0
    config.losses = dict(supcon=dict(views=("a", "b"), scale=scale, learn_scale=False, **loss))
    if arg.paper:
        config.steps, config.batch_size = 73_000, 6144  # 350 epochs
        config.optimizer = dict(kind="lars", learning_rate=12.0, warmup=0.03, weight_decay=1e-4)
    if arg.ablation == "untrained":
        pictures.untrained(config)
    config.evaluation = pictures.probes(arg, "a")
    return config
