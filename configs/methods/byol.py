"""BYOL: a predictor tells what a slowly moving teacher makes of the other view; there are no negatives.

Source: Grill et al. 2020, arXiv 2006.07733. Arguments: see shared/pictures.py; ablation=no_predictor or
no_momentum (the teacher is the network itself, without a gradient).
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES | pictures.SPREAD,
    arms={"BYOL": "", "no predictor": "ablation=no_predictor", "no momentum": "ablation=no_momentum"},
    seeds=3,
    once=("no momentum",),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "no_predictor", "no_momentum")
    config = pictures.config(arg, pictures.byol_views(arg))
    config.heads = dict(projector=pictures.mlp(arg, 256, 4096))
    heads = ("projector",)
    if arg.ablation != "no_predictor":
        config.heads.predictor = pictures.mlp(arg, 256, 4096)
        heads = ("projector", "predictor")
    still = arg.ablation == "no_momentum"
    momentum = dict(momentum=0.0) if still else dict(momentum=0.996 if arg.paper else 0.97, final=1.0)
    config.teachers = dict(target=dict(branch="a", stage="projector", **momentum))
    targets = {f"target_{view}": dict(view=view, teacher="target") for view in ("a", "b")}
    config.branches = pictures.two(heads) | targets
    config.losses = dict(
        ab=dict(kind="cosine_regression", predictions="a", targets="target_b"),
        ba=dict(kind="cosine_regression", predictions="b", targets="target_a"),
    )
    if arg.paper:
        config.steps, config.batch_size = 312_500, 4096  # 1,000 epochs
        config.optimizer = dict(kind="lars", learning_rate=3.2, warmup=0.01, weight_decay=1.5e-6)
    config.evaluation = pictures.probes(arg, "a", **pictures.spread("a.projector", "b.projector"))
    return config
