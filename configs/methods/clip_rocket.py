"""CLIP-rocket, improved baselines for vision-language pre-training: beside CLIP's loss of clean views stand
losses of changed pictures with changed texts, through heads and scales of their own (Fini et al. 2023,
2305.08675). With no changed views it is CLIP. Each changed pair learns a scale of its own. Of the paper's
add-ons there are SiamLIP, BYOLIP and BarLIP; SwaLIP, whose targets Sinkhorn's iterations make, is left out,
and so are synonyms among the changes of texts.

Arguments: see shared/pairs.py; ablation=clip; pictures, only they are changed; texts, only they are; siam,
byol and bar, CLIP's loss and that of SimSiam, BYOL or Barlow Twins between pictures and texts.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pairs = beside(__file__, "shared/pairs.py")

CHECK = dict(
    figures={
        "R@1, name to picture": "retrieval/text_to_image/R@1",
        "R@10, name to picture": "retrieval/text_to_image/R@10",
        "R@10, picture to name": "retrieval/image_to_text/R@10",
    },
    arms={
        "CLIP-rocket": "",
        "CLIP": "ablation=clip",
        "CLIP, changed pictures": "ablation=pictures",
        "CLIP, changed texts": "ablation=texts",
        "SiamLIP": "ablation=siam",
        "BYOLIP": "ablation=byol",
        "BarLIP": "ablation=bar",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "clip", "pictures", "texts", "siam", "byol", "bar")
    config = pairs.config(arg, pairs.EMOJI, steps=200, batch_size=96)
    config.data.views.image.crop = (0.5, 1.0)
    config.data.views.text.word_dropout = 0.0
    config.losses = dict(clip=dict(kind="softmax", rows="image", columns="text"))
    if arg.ablation in ("siam", "byol", "bar"):
        add_on(arg, config)
    elif arg.ablation != "clip":
        changed_views(arg, config)
    if arg.paper:
        config.steps, config.batch_size = 75_000, 4096  # 25 epochs of CC12M
        config.optimizer.update(learning_rate=3e-3, warmup=0.04, weight_decay=0.1)
    config.evaluation = pairs.evaluation(arg, pairs.EMOJI)
    return config


def changed_views(arg: ConfigDict, config: ConfigDict) -> None:
    """Adds two changed views of each side, or the clean view of one side, and a loss of each pair of them."""
    crop, jitter = (0.08 if arg.paper else 0.3, 1.0), (0.4, 0.4, 0.4, 0.1)
    photo = pairs.picture(arg, pairs.EMOJI, crop=crop, ratio=(0.75, 1.333), jitter=jitter, grey=0.2)
    words = dict(word_dropout=0.0, stop_words=0.8, eda=(0.4, 0.4, 0.2))
    if arg.paper:
        photo.update(blur=0.5, flip=0.5)
    changed = dict(image=photo, text=pairs.text(arg, pairs.EMOJI, **words))
    clean = {"pictures": "text", "texts": "image"}.get(arg.ablation)
    size = dict(hidden=4096, features=256) if arg.paper else dict(hidden=128, features=pairs.FEATURES)
    for side, view in changed.items():
        config.heads[f"local_{side}"] = dict(kind="mlp", **size)
        for name in (side,) if side == clean else (f"{side}_a", f"{side}_b"):
            if side != clean:
                config.data.views[name] = view
            config.branches[f"local_{name}"] = dict(view=name, encoder=side, heads=(f"local_{side}",))
    images, texts = ([b for b in config.branches if b.startswith(f"local_{side}")] for side in changed)
    each = dict(kind="softmax", scale=10.0, label_smoothing=0.1, weight=2 / 3 / len(images) / len(texts))
    config.losses.clip.weight = 1 / 3
    for image in images:
        for text in texts:
            config.losses[f"{image}_{text}"] = dict(rows=image, columns=text, **each)


def add_on(arg: ConfigDict, config: ConfigDict) -> None:
    """Adds a second pair of branches and what regresses or correlates one with the other."""
    siam = arg.ablation != "bar"
    hidden, features = ((2048, 128) if siam else (3000, 8192)) if arg.paper else (128, 64)
    batch = dict(kind="mlp", norm="batch", activation="relu", features=features)
    for side in ("image", "text"):
        heads = (f"projected_{side}", f"predicted_{side}") if siam else (f"projected_{side}",)
        config.heads[heads[0]] = dict(batch, hidden=hidden, layers=3)
        if siam:
            config.heads[heads[1]] = dict(batch, hidden=hidden // 4)
        config.branches[f"second_{side}"] = dict(view=side, encoder=side, heads=heads, normalize=siam)
    if not siam:
        correlation = dict(kind="cross_correlation", a="second_image", b="second_text", off_diagonal=5e-3)
        config.losses.bar = dict(correlation, weight=0.025)
        return
    if arg.ablation == "byol":
        config.teachers = {
            f"slow_{side}": dict(branch=f"second_{side}", stage=f"projected_{side}", momentum=0.99)
            for side in ("image", "text")
        }
    for side, other in (("image", "text"), ("text", "image")):
        targets = f"second_{other}.projected_{other}"
        if arg.ablation == "byol":
            targets = f"target_{other}"
            config.branches[targets] = dict(view=other, teacher=f"slow_{other}")
        config.losses[side] = dict(kind="cosine_regression", predictions=f"second_{side}", targets=targets)
