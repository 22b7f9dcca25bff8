"""The vision transformer of Dosovitskiy et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from contrastive_jax.encoders.architecture import Architecture
from contrastive_jax.encoders.linen import Encoded, kernel, zeros
from contrastive_jax.encoders.transformer import Transformer, TransformerEncoder
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key, UInt8


@dataclass(frozen=True)
class VisionTransformer(TransformerEncoder):
    """Images [B, H, W, C] to embeddings [B, width].

    uint8 pixels become (x / 255 - mean) / std, x / 127.5 - 1 unless told; floating-point ones are taken as
    they are. Patches are laid out by row, then column, with learned positions.

    Args:
        size: `micro`, `Ti`, `S`, `B`, `L`, with the patch if wanted: `B/16`.
        patch: side of the square patches in pixels; 16 unless told here or in `size`.
        patch_bias: whether the matrix from pixels to tokens has a bias.
        registers: how many learned tokens stand beside the patches, without a position.
        mean, std: of the pixels, from 0 to 1, one number or one a channel.
        others: see `TransformerEncoder`. `last` pooling is for text.

    Raises:
        InputError: a value that is not possible; an image that the patch does not divide.
    """

    size: str = "B"
    patch: int | None = None
    patch_bias: bool = True
    registers: int = 0
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        name, _, patch = self.size.partition("/")
        if patch:
            if not patch.isdecimal():
                raise InputError(f"size: '{self.size}' names no patch; write it as B/16")
            if self.patch not in (None, int(patch)):
                raise InputError(f"patch: {self.patch} differs from size '{self.size}'; give one of the two")
            object.__setattr__(self, "patch", int(patch))
        object.__setattr__(self, "size", name)
        object.__setattr__(self, "patch", 16 if self.patch is None else self.patch)
        if self.patch < 1:
            raise InputError(f"patch: {self.patch} is not possible; it must be at least 1")
        if self.registers < 0:
            raise InputError(f"registers: {self.registers} is not possible; it must be at least 0")
        if min(self.std, default=0) <= 0:
            raise InputError(f"std: {self.std} is not possible; give positive numbers")
        if self.pooling == "last":
            raise InputError("pooling: 'last' is for text; choose one of cls, mean, map")
        super().__post_init__()

    def module(self, example: Any) -> nn.Module:
        if len(example.shape) != 4:
            raise InputError(
                f"image of shape {tuple(example.shape[1:])}; it must be [height, width, channels]"
            )
        height, width = example.shape[1:3]
        if height % self.patch or width % self.patch:
            raise InputError(
                f"patch: {self.patch} does not divide an image of {height} x {width} pixels; "
                "choose another patch, or resize the image"
            )
        length = (height // self.patch) * (width // self.patch)
        for key, value in (("mean", self.mean), ("std", self.std)):
            if len(value) not in (1, example.shape[3]):
                raise InputError(
                    f"{key}: {len(value)} numbers for {example.shape[3]} channels; give one, or one a channel"
                )
        architecture = self.architecture(registers=self.registers)
        pixels = tuple(self.mean), tuple(self.std)
        return VisionModule(architecture, self.patch, length, self.patch_bias, pixels)

    def apply(
        self,
        params: Any,
        view: UInt8[Array, "B H W C"] | Float[Array, "B H W C"],
        *,
        train: bool,
        key: Key[Array, "B"] | None,
    ) -> Encoded:
        """Encode a batch of images; see `TransformerEncoder.apply`."""
        expected = self.module(view).length + (self.pooling == "cls")
        positions = params["transformer"]["position"].shape[0]
        if positions != expected:
            raise InputError(
                f"an image of {view.shape[1]} x {view.shape[2]} pixels has {expected} positions with patch "
                f"{self.patch}, the parameters have {positions}; resize the image to what they were made for"
            )
        return super().apply(params, view, train=train, key=key)


class VisionModule(nn.Module):
    """Pixels to patches, one matrix, and the transformer."""

    architecture: Architecture
    patch: int
    length: int
    patch_bias: bool = True
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = ((0.5,), (0.5,))

    @nn.compact
    def __call__(self, view: Array, keys: Key[Array, "B"] | None) -> Encoded:
        a, p = self.architecture, self.patch
        x = self.normalized(view) if view.dtype == jnp.uint8 else view
        b, h, w, c = x.shape
        x = x.reshape(b, h // p, p, w // p, p, c).swapaxes(2, 3).reshape(b, self.length, p * p * c)
        x = nn.Dense(
            a.dimensions.width,
            use_bias=self.patch_bias,
            dtype=a.dtype,
            kernel_init=kernel("patch", "embed"),
            bias_init=zeros("embed"),
            name="patches",
        )(x)
        return Transformer(a, self.length, name="transformer")(x, None, keys)

    def normalized(self, view: UInt8[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Bytes as the numbers that the first matrix takes."""
        mean, std = self.pixels
        if mean == std == (0.5,):
            return view.astype(jnp.float32) / 127.5 - 1
        return (view.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
