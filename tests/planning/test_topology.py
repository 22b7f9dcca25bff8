"""Names of slices, and the chips that they are of."""

import pytest

from contrastive_jax.distributed.chips import CHIPS, chip_of
from contrastive_jax.errors import InputError
from contrastive_jax.planning.topology import SLICES, Topology


@pytest.mark.parametrize(
    ("text", "chips"), [("v5e:16x16", 256), ("v5p:8x8x16", 1024), ("v6e:1x1", 1), ("v4:4x8x12", 384)]
)
def test_a_slice(text, chips):
    topology = Topology.parse(text)
    assert (topology.chips, str(topology)) == (chips, text)
    assert topology.chip is CHIPS[text.partition(":")[0]]


@pytest.mark.parametrize("text", [f"{chip}:{shape}" for chip, shapes in SLICES.items() for shape in shapes])
def test_the_known_ones(text):
    assert str(Topology.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("v5p", "v9:2x2", "v5e:3x5", "v5e:4x4x4", "v5p:8x8", "v5p:16x8x8", "v5p:4x4x6", "v5p:16x16x40"),
        *("H100:2x2", "v5p:0x4x4", "v5p:4x4x4x4", "v5p:4x4x-4", "", "v5e:", "v5p:٤x٤x٤"),
    ],
)
def test_an_unknown_one_lists_the_known(text):
    with pytest.raises(InputError, match=r"is unknown; known: .*(v5p|v5e):.*2x2"):
        Topology.parse(text)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v4", "v4"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA H100 80GB HBM3", "H100"),
    ],
)
def test_the_chip_of_a_device(kind, name):
    assert chip_of(kind).name == name


def test_a_device_without_figures():
    assert chip_of("cpu") is None
