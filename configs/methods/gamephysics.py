"""CLIP x GamePhysics: videos are found by a sentence from the embeddings of their frames in a CLIP that is
not trained for it, by the best frame, by votes of the best of all, or by their mean (Taesiri et al. 2022,
2203.11096). Here a small CLIP learns pictures with the names of their classes, and videos are bags of twenty
held-out pictures, of which one, or ten, show what is asked for. The paper trains nothing, and with paper
nothing is: records of captions/test-*.tar are frames, with the name of their video and what is seen in it.

Arguments: data, small, paper and ablation as in shared/pairs.py; ablation=untrained.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pairs = beside(__file__, "shared/pairs.py")

HOW = ("max", "vote", "mean", "softmax")

CLIP = "openai/clip-vit-base-patch32"
CHECK = dict(
    figures={
        **{f"1 of 20 frames, {how}": f"one/{how}/R@1" for how in HOW},
        **{f"10 of 20 frames, {how}": f"half/{how}/R@1" for how in HOW},
        "a guess": "one/chance",
    },
    arms={"CLIP x GamePhysics": "", "no training": "ablation=untrained"},
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "untrained")
    config = pairs.config(arg, pairs.EMOJI, steps=500)
    prompts = ("a photo of a {}", "a picture of the {}", "{}")
    test = pairs.source(arg, pairs.EMOJI, "test")
    if not arg.paper:
        config.data.source, test = (f"parquet:{arg.data}/cifar10/{s}.parquet" for s in ("train", "test"))
        config.data.views.image.update(resolution=16, flip=0.5)
        config.data.views.text = dict(kind="text", field="label_name", length=12, prompts=prompts)
    config.losses = dict(clip=dict(kind="softmax", rows="image", columns="text", positives="label"))
    if arg.paper:
        pairs.start_from_clip(config, CLIP)
        config.losses.clip.positives = None
    if arg.ablation or arg.paper:
        pairs.untrained(config)
    videos = dict(kind="grouped_retrieval", queries="text", frames="image", templates=prompts)
    if arg.paper:
        evaluators = dict(videos=dict(videos, group="video"))
    else:
        videos.update(names="label_name", trials=2 if arg.small else 30)
        evaluators = dict(one=dict(videos), half=dict(videos, hits=10))
    config.evaluation = dict(source=test, evaluators=evaluators)
    return config
