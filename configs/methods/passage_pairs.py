"""Passages as pairs: a sentence finds the rest of its passage (inverse cloze), one of a page's first
section finds a passage of the page (BFS), one of a linked page's finds a passage of the page that names it
(WLP), or all three in one run (Chang et al. 2020, 2002.03932).

Measured on pages that training has not seen: a section is to find the rest of its page. Two passages of one
page are no negatives of each other here: there are 280 pages. Arguments: see shared/texts.py; ablation=ict,
bfs, wlp: one task alone.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

HELD_OUT = ("wikitext2", "factbook")
CHECK = dict(
    figures={f"{name}, MRR": f"{name}/MRR" for name in HELD_OUT}
    | {f"BM25, {name}": f"{name}/bm25/MRR" for name in HELD_OUT},
    arms={
        "all three": "",
        "inverse cloze": "ablation=ict",
        "first section": "ablation=bfs",
        "links": "ablation=wlp",
        "no training": "ablation=untrained",
    },
)
TASKS = dict(
    ict="rename=sentences:asked,sentences:answer",
    bfs="rename=lead:asked,passage:answer",
    wlp="keep=linked&rename=linked:asked,passage:answer",
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, *TASKS)
    tasks = [arg.ablation] if arg.ablation in TASKS else list(TASKS)
    pages = ["wikipedia"] if arg.paper else [f"running_text/{name}_train" for name in HELD_OUT]
    source = " + ".join(passages(f"{arg.data}/{name}", task) for task in tasks for name in pages)
    pair = dict(kind="text", together="task")
    views = dict(
        query=dict(pair, field="asked", length=64 if arg.paper else 32),
        document=dict(pair, field="title", also=("answer",), rest=True, length=288 if arg.paper else 96),
    )
    config = texts.config(arg, source, views, 300, 64)
    config.data.sampler = dict(kind="homogeneous", alpha=0.0)  # a task and a kind of page by itself
    config.branches = {name: dict(view=name, encoder="text") for name in views}
    config.losses = dict(search=texts.softmax("query", "document", ignore="document"))
    if arg.paper:
        _two_towers(config)
        config.losses.search = texts.softmax("query", "document", scale=1.0)
        config.data.sampler = dict(kind="mixture", alpha=0.0)
        config.steps, config.batch_size = 100_000, 8192
        config.optimizer = texts.adamw(1e-4, warmup=0.1)
    words = dict(query_words=24, document_words=80)
    page = dict(kind="section_retrieval", queries="query", documents="document", **words)
    config.evaluation = dict(
        evaluators={
            name: dict(page, source=f"jsonl:{arg.data}/running_text/{name}_test.jsonl.gz")
            for name in HELD_OUT
        }
    )
    if arg.ablation == "untrained":
        texts.untrained(config)
    return config


def passages(path: str, task: str) -> str:
    """The pairs of a task; a tenth of the Factbook's links, for its pages name all their neighbours."""
    fewer = "part=key:0:0.1&" if "factbook" in path and task == "wlp" else ""
    return f"jsonl:{path}.jsonl.gz?passages=128&{fewer}{TASKS[task]}"


def _two_towers(config: ConfigDict) -> None:
    """Each side has a BERT of its own, and a matrix to 512 numbers, which are not normalised."""
    bert, folder = config.encoders.text.to_dict(), config.data.tokenizer.path
    config.encoders = {name: dict(bert, pooling="cls") for name in config.branches}
    config.heads = {name: dict(kind="linear", features=512) for name in config.branches}
    own = {name: dict(encoder=name, heads=(name,), normalize=False) for name in config.branches}
    config.branches.update(own)
    config.init_from = {
        name: dict(path=folder, parts=(f"encoders/{name}=encoders/text",)) for name in config.encoders
    }
