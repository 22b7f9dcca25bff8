"""A config of all that stands in a graph: a teacher, batch statistics, a queue, several crops, mixing."""

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, queue=True, mix=False, crops=0)
    photo = dict(kind="photo", resolution=16, flip=0.5)
    config = ConfigDict()
    config.steps, config.batch_size = 4, 16
    config.data = dict(
        source="digits",
        sampler=dict(kind="permutation"),
        views=dict(a=dict(photo), b=dict(photo)),
    )
    config.encoders = dict(image=dict(kind="resnet", size="micro", stem="small", stride=2, width=8, groups=4))
    config.heads = dict(
        projector=dict(kind="mlp", features=16, hidden=32, norm="batch", activation="relu"),
        predictor=dict(kind="mlp", features=16, hidden=8, norm="batch", activation="relu"),
    )
    config.teachers = dict(target=dict(branch="a", stage="projector", momentum=0.9, final=1.0))
    heads = ("projector", "predictor")
    config.branches = dict(
        a=dict(view="a", encoder="image", heads=heads),
        b=dict(view="b", encoder="image", heads=heads),
        target_a=dict(view="a", teacher="target"),
        target_b=dict(view="b", teacher="target"),
    )
    config.losses = dict(
        ab=dict(kind="cosine_regression", predictions="a", targets="target_b", weight=0.5),
        ba=dict(kind="cosine_regression", predictions="b", targets="target_a", weight=0.5),
        stages=dict(kind="nt_xent", views=("a.projector", "b.projector")),
    )
    if arg.queue:
        config.memory = dict(keys=dict(kind="queue", branch="target_b", size=64))
        config.losses.moco = dict(kind="momentum_contrast", queries="a", keys="target_b", memory="keys")
    if arg.mix:
        config.branches.m = dict(view="a", mix="b", encoder="image", heads=("projector",))
        barlow = dict(kind="mixed_barlow", a="a.projector", b="b.projector", mixed="m")
        config.losses.mixed = dict(barlow, weight=0.01)
    if arg.crops:
        config.data.views.k = dict(photo, count=arg.crops)
        config.branches.k = dict(view="k", encoder="image", heads=("projector",))
        config.losses.crops = dict(kind="attraction_repulsion", views=("k",))
    config.optimizer = dict(kind="adamw", learning_rate=1e-3)
    return config
