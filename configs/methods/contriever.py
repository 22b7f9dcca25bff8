"""Contriever: two crops of a text find each other among the crops of earlier batches (Izacard et al. 2021,
2112.09118).

Of unlabelled texts, measured by questions to some of them. Dot products without normalisation: the scale is
20 over the width, for a layer norm gives embeddings of about the root of the width. The paper starts from
BERT; here a run begins with ablation=in_batch, whose negatives are the batch's own, and first=WORKDIR goes
on from it: from nothing the encoder changes so fast that it learns to tell new keys from old ones. A passage
is 256 words up to the end of a sentence, where the paper cuts 256 tokens anywhere anew. Other
arguments: see shared/texts.py; task=ict, a sentence and the rest of its text in place of crops;
ablation=no_momentum, keys of the encoder itself.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

SETS = ("cranfield", "cacm")
CHECK = dict(
    figures={f"{name}, {figure}": f"{name}/{figure}" for name in SETS for figure in ("R@100", "nDCG@10")}
    | {f"BM25, {name}": f"{name}/bm25/R@100" for name in SETS},
    arms={
        "Contriever": ("ablation=in_batch", "first={0}"),
        "inverse cloze": ("ablation=in_batch,task=ict", "first={0},task=ict"),
        "no momentum": ("ablation=in_batch", "first={0},ablation=no_momentum"),
        "in batch": ("ablation=in_batch", "first={0},ablation=in_batch"),
        "no training": "ablation=untrained",
    },
    seeds=3,
    once=("inverse cloze", "in batch", "no training"),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "in_batch", "no_momentum", task="crops", first="")
    texts.one_of("task", arg.task, ("crops", "ict"))
    text = dict(kind="text", length=256 if arg.paper else 64)
    crop = dict(text, field="passage", span=(0.05, 0.5), deletion=0.1)
    views = dict(query=dict(crop), key=dict(crop))
    if arg.task == "ict":
        text = dict(text, field="sentences", together="cloze")
        views = dict(query=text, key=dict(text, rest=True))
    own = " + ".join(f"jsonl:{arg.data}/retrieval/{name}/corpus.jsonl?passages=256" for name in SETS)
    papers = " + ".join(f"jsonl:{arg.data}/{name}/*.jsonl?passages=256" for name in ("wikipedia", "ccnet"))
    source = papers if arg.paper else own
    config = texts.config(arg, source, views, 300, 64)
    config.data.sampler = dict(kind="homogeneous")  # else the collection alone tells texts apart
    scale = 20.0 if arg.paper else 20.0 / texts.width(config)
    config.branches = {name: dict(view=name, encoder="text", normalize=False) for name in views}
    if arg.ablation == "in_batch":
        config.losses = dict(contriever=texts.softmax("query", "key", scale=scale))
    else:
        momentum = 0.0 if arg.ablation == "no_momentum" else 0.9995 if arg.paper else 0.99
        config.teachers = dict(slow=dict(branch="query", momentum=momentum))
        config.branches.key = dict(view="key", teacher="slow", normalize=False)
        size = 131_072 if arg.paper else 4 * config.batch_size
        config.memory = dict(earlier=dict(kind="queue", branch="key", size=size))
        moco = dict(kind="momentum_contrast", queries="query", keys="key", memory="earlier")
        config.losses = dict(contriever=dict(moco, scale=scale))
    if arg.first:
        texts.start_from(config, arg.first)
        config.optimizer.learning_rate = 2e-3
    if arg.paper:
        config.steps, config.batch_size = 500_000, 2048
        config.data.sampler = dict(kind="mixture", alpha=0.0)  # half of each
        config.optimizer = texts.adamw(5e-5, warmup=0.04)
    config.evaluation = dict(evaluators={name: texts.search(arg, name, "query", "query") for name in SETS})
    if arg.ablation == "untrained":
        texts.untrained(config)
    return config
