"""MoCo v2: a view finds its twin, seen by a slowly moving teacher, among a queue of earlier keys.

Sources: Chen et al. 2020, arXiv 2003.04297; He et al. 2019, arXiv 1911.05722. Arguments: see
shared/pictures.py; ablation=no_momentum (m = 0: the teacher is the network itself) or short_queue (a batch).
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

CHECK = dict(
    figures=pictures.FIGURES,
    arms={
        "MoCo v2": "",
        "no momentum": "ablation=no_momentum",
        "a queue of one batch": "ablation=short_queue",
    },
    seeds=3,
    once=("a queue of one batch",),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, "no_momentum", "short_queue")
    view = pictures.moco_view(arg)
    config = pictures.config(arg, dict(a=view, b=view))
    config.heads = dict(projector=pictures.mlp(arg, 128, 2048, norm="none", bias=True))
    config.teachers = dict(
        key=dict(
            branch="query",
            momentum=0.0 if arg.ablation == "no_momentum" else 0.999 if arg.paper else 0.99,
        )
    )
    config.branches = dict(
        query=dict(view="a", encoder="image", heads=("projector",)),
        key=dict(view="b", teacher="key"),
    )
    if arg.paper:
        config.steps, config.batch_size = 1_000_000, 256  # 200 epochs
        config.optimizer = dict(kind="sgd", learning_rate=0.03, warmup=0.0, weight_decay=1e-4)
    batches = 1 if arg.ablation == "short_queue" else 256 if arg.paper else 16
    config.memory = dict(keys=dict(kind="queue", branch="key", size=batches * config.batch_size))
    config.losses = dict(
        moco=dict(kind="momentum_contrast", queries="query", keys="key", memory="keys", scale=5.0)
    )
    config.evaluation = pictures.probes(arg, "query")
    return config
