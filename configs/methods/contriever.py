"""Contriever: two crops of a text find each other among the crops of earlier batches (Izacard et al. 2021,
2112.09118).

Of unlabelled abstracts, measured by the questions to them. Dot products without normalisation: the scale is
20 over the width, for a layer norm gives embeddings of about the root of the width. Arguments: see
shared/texts.py; ablation=ict, a sentence and the rest of its text in place of crops; ablation=no_momentum,
keys of the encoder itself.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

SETS = ("cranfield", "cacm")
CHECK = dict(
    figures={f"{name}, {figure}": f"{name}/{figure}" for name in SETS for figure in ("R@100", "nDCG@10")}
    | {f"BM25, {name}": f"{name}/bm25/R@100" for name in SETS},
    arms={
        "Contriever": "",
        "inverse cloze": "ablation=ict",
        "no momentum": "ablation=no_momentum",
        "no training": "ablation=untrained",
    },
    seeds=3,
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "ict", "no_momentum")
    text = dict(kind="text", length=256 if arg.paper else 64)
    crop = dict(text, field="passage", span=(0.05, 0.5), deletion=0.1)
    views = dict(query=dict(crop), key=dict(crop))
    if arg.ablation == "ict":
        text = dict(text, field="sentences", together="cloze")
        views = dict(query=text, key=dict(text, rest=True))
    corpora = " + ".join(
        f"jsonl:{arg.data}/retrieval/{name}/corpus.jsonl?passages=256" for name in (*SETS, "vaswani_npl")
    )
    source = f"jsonl:{arg.data}/wikipedia_and_ccnet/*.jsonl?passages=256" if arg.paper else corpora
    config = texts.config(arg, source, views, 300, 64)
    width = texts.width(config)
    momentum = 0.0 if arg.ablation == "no_momentum" else 0.9995 if arg.paper else 0.99
    config.teachers = dict(slow=dict(branch="query", momentum=momentum))
    config.branches = dict(
        query=dict(view="query", encoder="text", normalize=False),
        key=dict(view="key", teacher="slow", normalize=False),
    )
    config.memory = dict(earlier=dict(kind="queue", branch="key", size=16 * config.batch_size))
    moco = dict(kind="momentum_contrast", queries="query", keys="key", memory="earlier")
    config.losses = dict(contriever=dict(moco, scale=20.0 / width))
    if arg.paper:
        config.steps, config.batch_size, config.memory.earlier.size = 500_000, 2048, 131_072
        config.losses.contriever.scale = 20.0
        config.optimizer = texts.adamw(5e-5, warmup=0.04)
    config.evaluation = dict(evaluators={name: texts.search(arg, name, "query", "query") for name in SETS})
    return config
