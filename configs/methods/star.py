"""STAR: all texts of an author find each other, of many authors in a batch (Huertas-Tato et al. 2023,
2310.11081).

There are too few authors here: an author is a package among those installed, a text is a function of it,
and packages are held out whole. So figures depend on what is installed. Arguments: see shared/texts.py;
ablation=shuffled, functions whose package is another function's. With paper it starts from
bert-large-uncased, a folder in data.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

CHECK = dict(
    figures={
        "8 known functions": "attribution/accuracy",
        "TF-IDF of letters": "attribution/tfidf_characters/accuracy",
        "verification": "verification/auc",
        "TF-IDF of letters, verification": "verification/tfidf_characters/auc",
    },
    arms={"STAR": "", "shuffled": "ablation=shuffled", "no training": "ablation=untrained"},
    seeds=3,
    once=("no training",),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "shuffled")
    text, author = ("text", "author") if arg.paper else ("code", "package")
    source = f"jsonl:{arg.data}/authors_train.jsonl" if arg.paper else "docstrings:train"
    source += f"?exchange={author}:1" if arg.ablation == "shuffled" else ""
    views = dict(text=dict(kind="text", field=text, length=512 if arg.paper else 64))
    config = texts.config(arg, source, views, 300, 128, tokenizer=dict(lowercase=False))
    config.data.sampler = dict(kind="identities", group=author, members=4 if arg.small else 8)
    config.heads = dict(out=dict(kind="linear", features=texts.width(config), bias=True))
    config.branches = dict(text=dict(view="text", encoder="text", heads=("out",)))
    loss = dict(kind="supervised", views=("text",), labels=author, scale=20.0, learn_scale=False)
    config.losses = dict(star=loss)
    if arg.paper:
        config.steps, config.batch_size, config.data.sampler.members = 3000, 16_384, 16
        large = f"{arg.data}/bert-large-uncased"  # in place of RoBERTa-large
        config.encoders.text.size, config.init_from.text.path, config.data.tokenizer.path = "L", large, large
        config.heads.out.features, config.microbatch = 1024, 32
        config.optimizer = dict(
            kind="adafactor", learning_rate=1e-2, warmup=0.06, decay="linear", weight_decay=1e-4
        )
    held_out = f"jsonl:{arg.data}/authors_held_out.jsonl" if arg.paper else "docstrings:held_out"
    same = dict(branch="text", label=author, source=held_out, baselines=("tfidf_characters",))
    config.evaluation = dict(
        evaluators=dict(
            attribution=dict(kind="few_shot", ways=20, shots=8, queries=4, episodes=200, **same),
            verification=dict(kind="verification", pairs=4000, **same),
        )
    )
    if arg.ablation == "untrained":
        texts.untrained(config)
    return config
