"""DirectPred: BYOL's linear predictor, set from the spectrum of what it is given in place of being learned.

Source: Tian et al. 2021, arXiv 2102.06810; DirectCopy: Wang et al. 2021, arXiv 2110.04947. Arguments: see
shared/pictures.py; ablation=linear (a learned linear predictor), copy (DirectCopy), no_predictor.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

PAPER = "stl10"
CHECK = dict(
    figures=pictures.FIGURES | pictures.SPREAD,
    arms={
        "DirectPred": "",
        "DirectCopy": "ablation=copy",
        "a learned linear predictor": "ablation=linear",
        "no predictor": "ablation=no_predictor",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "linear", "copy", "no_predictor")
    view = pictures.photo(arg, PAPER)
    config = pictures.config(arg, dict(a=view, b=view), paper=PAPER)
    config.heads = dict(projector=pictures.mlp(arg, 128, 512))
    heads = ("projector",)
    if arg.ablation != "no_predictor":
        features = config.heads.projector.features
        direct = dict(kind="direct_predictor", rho=0.3, eps=0.01, copy=arg.ablation == "copy")
        learned = dict(kind="linear", features=features)
        config.heads.predictor = learned if arg.ablation == "linear" else direct
        heads = ("projector", "predictor")
    momentum = 0.996 if arg.paper else 0.97
    config.teachers = dict(target=dict(branch="a", stage="projector", momentum=momentum))
    targets = {f"target_{view}": dict(view=view, teacher="target") for view in ("a", "b")}
    config.branches = pictures.two(heads) | targets
    config.losses = dict(
        ab=dict(kind="cosine_regression", predictions="a", targets="target_b"),
        ba=dict(kind="cosine_regression", predictions="b", targets="target_a"),
    )
    if arg.paper:
        config.steps, config.batch_size = 82_000, 128  # 100 epochs
        config.optimizer = dict(kind="sgd", learning_rate=0.03, warmup=0.0, weight_decay=4e-4)
    config.evaluation = pictures.probes(arg, "a", PAPER, **pictures.spread("a.projector", "b.projector"))
    return config
