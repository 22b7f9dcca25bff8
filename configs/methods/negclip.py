"""NegCLIP: each caption has a copy with two words in each other's place, a hard negative of the picture, so
that the order of words matters (Yuksekgonul et al. 2023, 2210.01936). The paper's other negatives, similar
pictures, are there already: a person comes with every skin tone, and couples with two.

Arguments: see shared/pairs.py; ablation=clip, no negatives; images, in the paper, are CLIP's fine-tuned ones.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pairs = beside(__file__, "shared/pairs.py")

TONES = "light medium-light medium medium-dark dark"

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
    if arg.ablation != "clip":
        config.data.views.swapped = dict(config.data.views.text, swap=(TONES,))
        config.branches.swapped = dict(config.branches.text, view="swapped")
        clip["negatives"] = "swapped"
    config.losses = dict(clip=clip)
    if arg.paper:
        config.steps, config.batch_size = 11_500, 512  # 5 epochs of COCO
        config.optimizer.update(learning_rate=1e-6, warmup=50 / 11_500, weight_decay=0.1)
    order = dict(kind="caption_choice", examples="image", prompts="text", perturbations=("swap",))
    order.update(true=config.data.views.text.get("field", "text"), kinds=(tuple(TONES.split()),))
    config.evaluation = pairs.evaluation(arg, pairs.EMOJI, order=order)
    if not arg.paper:
        config.evaluation.source = people + "0.7:1"
    return config
