"""What methods of texts share: a small BERT that learns its word pieces from the texts, or BERT-base as
papers start from it; unlabelled sentences; what embeddings of sentences are measured by.

Arguments of each of them: data, the folder that holds the data sets (with paper also bert-base-uncased,
weights and tokenizer, and the paper's texts by the name that the config gives them); small, a run of
seconds for tests; paper, the hyper-parameters of the paper; ablation, what the method is compared with,
among them `untrained`.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "pictures.py")
one_of, untrained = pictures.one_of, pictures.untrained


def parsed(arg: str, *ablations: str, **more) -> ConfigDict:
    """The arguments of a config; ablations: the values that `ablation` may have beside `untrained`."""
    return pictures.parsed(arg, *ablations, "untrained", **more)


def config(
    arg: ConfigDict,
    source: str,
    views: dict,
    steps: int,
    batch_size: int,
    learning_rate: float = 5e-3,
    tokenizer: dict | None = None,
    **encoder,
) -> ConfigDict:
    """Everything but heads, branches and losses; encoder: fields of the BERT that all branches share."""
    config = ConfigDict()
    config.steps = 6 if arg.small else steps
    config.batch_size = 16 if arg.small else batch_size
    length = max(view["length"] for view in views.values())
    if arg.paper:
        folder = f"{arg.data}/bert-base-uncased"
        tokens = dict(kind="file", path=folder)
        size = dict(size="B", vocabulary=30_522, length=512, dropout=0.1)
        config.init_from = dict(text=dict(path=folder))
    else:
        tokens = dict(kind="bpe", vocabulary=8192, **(tokenizer or {}))
        width = 32 if arg.small else 64
        size = dict(size="micro", width=width, depth=1, mlp=width, vocabulary=8192, length=length)
    config.data = dict(source=source, sampler=dict(kind="permutation"), tokenizer=tokens, views=views)
    config.encoders = dict(text=dict(kind="bert", **size | encoder))
    config.optimizer = dict(kind="adamw", learning_rate=learning_rate, warmup=0.1, weight_decay=0.01)
    config.checkpoint = dict(every=3 if arg.small else steps)
    config.logging = dict(every=1 if arg.small else 10)
    return config


def start_from(config: ConfigDict, workdir: str) -> None:
    """Goes on with the encoder and the word pieces of another run."""
    config.init_from = dict(text=dict(path=workdir))
    config.data.tokenizer = dict(kind="file", path=f"{workdir}/tokenizer.json")


def width(config: ConfigDict) -> int:
    """Of the encoder."""
    return config.encoders.text.get("width", 768)


def softmax(rows: str, columns: str, **more) -> dict:
    """Rows look for their columns, by cosines at a temperature of 0.05."""
    fixed = dict(scale=20.0, learn_scale=False, symmetric=False)
    return dict(kind="softmax", rows=rows, columns=columns, **fixed | more)


def mlp(config: ConfigDict, **more) -> dict:
    """The head of SimCSE."""
    return dict(kind="mlp", features=width(config), layers=1, bias=True, last_activation="tanh", **more)


def adamw(learning_rate: float, warmup: float = 0.0) -> dict:
    """The optimizer of papers that start from BERT."""
    moments = dict(b2=0.999, eps=1e-8, weight_decay=0.0)
    return dict(kind="adamw", learning_rate=learning_rate, warmup=warmup, decay="linear", **moments)


def sentences(arg: ConfigDict, **encoder) -> ConfigDict:
    """What unsupervised SimCSE and what came of it have in common: `config` of unlabelled sentences, the head
    `mlp`, and the evaluators of branch `a`; no branches and no losses."""
    parts = (
        ("wiki_split/train", "complex"),
        ("wiki_split/dev", "complex"),
        ("nli/pairs_train", "hypothesis"),
    )
    files = (f"parquet:{arg.data}/{file}.parquet?rename={field}:text" for file, field in parts)
    source = f"jsonl:{arg.data}/wiki1m.jsonl" if arg.paper else " + ".join(files)
    pooling = "cls" if arg.paper else "mean"
    views = dict(text=dict(kind="text", length=32))
    made = config(arg, source, views, 300, 64, pooling=pooling, **encoder)
    made.heads = dict(mlp=mlp(made, train_only=True))
    if arg.paper:
        made.steps, made.batch_size = 15_625, 64  # an epoch
        made.optimizer = adamw(3e-5)
    held_out = f"parquet:{arg.data}/wiki_split/test.parquet?rename=complex:text"
    made.evaluation = similarity(arg, "a", geometry=dict(kind="geometry", rows="a", source=held_out))
    if arg.ablation == "untrained":
        untrained(made)
    return made


def similarity(arg: ConfigDict, branch: str, **more) -> dict:
    """The correlation with people's scores of sentence pairs, and further evaluators."""
    sts = dict(kind="sts", branch=branch)
    sick = dict(source=f"parquet:{arg.data}/sts/sick/test.parquet", score="relatedness")
    return dict(
        source=f"parquet:{arg.data}/sts/stsb_en/test.parquet",
        evaluators=dict(stsb=dict(sts, baselines=("tfidf",)), sick=dict(sts, **sick), **more),
    )


def search(arg: ConfigDict, name: str, queries: str, documents: str) -> dict:
    """A test collection, with BM25 beside it."""
    return dict(
        kind="beir",
        queries=queries,
        documents=documents,
        folder=f"{arg.data}/retrieval/{name}",
        ignore_identical_ids=False,  # queries and documents are both numbered from 1
        measures=("nDCG@10", "R@100"),
    )
