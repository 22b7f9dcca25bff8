"""CoCoSoDa: code and what it says it does find each other, and masked copies of both by a slow encoder,
among the batch and four queues of earlier ones (Shi et al. 2022, 2204.03293).

Of functions of the packages that are installed, with packages held out whole. So figures depend on what is
installed. Tokens are masked at random; the paper's further views, by the types of a parser's tokens, are
left out. The paper starts from UniXcoder; here a run begins with ablation=in_batch, the two directions of
the batch alone, and first=WORKDIR goes on from it: from nothing the encoder changes so fast that queues
make it collapse. Other arguments: see shared/texts.py; ablation=queues and ablation=masking, that alone.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")

CHECK = dict(
    figures={
        "MRR": "functions/MRR",
        "BM25": "functions/bm25_identifiers/MRR",
        "TF-IDF of letters": "functions/tfidf_characters/MRR",
    },
    arms={
        "CoCoSoDa": ("ablation=in_batch", "first={0}"),
        "queues alone": ("ablation=in_batch", "first={0},ablation=queues"),
        "masked copies alone": ("ablation=in_batch", "first={0},ablation=masking"),
        "in batch": ("ablation=in_batch", "first={0},ablation=in_batch"),
        "no training": "ablation=untrained",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = texts.parsed(arg, "in_batch", "queues", "masking", first="")
    queues, masking = (arg.ablation not in ("in_batch", other) for other in ("masking", "queues"))
    lengths = dict(code=256 if arg.paper else 64, docstring=128 if arg.paper else 32)
    views = {name: dict(kind="text", field=name, length=length) for name, length in lengths.items()}
    own = "docstrings:train?part=key:0:0.25"  # each of them several times
    source = f"jsonl:{arg.data}/code_search_net/*.jsonl" if arg.paper else own
    config = texts.config(arg, source, views, 200, 128, tokenizer=dict(identifiers=True, mask=True))
    config.branches = {name: dict(view=name, encoder="text") for name in lengths}
    pairs = [("code", "docstring"), ("docstring", "code")]
    if masking:
        masked = dict(masking=0.1, masked_as=(0.8, 0.1, 0.1), spared=3)
        config.data.views.update({f"masked_{name}": dict(view, **masked) for name, view in views.items()})
        config.teachers = dict(slow=dict(branch="code", momentum=0.999))
        copies = {f"masked_{name}": dict(view=f"masked_{name}", teacher="slow") for name in lengths}
        config.branches.update(copies)
        pairs += [(one, f"masked_{other}") for one in lengths for other in lengths]
    if queues:
        size = (8 if arg.paper else 2) * config.batch_size
        config.memory = {
            f"earlier_{name}": dict(kind="queue", branch=name, size=size) for name in config.branches
        }
    config.losses = {
        f"{one}_to_{other}": texts.softmax(
            one, other, weight=1 / len(pairs), **(dict(memory=f"earlier_{other}") if queues else {})
        )
        for one, other in pairs
    }
    if arg.first:
        texts.start_from(config, arg.first)
        config.optimizer.learning_rate /= 10
    if arg.paper:
        config.steps, config.batch_size = 100_000, 128
        config.data.sampler = dict(kind="mixture", field="language", alpha=0.7)
        for loss in config.losses.values():
            loss.scale = 1 / 0.07
        config.optimizer = texts.adamw(2e-5)
    held_out = f"jsonl:{arg.data}/code_search_net_test.jsonl" if arg.paper else "docstrings:held_out"
    search = dict(kind="pairs", queries="docstring", answers="code", source=held_out, candidates=1000)
    search |= dict(
        query_text="docstring", answer_text="code", baselines=("bm25_identifiers", "tfidf_characters")
    )
    config.evaluation = dict(evaluators=dict(functions=search))
    if arg.ablation == "untrained":
        texts.untrained(config)
    return config
