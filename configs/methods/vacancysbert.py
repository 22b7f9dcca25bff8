"""VacancySBERT: the title of a record finds another field of it; equal titles are no negatives (Bocharova
et al. 2023, 2307.16638).

There are no job ads here: a title is a function's name, the field is what its docstring says, and packages
are held out whole. So figures depend on what is installed. With paper the number of steps and the batch are
those of here: the paper does not say. Arguments: see shared/texts.py;
ablation=no_mask, in which equal titles are each other's negatives.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

CHECK = dict(
    figures={f"R@{k}": f"fields/R@{k}" for k in (1, 5, 10)}
    | {
        "BM25, R@10": "fields/bm25_identifiers/R@10",
        "TF-IDF of letters, R@10": "fields/tfidf_characters/R@10",
    },
    arms={
        "VacancySBERT": "",
        "equal titles unmasked": "ablation=no_mask",
        "no training": "ablation=untrained",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "no_mask")
    title, field = ("title", "skills") if arg.paper else ("name", "docstring")
    views = dict(
        title=dict(kind="text", field=title, length=16),
        field=dict(kind="text", field=field, length=128 if arg.paper else 32),
    )
    source = f"jsonl:{arg.data}/vacancies_train.jsonl" if arg.paper else "docstrings:train"
    config = texts.config(arg, source, views, 300, 256, tokenizer=dict(identifiers=True))
    config.branches = {name: dict(view=name, encoder="text") for name in views}
    mask = {} if arg.ablation == "no_mask" else dict(ignore=title)
    config.losses = dict(match=texts.softmax("title", "field", symmetric=True, **mask))
    if arg.paper:
        config.optimizer = texts.adamw(2e-5, warmup=0.1)
    held_out = f"jsonl:{arg.data}/vacancies_test.jsonl" if arg.paper else "docstrings:held_out"
    pairs = dict(kind="pairs", queries="title", answers="field", query_text=title, answer_text=field)
    lexical = ("bm25_identifiers", "tfidf_characters")
    config.evaluation = dict(
        evaluators=dict(
            fields=dict(pairs, source=held_out, candidates=1000, at=(1, 5, 10), baselines=lexical)
        )
    )
    if arg.ablation == "untrained":
        texts.untrained(config)
    return config
