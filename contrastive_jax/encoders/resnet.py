"""Residual convolutional networks, with group normalisation so that no example sees another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import DTYPES, one_of
from contrastive_jax.encoders.linen import Boundary, Encoded, named
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key, UInt8

STEMS = ("large", "small")


class Layout(NamedTuple):
    """Blocks in each stage, whether they are bottlenecks, channels of the first stage."""

    stages: tuple[int, ...]
    bottleneck: bool
    width: int


SIZES = {
    "micro": Layout((1, 1, 1), False, 32),
    "18": Layout((2, 2, 2, 2), False, 64),
    "34": Layout((3, 4, 6, 3), False, 64),
    "50": Layout((3, 4, 6, 3), True, 64),
    "101": Layout((3, 4, 23, 3), True, 64),
}


@dataclass(frozen=True)
class ResNet(Boundary):
    """Images [B, H, W, C] to embeddings [B, D], the mean over places of the last stage.

    D is the first stage's width doubled at every later stage, times 4 with bottlenecks. uint8 pixels
    become x / 127.5 - 1; floating-point ones are taken as they are. Batch normalisation would make an
    example's embedding depend on the rest of its batch; group normalisation (Wu and He 2018,
    arXiv 1803.08494) does not. Source: He et al. 2015, arXiv 1512.03385.

    Args:
        size: a row of `SIZES`: `micro`, `18`, `34`, `50`, `101`.
        width: channels of the first stage in place of the size's own.
        stem: `large`, a 7 x 7 convolution and a pooling, to a quarter of the picture's side; `small`, one
            convolution, of 3 x 3 at `stride` 1, as SimCLR takes for CIFAR, and of 2 stride - 1 beyond.
        stride: of the small stem.
        groups: of channels that are normalised together, at most; a width that they do not divide is an
            error.
        dtype: `float32` or `bfloat16` for computing; parameters, statistics and embeddings are float32.
        remat: recompute each block in the backward pass, keeping only its input.
    """

    size: str = "50"
    width: int | None = None
    stem: str = "large"
    stride: int = 1
    groups: int = 32
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError(f"size: '{self.size}' is not a size; choose one of {', '.join(SIZES)}")
        one_of("stem", self.stem, STEMS)
        one_of("dtype", self.dtype, DTYPES)
        for key in ("width", "stride", "groups"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key}: {value} is not possible; it must be at least 1")
        if self.stem == "large" and self.stride != 1:
            raise InputError(f"stride: {self.stride} is for the small stem; leave it at 1")
        if self.layout.width % self.groups:
            raise InputError(f"groups: {self.groups} does not divide width {self.layout.width}")

    @property
    def layout(self) -> Layout:
        named_size = SIZES[self.size]
        return named_size if self.width is None else named_size._replace(width=self.width)

    def module(self, example: Any) -> nn.Module:
        if len(example.shape) != 4:
            raise InputError(
                f"image of shape {tuple(example.shape[1:])}; it must be [height, width, channels]"
            )
        return ResNetModule(self)

    def apply(
        self,
        params: Any,
        view: UInt8[Array, "B H W C"] | Float[Array, "B H W C"],
        *,
        train: bool,
        key: Key[Array, "B"] | None,
    ) -> Encoded:
        """Encode a batch of images; `tokens` are the places of the last stage. Nothing is random."""
        return self.module(view).apply({"params": params}, view, None)


class ResNetModule(nn.Module):
    """Stem, stages, mean."""

    encoder: ResNet

    @nn.compact
    def __call__(self, view: Array, keys: Key[Array, "B"] | None) -> Encoded:
        e, layout = self.encoder, self.encoder.layout
        x = view.astype(jnp.float32) / 127.5 - 1 if view.dtype == jnp.uint8 else view
        x = x.astype(e.dtype)
        if e.stem == "large":
            x = nn.relu(Normalised(layout.width, 7, 2, e, name="stem")(x))
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        else:
            x = nn.relu(Normalised(layout.width, max(3, 2 * e.stride - 1), e.stride, e, name="stem")(x))
        block = Bottleneck if layout.bottleneck else Basic
        block = nn.remat(block) if e.remat else block
        for i, blocks in enumerate(layout.stages):
            for j in range(blocks):
                stride = 2 if i and not j else 1
                x = block(layout.width * 2**i, stride, e, name=f"stage_{i}_block_{j}")(x)
                x = constrain(x, ("batch", None, None, "features"))
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        embedding = constrain(jnp.mean(tokens.astype(jnp.float32), axis=1), ("batch", "features"))
        mask = jnp.ones(tokens.shape[:2], bool)
        return Encoded(embedding, tokens, mask, mask, {})


class Normalised(nn.Module):
    """A convolution without bias and the normalisation of what it gives.

    The kernel starts from a normal of variance 2 / fan_out (He et al. 2015); the last scale of a residual
    branch starts at 0, so that a block starts as the identity (Goyal et al. 2017, arXiv 1706.02677).
    """

    features: int
    kernel: int
    stride: int
    encoder: ResNet
    last: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        start = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
        pad = self.kernel // 2
        x = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=((pad, pad), (pad, pad)),
            use_bias=False,
            dtype=self.encoder.dtype,
            kernel_init=named(start, None, None, None, "embed"),
            name="convolution",
        )(x)
        scale = nn.initializers.zeros if self.last else nn.initializers.ones
        return GroupNorm(self.encoder.groups, named(scale, "embed"), name="norm")(x)


class GroupNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) over the places and the channels of a group, then scale and bias."""

    groups: int
    scale_init: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", named(nn.initializers.zeros, "embed"), (channels,))
        grouped = x.astype(jnp.float32).reshape(*x.shape[:3], self.groups, -1)
        mean = grouped.mean(axis=(1, 2, 4), keepdims=True)
        variance = jnp.square(grouped - mean).mean(axis=(1, 2, 4), keepdims=True)
        normal = ((grouped - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        return (normal * scale + bias).astype(x.dtype)


class Basic(nn.Module):
    """Two 3 x 3 convolutions beside the identity, or beside a 1 x 1 one where the shape changes."""

    features: int
    stride: int
    encoder: ResNet

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        e = self.encoder
        y = nn.relu(Normalised(self.features, 3, self.stride, e, name="first")(x))
        y = Normalised(self.features, 3, 1, e, last=True, name="second")(y)
        return nn.relu(y + _shortcut(x, self.features, self.stride, e))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions, the last to four times the channels; the 3 x 3 one strides."""

    features: int
    stride: int
    encoder: ResNet

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        e = self.encoder
        y = nn.relu(Normalised(self.features, 1, 1, e, name="first")(x))
        y = nn.relu(Normalised(self.features, 3, self.stride, e, name="second")(y))
        y = Normalised(4 * self.features, 1, 1, e, last=True, name="third")(y)
        return nn.relu(y + _shortcut(x, 4 * self.features, self.stride, e))


def _shortcut(x: Array, features: int, stride: int, encoder: ResNet) -> Array:
    """Called inside a block's compact call: the identity, or a 1 x 1 convolution to the block's shape."""
    if x.shape[-1] == features and stride == 1:
        return x
    return Normalised(features, 1, stride, encoder, name="shortcut")(x)
