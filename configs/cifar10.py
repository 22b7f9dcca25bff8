"""CIFAR-10 without its labels: SimCLR (Chen et al. 2020, arXiv 2002.05709) with a small residual network.

Arguments: data, the folder that holds cifar10/train.parquet and test.parquet (encoded pictures, label,
label_name); small, a model and a run of seconds. The labels are used by the evaluators alone: 20 nearest
neighbours and a linear probe on what the encoder gives before the projector, beside raw pixels.
"""

import os

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, data=os.environ.get("CONTRASTIVE_JAX_DATA", "data"), small=False)
    folder = f"{arg.data}/cifar10"
    width = 16 if arg.small else 32
    config = ConfigDict()
    config.steps = 6 if arg.small else 1000
    config.batch_size = 32 if arg.small else 256
    view = dict(
        kind="photo",
        resolution=16 if arg.small else 32,
        crop=(0.2, 1.0),
        ratio=(0.75, 1.333),
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        grey=0.2,
    )
    config.data = dict(
        source=f"parquet:{folder}/train.parquet",
        sampler=dict(kind="permutation"),
        views=dict(a=dict(view), b=dict(view)),
    )
    config.encoders = dict(
        image=dict(kind="resnet", size="micro", stem="small", stride=2, width=width, groups=8)
    )
    config.heads = dict(projector=dict(kind="mlp", features=64, hidden=8 * width))
    shared = dict(encoder="image", heads=("projector",))
    config.branches = dict(a=dict(view="a", **shared), b=dict(view="b", **shared))
    config.losses = dict(simclr=dict(kind="nt_xent", views=("a", "b"), scale=5.0, learn_scale=False))
    config.optimizer = dict(kind="adamw", learning_rate=3e-3, warmup=0.1, weight_decay=0.05)
    config.checkpoint = dict(every=3 if arg.small else 200)
    config.logging = dict(every=1 if arg.small else 20)
    labelled = dict(branch="a.encoder", train=f"parquet:{folder}/train.parquet")
    limit = 200 if arg.small else None
    config.evaluation = dict(
        source=f"parquet:{folder}/test.parquet",
        evaluators=dict(
            knn=dict(kind="knn", k=20, pixels=True, train_limit=limit, **labelled),
            linear=dict(kind="linear_probe", train_limit=limit or 10_000, **labelled),
        ),
    )
    return config
