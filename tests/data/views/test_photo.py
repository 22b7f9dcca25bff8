"""Pictures of every kind, as they are decoded, cropped and resized."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import Photo

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def rng(seed=0):
    return np.random.default_rng(seed)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return {"image": buffer.getvalue()}


def noise(width, height, channels=3):
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)


def test_evaluation_takes_the_middle_square():
    image = Image.new("RGB", (300, 100), RED)
    image.paste(BLUE, (100, 0, 200, 100))
    array = Photo(resolution=32)(encode(image), rng(), False)
    # The filter sees a little of what stands beside the square, as it does when resizing comes first.
    assert (array[:, 2:-2] == BLUE).all()
    assert (array[:, :, 2] > 200).all()


def test_evaluation_can_take_the_whole_picture():
    image = Image.fromarray(noise(90, 40))
    array = Photo(resolution=32, squeeze=True)(encode(image), rng(), False)
    assert np.array_equal(array, image.resize((32, 32), Image.Resampling.BICUBIC))


def test_a_picture_of_the_size_asked_for_is_left_alone():
    array = noise(32, 32)
    for content in (array, encode(Image.fromarray(array))["image"]):
        assert np.array_equal(Photo(resolution=32)({"image": content}, rng(), False), array)


def test_crops_have_the_areas_asked_for():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (200, 200))
    record = encode(Image.fromarray(ramp).convert("RGB"))
    view = Photo(resolution=64, crop=(0.25, 0.81))
    widths = []
    for seed in range(60):
        row = view(record, rng(seed), True)[32, :, 0].astype(float)
        widths.append((row[-1] - row[0]) * 64 / 63 / 200)
    assert 0.48 < min(widths) < 0.6
    assert 0.8 < max(widths) < 0.92


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_a_grey_wall_is_grey_in_every_mode(mode):
    wall = Image.new("RGB", (40, 40), WHITE if mode == "1" else (96, 96, 96))
    if mode == "I;16":
        wall = Image.fromarray(np.full((40, 40), 96 * 257, np.uint16))
    else:
        wall = wall.convert(mode, palette=Image.Palette.ADAPTIVE)
    record = encode(wall, {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG"))
    level = 255 if mode == "1" else 96
    for train in (True, False):
        array = Photo(resolution=16)(record, rng(), train)
        assert np.abs(array.astype(int) - level).max() <= 2
        assert Photo(resolution=16, channels=1)(record, rng(), train).shape == (16, 16, 1)


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 20, 30)])
def test_what_is_transparent_shows_the_background(background):
    half = np.zeros((20, 20, 4), np.uint8)
    half[..., :3] = RED
    half[:, 10:, 3] = 255
    half[10:, :10, 3] = 128
    layers = Image.fromarray(half)
    palette = layers.convert("RGB").convert("P")
    view = Photo(resolution=20, background=background)
    for record in (encode(layers), {"image": half}):
        array = view(record, rng(), False)
        assert (array[:10, :10] == background).all()
        assert (array[:, 10:] == RED).all()
        blend = (np.array(RED) * 128 + np.array(background) * 127) / 255
        assert np.abs(array[10:, :10] - blend).max() <= 1
    clear = encode(palette, transparency=palette.getpixel((0, 0)))
    assert (view(clear, rng(), False) == background).all()


def test_sixteen_bits_are_not_cut_at_255():
    levels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    array = Photo(resolution=32, channels=1)(encode(Image.fromarray(levels)), rng(), False)
    assert np.array_equal(array[:, :, 0], levels >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_is_followed(orientation):
    image = Image.fromarray(noise(48, 32) // 2).resize((96, 64), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[274] = orientation
    record = encode(image, "JPEG", exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(record["image"]))).convert("RGB")
    assert np.array_equal(
        Photo(resolution=64)(record, rng(), False), Photo(resolution=64)(encode(upright), rng(), False)
    )
    # Crops too, and where the file is decoded at a half.
    view = Photo(resolution=16, crop=(0.3, 1.0), ratio=(0.5, 2.0))
    for seed in range(4):
        turned, right = (view(r, rng(seed), True).astype(int) for r in (record, encode(upright)))
        assert np.abs(turned - right).mean() < 4


def test_a_large_jpeg_is_decoded_to_what_its_crop_needs():
    yy, xx = np.mgrid[:1024, :1024]
    image = Image.fromarray(np.stack([yy // 4, xx // 4, yy * 0], -1).astype(np.uint8))
    jpeg, png = encode(image, "JPEG", quality=95), encode(image)
    for crop in ((0.9, 1.0), (0.01, 0.02)):
        for train in (False, True):
            view = Photo(resolution=64, crop=crop)
            small, exact = (view(record, rng(3), train).astype(int) for record in (jpeg, png))
            assert np.abs(small - exact).max() <= 6


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (32, 32, 3), (64, 48, 4)])
def test_arrays_are_pictures_too(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = array.copy()
    view = Photo(resolution=32, crop=(0.5, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1), cutout=0.4)
    for train in (True, False):
        assert view({"image": array}, rng(), train).shape == (32, 32, 3)
    assert np.array_equal(array, before)
    if len(shape) == 2:
        grey = Photo(resolution=8)({"image": array}, rng(), False)
        assert np.array_equal(grey, np.repeat(array[:, :, None], 3, 2))


@pytest.mark.parametrize("array", [np.zeros((8, 8)), np.zeros((8, 8, 2), np.uint8), np.zeros(8, np.uint8)])
def test_an_array_that_is_no_picture(array):
    with pytest.raises(BrokenRecord, match="no uint8 picture"):
        Photo(resolution=8)({"image": array}, rng(), True)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_broken_pictures(kind, train):
    whole = encode(Image.fromarray(noise(64, 64)), kind)["image"]
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:20], None):
        with pytest.raises(BrokenRecord, match="cannot be decoded"):
            Photo(resolution=16)({"image": content}, rng(), train)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_decompression_bomb_is_not_decoded(side):
    bomb = bytearray(encode(Image.new("1", (1, 1)))["image"])
    bomb[16:24] = struct.pack(">II", side, side)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    for train in (True, False):
        with pytest.raises(BrokenRecord, match=r"too large|exceeds limit"):
            Photo(resolution=16)({"image": bytes(bomb)}, rng(), train)


def test_normalised_pictures():
    array, mean, std = noise(16, 16), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    plain = Photo(resolution=16)({"image": array}, rng(), False)
    normal = Photo(resolution=16, mean=mean, std=std)({"image": array}, rng(), False)
    np.testing.assert_allclose(normal, (plain / 255 - mean) / std, rtol=0, atol=2e-6)
    assert (plain.dtype, normal.dtype) == (np.uint8, np.float32)
