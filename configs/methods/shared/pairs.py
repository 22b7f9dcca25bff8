"""What methods of pictures and texts share: emoji and their names, characters and theirs, or paper's sizes.

Arguments of each of them: data, the folder that holds emoji_noto_multilingual (characters need none) or, with
paper, captions/train-*.tar and test-*.tar (WebDataset: picture, text); small, a run of seconds for tests;
paper, the hyper-parameters of the paper; ablation, what the method is compared with.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside
from contrastive_jax.data.tokenizers import END

pictures = beside(__file__, "pictures.py")
parsed, one_of, untrained = pictures.parsed, pictures.one_of, pictures.untrained

EMOJI, GLYPHS = "emoji", "glyphs"
FEATURES = 64


def config(arg: ConfigDict, kind: str, steps: int = 400, batch_size: int = 128) -> ConfigDict:
    """Everything but losses and evaluation: a branch `image` and a branch `text`, each through its encoder
    and a matrix. steps, batch_size: of the small towers; kind: EMOJI or GLYPHS."""
    config = ConfigDict()
    config.steps = 6 if arg.small else steps
    config.batch_size = 16 if arg.small else batch_size
    config.data = dict(
        source=source(arg, kind),
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=49408 if arg.paper else 2048),
        views=dict(image=picture(arg, kind), text=text(arg, kind)),
    )
    config.encoders = dict(image=image_tower(arg, kind), text=text_tower(arg, kind))
    config.heads = {name: dict(kind="linear", features=features(arg)) for name in ("image", "text")}
    config.branches = {name: dict(view=name, encoder=name, heads=(name,)) for name in ("image", "text")}
    config.optimizer = dict(kind="adamw", learning_rate=3e-3, warmup=0.1, weight_decay=0.2)
    config.checkpoint = dict(every=3 if arg.small else config.steps)
    config.logging = dict(every=1 if arg.small else 10)
    return config


def start_from_clip(config: ConfigDict, weights: str) -> None:
    """OpenAI's CLIP with a ViT-B/32, as published; for a config of the paper's sizes with a loss `clip`."""
    config.encoders.image = pictures.clip_tower("B/32")
    config.encoders.text.update(activation="quick_gelu", epsilon=1e-5, end=49407)
    config.data.tokenizer = dict(kind="file", path=weights)
    config.init_from = {name: dict(path=weights) for name in ("image", "text")}
    config.losses.clip.scale = 100.0  # where its training ended


def features(arg: ConfigDict) -> int:
    return 512 if arg.paper else FEATURES


def pair(arg: ConfigDict, data: str, **more) -> dict:
    """A loss of the branches `image` and `text`; characters that look the same are no negatives."""
    alike = dict(ignore="picture") if data == GLYPHS and not arg.paper else {}
    return dict(rows="image", columns="text", **alike) | more


def source(arg: ConfigDict, kind: str, split: str = "train") -> str:
    """Emoji of the test split have no skin tone: the others are near copies of each other."""
    if arg.paper:
        return f"webdataset:{arg.data}/captions/{split}-*.tar"
    if kind == GLYPHS:
        return {"train": "glyphs:train_characters", "test": "glyphs:held_out_characters"}[split]
    bare = "?where=skin_tone:false" if split == "test" else ""
    return f"webdataset:{arg.data}/emoji_noto_multilingual/{split}-*.tar{bare}"


def picture(arg: ConfigDict, kind: str, **changes) -> dict:
    if arg.paper:
        return dict(kind="photo", resolution=224, crop=(0.9, 1.0)) | changes
    if kind == GLYPHS:
        return dict(kind="glyph", size=32, shift=1) | changes
    resolution = 16 if arg.small else 32
    return dict(kind="photo", resolution=resolution, crop=(0.8, 1.0), ratio=(0.9, 1.11)) | changes


def text(arg: ConfigDict, kind: str, **changes) -> dict:
    if arg.paper:
        return dict(kind="text", length=77) | changes
    field = "text" if kind == GLYPHS else "tts.en"
    return dict(kind="text", field=field, length=24, word_dropout=0.15) | changes


def image_tower(arg: ConfigDict, kind: str) -> dict:
    if arg.paper:
        return dict(kind="vision_transformer", size="B/16")
    if kind == GLYPHS:
        depth, width = (1, 32) if arg.small else (3, 64)
        return dict(
            kind="vision_transformer", size="micro", patch=8, depth=depth, width=width, pooling="mean"
        )
    return dict(kind="resnet", size="micro", stem="small", stride=2, width=8 if arg.small else 16, groups=8)


def text_tower(arg: ConfigDict, kind: str) -> dict:
    """With paper, CLIP's (Radford et al. 2021, 2103.00020)."""
    if arg.paper:
        ends = dict(causal=True, pooling="last", end=END)
        return dict(
            kind="text_transformer",
            width=512,
            heads=8,
            depth=12,
            mlp=2048,
            vocabulary=49408,
            length=77,
            **ends,
        )
    depth, width = (1, 32) if arg.small else (2, 64)
    size = dict(size="micro", depth=depth, width=width)
    return dict(kind="text_transformer", **size, vocabulary=2048, length=24, pooling="mean")


def evaluation(arg: ConfigDict, kind: str, **evaluators) -> dict:
    """Retrieval between names and pictures of the test split, and what more is given."""
    right = ("picture",) if kind == GLYPHS and not arg.paper else ("record",)
    retrieval = dict(kind="retrieval", rows="text", columns="image", right=right)
    return dict(source=source(arg, kind, "test"), evaluators=dict(retrieval=retrieval, **evaluators))
