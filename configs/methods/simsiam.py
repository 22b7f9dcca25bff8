"""SimSiam: BYOL without a teacher; the gradient that does not flow into the target is what prevents collapse.

Source: Chen and He 2020, arXiv 2011.10566; its loss is -cos, this is 2 - 2 cos, half as often. Arguments: see
shared/pictures.py; ablation=no_predictor or no_stop_gradient, which collapse. The paper's predictor keeps its
learning rate; here all rates fall.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES | pictures.SPREAD,
    arms={
        "SimSiam": "",
        "no predictor": "ablation=no_predictor",
        "gradient into the target": "ablation=no_stop_gradient",
        "no training": "ablation=untrained",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "no_predictor", "no_stop_gradient", "untrained")
    view = pictures.moco_view(arg)
    config = pictures.config(arg, dict(a=view, b=view))
    config.heads = dict(projector=pictures.mlp(arg, 2048, 2048, layers=3, last_norm=True))
    heads = ("projector",)
    if arg.ablation != "no_predictor":
        config.heads.predictor = pictures.mlp(arg, 2048, 512, bias=True)
        heads = ("projector", "predictor")
    config.branches = pictures.two(heads)
    pairs = dict(ab=("a", "b.projector"), ba=("b", "a.projector"))
    regression = dict(kind="cosine_regression", weight=0.25)
    config.losses = {name: dict(predictions=a, targets=b, **regression) for name, (a, b) in pairs.items()}
    if arg.ablation == "no_stop_gradient":  # the same number, with gradients both ways
        alignment = dict(kind="alignment_uniformity", uniformity=0.0, weight=0.25)
        config.losses = {name: dict(a=a, b=b, **alignment) for name, (a, b) in pairs.items()}
    if arg.paper:
        config.steps, config.batch_size = 250_000, 512  # 100 epochs
        config.optimizer = dict(kind="sgd", learning_rate=0.1, warmup=0.0, weight_decay=1e-4)
    if arg.ablation == "untrained":
        pictures.untrained(config)
    config.evaluation = pictures.probes(arg, "a", **pictures.spread("a.projector", "b.projector"))
    return config
