"""Symile: three modalities are scored by one product of all of them, so that it sees what only two together
say of the third; here two handwritten digits and the name of their sum's last digit (Saporta et al. 2024,
2411.01053).

Arguments: see shared/pairs.py (with paper captions/*.tar hold pictures, texts and `sound`, pictures of a
spectrum); missing, the share of each modality that is missing at training; ablation=pairwise, CLIP's loss of
all three pairs.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pairs = beside(__file__, "shared/pairs.py")

CHECK = dict(
    figures={
        "sum found, by the product": "sum/product/R@1",
        "sum found, by the pairs": "sum/sum/R@1",
        "a guess": "sum/chance",
    },
    arms={
        "Symile": "",
        "pairwise CLIP": "ablation=pairwise",
        "Symile, 10 % missing": "missing=0.1",
        "pairwise CLIP, 10 % missing": "ablation=pairwise,missing=0.1",
    },
    seeds=3,
    once=("Symile, 10 % missing", "pairwise CLIP, 10 % missing"),
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "pairwise", missing=0.0)
    config = pairs.config(arg, pairs.EMOJI, steps=400, batch_size=256)
    names = ("image", "other", "text")
    absent = dict(missing=arg.missing)
    if arg.paper:
        config.data.views.other = dict(config.data.views.image, field="sound")
        for view in config.data.views.values():
            view.update(absent)
        config.encoders.other = dict(config.encoders.image)
    else:
        config.data.source = "digits:train_sums"
        digit, word = dict(kind="glyph", size=8), dict(kind="text", field="sum_name", length=8)
        digit.update(shift=0, **absent)
        config.data.views = dict(image=digit, other=dict(digit, field="other"), text=dict(word, **absent))
        tower = dict(config.encoders.image, stride=1, width=8)
        text = dict(config.encoders.text, length=8, depth=1)
        config.encoders = dict(image=tower, other=dict(tower), text=text)
    config.heads = {name: dict(kind="linear", features=pairs.features(arg)) for name in names}
    config.branches = {name: dict(view=name, encoder=name, heads=(name,)) for name in names}
    config.losses = dict(symile=dict(kind="symile", views=names))
    if arg.ablation == "pairwise":
        clip = dict(kind="softmax", scale=10.0, weight=1 / 3)
        two = (("image", "other"), ("image", "text"), ("other", "text"))
        config.losses = {f"{a}_{b}": dict(clip, rows=a, columns=b) for a, b in two}
    if arg.paper:
        config.steps, config.batch_size = 250_000, 1024
        config.optimizer.update(learning_rate=1e-4, weight_decay=0.01)
    found = dict(kind="conditional_retrieval", given=("image", "other"), answers="text")
    config.evaluation = dict(
        source=pairs.source(arg, pairs.EMOJI, "test") if arg.paper else "digits:held_out_sums",
        evaluators=dict(sum=dict(found, right="record" if arg.paper else "sum")),
    )
    return config
