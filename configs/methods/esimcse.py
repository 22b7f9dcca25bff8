"""ESimCSE: SimCSE whose second view repeats words, so that lengths give nothing away, and a short queue of
a slow copy's embeddings as further negatives (Wu et al. 2022, 2109.04380).

Arguments: see shared/texts.py; ablation=simcse, without both; ablation=repetition and ablation=queue, that
alone. The paper's queue of 160 is 192 here: a step's 64 embeddings divide it.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

CHECK = dict(
    figures={
        "STS-B": "stsb/spearman",
        "SICK": "sick/spearman",
        "cosine a word of difference": "length/slope",
        "gap": "length/gap",
    },
    arms={
        "ESimCSE": "",
        "repetition alone": "ablation=repetition",
        "queue alone": "ablation=queue",
        "SimCSE": "ablation=simcse",
        "no training": "ablation=untrained",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "simcse", "repetition", "queue")
    config = texts.sentences(arg, dropout=0.1)
    config.branches = dict(
        a=dict(view="text", encoder="text", heads=("mlp",)),
        b=dict(view="text", encoder="text", heads=("mlp",)),
    )
    if arg.ablation not in ("simcse", "queue"):
        config.data.views.repeated = dict(config.data.views.text, repetition=0.32)
        config.branches.b.view = "repeated"
    queue = {}
    if arg.ablation not in ("simcse", "repetition"):
        config.teachers = dict(slow=dict(branch="a", momentum=0.995, train=False))
        config.branches.slow = dict(view="text", teacher="slow")
        size = 3 * config.batch_size
        config.memory = dict(earlier=dict(kind="queue", branch="slow", size=size, start="empty"))
        queue = dict(memory="earlier")
    config.losses = dict(simcse=texts.softmax("a", "b", **queue))
    config.evaluation.evaluators.length = dict(kind="length_bias", branch="a")
    return config
