"""MetaCLIP: of a pool of captions so many are kept that no word drowns the others, and CLIP learns from them
(Xu et al. 2024, 2309.16671). In emoji skin tones and persons do; the entries are the words of the names, and
what is measured are those without a skin tone, the tail. With paper the entries are the lines of
captions/metadata.txt. To write a balanced set once: `contrastive-jax data balance`.

Arguments: see shared/pairs.py; cap, pairs an entry brings in expectation; ablation=random, as large a part of
the pool by lot; pool, all of it.
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
        "MetaCLIP: balanced": "",
        "as many by lot": "ablation=random",
        "the whole pool": "ablation=pool",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "random", "pool", cap=2)
    config = pairs.config(arg, pairs.EMOJI, steps=200)
    field = config.data.views.text.get("field", "text")
    cap = f"20000:{arg.data}/captions/metadata.txt" if arg.paper else arg.cap
    drawn = {"random": "?part=key:0:0.487", "pool": ""}.get(arg.ablation, f"?balance={field}:{cap}")
    config.data.source += drawn
    scale = 1 / 0.07 if arg.paper else 10.0
    config.losses = dict(clip=pairs.pair(arg, pairs.EMOJI, kind="softmax", scale=scale))
    if arg.paper:
        config.steps, config.batch_size = 390_625, 32_768  # 12.8 billion pairs seen
        config.encoders.image.update(size="B/32", activation="quick_gelu")
        config.encoders.text.activation = "quick_gelu"
        config.optimizer.update(learning_rate=5e-4, warmup=2000 / 390_625)
    config.evaluation = pairs.evaluation(arg, pairs.EMOJI)
    return config
