"""MoCo v3: no queue; a predictor's view finds its twin's key, seen by the teacher, in the batch, both ways.

Source: Chen et al. 2021, arXiv 2104.02057. Arguments: see shared/pictures.py; ablation=no_momentum or
no_predictor. The paper's factor of two temperatures is the weight of the losses.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES,
    arms={"MoCo v3": "", "no momentum": "ablation=no_momentum", "no predictor": "ablation=no_predictor"},
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "no_momentum", "no_predictor")
    config = pictures.config(arg, pictures.byol_views(arg))
    config.heads = dict(projector=pictures.mlp(arg, 256, 4096, last_norm=True))
    heads = ("projector",)
    if arg.ablation != "no_predictor":
        config.heads.predictor = pictures.mlp(arg, 256, 4096, last_norm=not arg.paper)
        heads = ("projector", "predictor")
    still = arg.ablation == "no_momentum"
    momentum = dict(momentum=0.0) if still else dict(momentum=0.99, final=1.0)
    config.teachers = dict(key=dict(branch="a", stage="projector", **momentum))
    keys = {f"key_{view}": dict(view=view, teacher="key") for view in ("a", "b")}
    config.branches = pictures.two(heads) | keys
    temperature = 1.0 if arg.paper else 0.2
    contrast = dict(
        kind="softmax", scale=1 / temperature, learn_scale=False, symmetric=False, weight=2 * temperature
    )
    config.losses = dict(
        ab=dict(rows="a", columns="key_b", **contrast), ba=dict(rows="b", columns="key_a", **contrast)
    )
    if arg.paper:
        config.steps, config.batch_size = 94_000, 4096  # 300 epochs
        config.optimizer = dict(kind="lars", learning_rate=4.8, warmup=0.033, weight_decay=1e-6)
    config.evaluation = pictures.probes(arg, "a")
    return config
