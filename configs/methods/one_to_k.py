"""1-to-K (CCRK): a picture is set against its captions in K languages at once, all of them positives, so that
no language is ranked apart from the others (Nie et al. 2024, 2406.18254). The paper's Swin-B is a ViT-B/16
here and its half of XLM-R-large starts anew, all with one learning rate; its matching and masked-word losses,
which need a fusion encoder, are left out.

Arguments: see shared/pairs.py; ablation=one, CLIP's loss with the caption in one language, drawn at each
step; each, CLIP's loss with every language by itself.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pairs = beside(__file__, "shared/pairs.py")

LANGUAGES = ("en", "es", "zh", "ar")
OF_THE_PAPER = ("en", "de", "fr", "cs", "zh", "ja", "ar", "ru", "es", "id")

CHECK = dict(
    figures={
        "R@1, to picture": "languages/to_image/R@1",
        "R@5, to picture": "languages/to_image/R@5",
        "MRV, to picture": "languages/to_image/MRV",
        "R@5, from picture": "languages/from_image/R@5",
        "MRV, from picture": "languages/from_image/MRV",
    },
    arms={
        "1-to-K": "",
        "pairwise, one language a step": "ablation=one",
        "pairwise, every language": "ablation=each",
    },
    seeds=3,
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pairs.parsed(arg, "one", "each")
    languages = OF_THE_PAPER if arg.paper else LANGUAGES
    field = "text.{}" if arg.paper else "tts.{}"
    config = pairs.config(arg, pairs.EMOJI, steps=200)
    view = pairs.text(arg, pairs.EMOJI)
    fields = [field.format(language) for language in languages]
    config.data.views = dict(
        image=config.data.views.image,
        **{name: dict(view, field=field) for name, field in zip(languages, fields)},
    )
    branch = dict(encoder="text", heads=("text",))
    config.branches = dict(
        image=config.branches.image, **{name: dict(branch, view=name) for name in languages}
    )
    scale = 1 / 0.07 if arg.paper else 10.0
    clip = dict(kind="softmax", columns="image", scale=scale)
    if arg.ablation == "one":
        config.data.views.drawn = dict(view, field=fields[0], either=tuple(fields[1:]))
        config.branches.drawn = dict(branch, view="drawn")
        config.losses = dict(clip=dict(clip, rows="drawn"))
    elif arg.ablation == "each":
        config.losses = {name: dict(clip, rows=name, weight=1 / len(languages)) for name in languages}
    else:
        config.losses = dict(ccrk=dict(kind="one_to_k", image="image", views=languages, scale=scale))
    if arg.paper:
        config.steps, config.batch_size = 600_000, 128
        config.encoders.text = dict(
            kind="bert", size="L", depth=12, vocabulary=49408, length=77, pooling="cls"
        )
        config.heads = {name: dict(kind="linear", features=256) for name in config.heads}
        config.optimizer.update(learning_rate=1e-4, weight_decay=0.01)
    config.evaluation = dict(
        source=pairs.source(arg, pairs.EMOJI, "test"),
        evaluators=dict(languages=dict(kind="rank_variance", languages=languages, others="image")),
    )
    return config
