"""Unsupervised SimCSE: a sentence finds itself again, under other dropout (Gao et al. 2021, 2104.08821).

The MLP on top is for training alone. Arguments: see shared/texts.py; ablation=no_dropout, with which both
views are the same numbers.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

CHECK = dict(
    figures={
        "STS-B": "stsb/spearman",
        "SICK": "sick/spearman",
        "uniformity": "geometry/uniformity/a",
        "TF-IDF, STS-B": "stsb/tfidf/spearman",
    },
    arms={"SimCSE": "", "no dropout": "ablation=no_dropout", "no training": "ablation=untrained"},
    seeds=3,
    once=("no training",),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "no_dropout")
    config = texts.sentences(arg, dropout=0.0 if arg.ablation == "no_dropout" else 0.1)
    config.branches = {name: dict(view="text", encoder="text", heads=("mlp",)) for name in ("a", "b")}
    config.losses = dict(simcse=texts.softmax("a", "b"))
    return config
