"""A config whose encoder makes 0 / 0 of a picture of one colour: it divides each by its own spread."""

import dataclasses

import jax.numpy as jnp
from ml_collections import ConfigDict

from contrastive_jax import encoders


@dataclasses.dataclass(frozen=True)
class Standardised(encoders.KINDS["vision_transformer"]):
    def apply(self, params, x, **options):
        x = x.astype(jnp.float32)
        x = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
        return super().apply(params, 64 * x + 128, **options)


def get_config(arg: str = "") -> ConfigDict:
    """arg: a folder of pictures."""
    encoders.KINDS["standardised"] = Standardised
    config = ConfigDict()
    config.steps, config.batch_size = 8, 8
    view = dict(kind="photo", resolution=16)
    config.data = dict(
        source=f"folder:{arg}", sampler=dict(kind="permutation"), views=dict(a=dict(view), b=dict(view))
    )
    tower = dict(size="micro", width=8, depth=1, heads=1, pooling="mean")
    config.encoders = dict(image=dict(kind="standardised", patch=8, **tower))
    config.branches = dict(a=dict(view="a", encoder="image"), b=dict(view="b", encoder="image"))
    config.teachers = dict(copy=dict(branch="a", momentum=0.9, final=1.0))
    config.branches.slow = dict(view="b", teacher="copy")
    config.memory = dict(keys=dict(kind="queue", branch="slow", size=16))
    config.losses = dict(
        views=dict(kind="nt_xent", views=("a", "b")),
        moco=dict(kind="momentum_contrast", queries="a", keys="slow", memory="keys"),
    )
    config.optimizer = dict(kind="adamw", learning_rate=1e-3, warmup=0.25)
    config.logging = dict(every=1, tensorboard=False)
    config.checkpoint = dict(every=2)
    return config
