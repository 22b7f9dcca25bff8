"""Two stages, as E5, GTE and BGE are trained: pairs that belong together by where they stand, in batches of
one source each; then labelled triples, whose contradictions are hard negatives (Wang et al. 2022,
2212.03533).

stage=1 learns from titles with their texts, sentences with their first halves, words with their
definitions; stage=2,first=WORKDIR goes on from there with inference data, without first from nothing.
mined=FILE: what `contrastive-jax data mine` has found for queries with a checkpoint, in place of inference
data. Other arguments: see shared/texts.py; ablation=mixed, batches of all sources; ablation=supervised, the
second stage alone, for twice the steps. The paper's scores by a cross-encoder, and its filter, which keeps
pairs that a first model finds, are left out.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

STEPS = 250
CHECK = dict(
    figures={"STS-B": "stsb/spearman", "SICK": "sick/spearman"}
    | {f"{name}, nDCG@10": f"{name}/nDCG@10" for name in ("cranfield", "cacm")},
    arms={
        "both stages": ("stage=1", "stage=2,first={0}"),
        "weak pairs alone": "stage=1",
        "labelled alone": "ablation=supervised,stage=2",
        "mixed batches": ("stage=1,ablation=mixed", "stage=2,first={0}"),
        "no training": "ablation=untrained",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "mixed", "supervised", stage=1, first="", mined="")
    texts.one_of("stage", arg.stage, (1, 2))
    length = 128 if arg.paper else 32
    views = dict(
        query=dict(kind="text", field="query", length=length, prompts=("query: {}",)),
        document=dict(kind="text", field="document", length=length, prompts=("passage: {}",)),
    )
    negatives = {}
    if arg.stage == 2:
        views["negative"] = dict(views["document"], field="negatives", count=7 if arg.paper else 1)
        negatives = dict(negatives="negative")
    config = texts.config(arg, labelled(arg) if arg.stage == 2 else weak(arg), views, STEPS, 128)
    if arg.stage == 1:
        config.data.sampler = dict(kind="mixture" if arg.ablation == "mixed" else "homogeneous", alpha=0.0)
    config.branches = {name: dict(view=name, encoder="text") for name in views}
    config.losses = dict(match=texts.softmax("query", "document", **negatives))
    if arg.ablation == "supervised":
        config.steps = 2 * config.steps
    if arg.first:
        texts.start_from(config, arg.first)
    if arg.paper:
        config.losses.match.scale = 100.0
        config.steps, config.batch_size = (20_000, 32_768) if arg.stage == 1 else (10_000, 256)
        config.optimizer = texts.adamw(2e-4 if arg.stage == 1 else 2e-5, warmup=0.05)
    found = {name: texts.search(arg, name, "query", "document") for name in ("cranfield", "cacm")}
    config.evaluation = texts.similarity(arg, "query", **found)
    if arg.ablation == "untrained":
        texts.untrained(config)
    return config


def weak(arg: ConfigDict) -> str:
    """Pairs that nobody has labelled; each part has a query and a document."""
    if arg.paper:
        return " + ".join(
            f"jsonl:{arg.data}/ccpairs/{name}.jsonl" for name in ("reddit", "wikipedia", "papers")
        )
    titles = [f"beir:{arg.data}/retrieval/{name}/titles" for name in ("cranfield", "cacm")]
    split = f"parquet:{arg.data}/wiki_split/train.parquet?rename=complex:query,simple_1:document"
    words = f"parquet:{arg.data}/wordnet_definitions/train.parquet?rename=words:query,definition:document"
    return " + ".join([*titles, split, words])


def labelled(arg: ConfigDict) -> str:
    """Pairs with hard negatives."""
    if arg.mined:
        return f"jsonl:{arg.mined}?keep=negatives"
    if arg.paper:
        return f"jsonl:{arg.data}/labelled/*.jsonl?keep=negatives"
    triples = "anchor:query,positive:document,negative:negatives"
    return f"jsonl:{arg.data}/nli/triples_train.jsonl?rename={triples}"
