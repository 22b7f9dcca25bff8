"""A text tower learns to read out a picture tower that is trained already and stays as it is.

Zhai et al. 2022, LiT: Zero-Shot Transfer with Locked-image text Tuning, arXiv 2111.07991. The default is at
home in the embedded pictures of characters: `contrastive-jax train --config configs/glyphs_faces.py --workdir
runs/faces` first. Arguments: image=runs/faces, a work directory, or the weights of another library (a folder
or a hub name), whose encoder `image` is taken with its architecture; source=jsonl:captions.jsonl and
res=224 for one's own captioned pictures in place of characters, held_out=jsonl:... to measure retrieval on;
small, a text tower and a run of seconds.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments
from contrastive_jax.training.starting import architecture


def get_config(arg: str = "") -> ConfigDict:
    arg = arguments(arg, image="", source="", held_out="", res=224, small=False)
    config = ConfigDict()
    config.seed = 0
    config.steps = 24 if arg.small else 600
    config.batch_size = 64 if arg.small else 256
    length = 64 if arg.source else 16
    config.data = dict(
        source=arg.source or "glyphs",
        sampler=dict(kind="permutation") if arg.source else dict(kind="groups", group="character"),
        tokenizer=dict(kind="bpe", vocabulary=2048),
        views=dict(
            image=dict(kind="photo", resolution=arg.res, crop=(0.9, 1.0))
            if arg.source
            else dict(kind="glyph", size=32, shift=1),
            text=dict(kind="text", length=length),
        ),
    )
    width = 32 if arg.small else 64
    config.encoders = dict(
        image=architecture(arg.image, "image") if arg.image else _faces(arg.small),
        text=dict(
            kind="text_transformer",
            size="micro",
            width=width,
            depth=1 if arg.small else 2,
            vocabulary=2048,
            length=length,
            pooling="mean",
        ),
    )
    config.init_from = dict(image=dict(path=arg.image or "runs/faces", parts=("encoders/image",)))
    config.frozen = ("encoders/image/*",)
    config.heads = dict(image=dict(kind="linear", features=width), text=dict(kind="linear", features=width))
    config.branches = dict(
        image=dict(view="image", encoder="image", heads=("image",)),
        text=dict(view="text", encoder="text", heads=("text",)),
    )
    alike = {} if arg.source else dict(positives="character", ignore="picture")
    config.losses = dict(clip=dict(kind="softmax", rows="image", columns="text", scale=10.0, **alike))
    config.optimizer = dict(kind="adamw", learning_rate=4e-3, warmup=0.1, weight_decay=0.1)
    config.checkpoint = dict(every=12 if arg.small else 200)
    config.logging = dict(every=2 if arg.small else 10)
    held_out = arg.held_out or ("" if arg.source else "glyphs:held_out_characters")
    if held_out:
        right = ("record",) if arg.source else ("picture",)
        config.evaluation = dict(
            source=held_out,
            evaluators=dict(retrieval=dict(kind="retrieval", rows="text", columns="image", right=right)),
        )
    return config


def _faces(small: bool) -> dict:
    """The encoder of configs/glyphs_faces.py."""
    width, depth = (32, 1) if small else (64, 3)
    return dict(kind="vision_transformer", size="micro", width=width, depth=depth, patch=8, pooling="mean")
