"""Supervised SimCSE: a sentence finds what follows from it, beside what contradicts it (Gao et al. 2021,
2104.08821).

Arguments: see shared/texts.py; ablation=no_contradictions; ablation=unsupervised, the same sentences, each
of which finds itself again under other dropout.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

CHECK = dict(
    figures={"STS-B": "stsb/spearman", "SICK": "sick/spearman", "TF-IDF, STS-B": "stsb/tfidf/spearman"},
    arms={
        "SimCSE": "",
        "without contradictions": "ablation=no_contradictions",
        "unsupervised": "ablation=unsupervised",
        "no training": "ablation=untrained",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "no_contradictions", "unsupervised")
    roles = ("anchor", "positive", "negative")
    views = {role: dict(kind="text", field=role, length=32) for role in roles}
    if arg.ablation == "unsupervised":
        views = dict(anchor=dict(kind="text", field="anchor", either=("positive", "negative"), length=32))
    elif arg.ablation == "no_contradictions":
        views.pop("negative")
    source = f"jsonl:{arg.data}/nli/triples_train.jsonl"
    pooling = "cls" if arg.paper else "mean"
    config = texts.config(arg, source, views, 300, 128, dropout=0.1, pooling=pooling)
    config.heads = dict(mlp=texts.mlp(config))
    config.branches = {role: dict(view=role, encoder="text", heads=("mlp",)) for role in views}
    if arg.ablation == "unsupervised":
        config.branches.positive = dict(view="anchor", encoder="text", heads=("mlp",))
    negatives = dict(negatives="negative") if "negative" in views else {}
    config.losses = dict(simcse=texts.softmax("anchor", "positive", **negatives))
    if arg.paper:
        config.steps, config.batch_size = 1612, 512  # three epochs of 275,000 triples
        config.optimizer = texts.adamw(5e-5)
    config.evaluation = texts.similarity(arg, "anchor")
    if arg.ablation == "untrained":
        texts.untrained(config)
    return config
