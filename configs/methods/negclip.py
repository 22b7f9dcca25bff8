"""NegCLIP: each caption has a copy with two words in each other's place, a hard negative of the picture, so
that the order of words matters (Yuksekgonul et al. 2023, 2210.01936). The paper's other negatives, similar
pictures, are there already: a person comes with every skin tone, and couples with two.

Arguments: see shared/pairs.py; ablation=clip, no negatives. With paper, CLIP's weights are trained on, lists
of words stand in for the paper's tagger (a caption with none of them is shuffled whole), and similar pictures
are left out: the paper adds a neighbour of each of the 256.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pairs = beside(__file__, "shared/pairs.py")

TONES = "light medium-light medium medium-dark dark"
OF_COCO = (
    "red orange yellow green blue purple pink brown black white gray silver",
    "small large big little tall short long tiny huge old young new",
    "man woman boy girl person child baby player",
    "dog cat horse cow sheep bird bear elephant giraffe zebra",
    "car bus truck train motorcycle bicycle boat plane",
    "table bench couch chair bed desk counter",
    "sitting standing walking riding holding eating playing lying running flying",
    "pizza cake sandwich banana apple broccoli hot-dog donut",
)
CLIP = "openai/clip-vit-base-patch32"

CHECK = dict(
    figures={
        "right caption of two orders": "order/accuracy",
        "a guess": "order/chance",
        "R@1, name to picture": "retrieval/text_to_image/R@1",
        "R@10, name to picture": "retrieval/text_to_image/R@10",
    },
    arms={"NegCLIP": "", "CLIP": "ablation=clip"},
    seeds=3,
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "clip")
    config = pairs.config(arg, pairs.EMOJI, steps=500)
    people = f"webdataset:{arg.data}/emoji_noto_multilingual/*.tar?where=skin_tone:true&part=key:"
    if not arg.paper:
        config.data.source = people + "0:0.7"
        config.data.views.text.word_dropout = 0.0
        config.encoders.image = pairs.image_tower(arg, pairs.GLYPHS)  # which knows left from right
    clip = dict(kind="softmax", rows="image", columns="text", scale=10.0)
    kinds = OF_COCO if arg.paper else (TONES,)
    if arg.ablation != "clip":
        config.data.views.swapped = dict(config.data.views.text, swap=kinds)
        config.branches.swapped = dict(config.branches.text, view="swapped")
        clip["negatives"] = "swapped"
    config.losses = dict(clip=clip)
    if arg.paper:
        pairs.start_from_clip(config, CLIP)
        config.steps, config.batch_size = 11_500, 256  # 5 epochs of COCO
        config.optimizer.update(learning_rate=1e-6, warmup=50 / 11_500, weight_decay=0.1)
    order = dict(kind="caption_choice", examples="image", prompts="text", perturbations=("swap",))
    order.update(
        true=config.data.views.text.get("field", "text"), kinds=tuple(tuple(kind.split()) for kind in kinds)
    )
    config.evaluation = pairs.evaluation(arg, pairs.EMOJI, order=order)
    if not arg.paper:
        config.evaluation.source = people + "0.7:1"
    return config
