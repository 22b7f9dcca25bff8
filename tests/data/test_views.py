import io

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data.glyphs import Glyphs
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.data.views import Glyph, Photo, Text
from contrastive_jax.errors import InputError


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def record():
    return Glyphs("all")[20_000]


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return {"image": buffer.getvalue()}


VIEWS = [
    Glyph(),
    Glyph(size=24, scale=0.2, rotation=20.0, erase=8),
    Glyph(shift=0),
    Photo(resolution=48, crop=(0.2, 0.9)),
    Text(length=9).bind(BytePairs(vocabulary=50).train(["one two"])),
]


@pytest.mark.parametrize("view", VIEWS, ids=repr)
@pytest.mark.parametrize("train", [True, False])
def test_what_comes_is_what_was_declared(view, train, record):
    if isinstance(view, Photo):
        record = encode(Image.fromarray(record["image"]).resize((70, 50)))
    for seed in range(5):
        array, structure = view(record, rng(seed), train), view.structure()
        assert array.shape == structure.shape
        assert array.dtype == structure.dtype
        assert np.array_equal(array, view(record, rng(seed), train))


def test_evaluation_leaves_a_glyph_as_it_is(record):
    view = Glyph(shift=3, scale=0.3, rotation=10.0, erase=5)
    assert np.array_equal(view(record, rng(), False)[:, :, 0], record["image"])


def test_a_glyph_is_moved_every_way_and_filled_with_paper():
    image = np.zeros((32, 32), np.uint8)
    image[10, 20] = image[0, 0] = 200
    places = set()
    for seed in range(400):
        moved = Glyph(shift=2)({"image": image}, rng(seed), True)[:, :, 0]
        (place,) = (p for p in np.argwhere(moved).tolist() if p[0] >= 8)
        assert moved.sum() in (200, 400)
        places.add((place[0] - 10, place[1] - 20))
    assert places == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert image[10, 20] == 200


def test_scale_and_rotation_keep_the_middle():
    image = np.zeros((32, 32), np.uint8)
    image[14:18, 6:26] = 255
    sums = []
    for seed in range(30):
        turned = Glyph(shift=0, scale=0.2, rotation=15.0)({"image": image}, rng(seed), True)[:, :, 0]
        rows, columns = np.nonzero(turned > 127)
        assert abs(rows.mean() - 15.5) < 0.7
        assert abs(columns.mean() - 15.5) < 0.7
        sums.append(turned.sum() / image.sum())
    assert 1 / 1.2**2 * 0.95 < min(sums) < 0.85
    assert 1.15 < max(sums) < 1.2**2 * 1.05


def test_erase_lays_paper_on_a_square():
    image = np.full((32, 32), 255, np.uint8)
    sides = set()
    for seed in range(200):
        gone = Glyph(shift=0, erase=4)({"image": image}, rng(seed), True)[:, :, 0] == 0
        sides.add(int(gone.sum()))
    assert sides == {0, 1, 4, 9, 16}
    assert image.all()


def test_photo_evaluation_takes_the_middle_square():
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 0, 255), (100, 0, 200, 100))
    array = Photo(resolution=32)(encode(image), rng(), False)
    # The filter sees a little of what stands beside the square, as it does when resizing comes first.
    assert (array[:, 2:-2] == [0, 0, 255]).all()
    assert (array[:, :, 2] > 200).all()


def test_photo_crops_have_the_areas_asked_for():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (200, 200))
    record = encode(Image.fromarray(ramp).convert("RGB"))
    view = Photo(resolution=64, crop=(0.25, 0.81))
    widths = []
    for seed in range(60):
        row = view(record, rng(seed), True)[32, :, 0].astype(float)
        widths.append((row[-1] - row[0]) * 64 / 63 / 200)
    assert 0.48 < min(widths) < 0.6
    assert 0.8 < max(widths) < 0.92


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_photo_reads_every_mode(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    record = encode(Image.new("RGB", (40, 40), (9, 9, 9)).convert(mode), kind)
    assert Photo(resolution=16)(record, rng(), True).shape == (16, 16, 3)


def test_photo_decodes_a_large_jpeg_to_what_is_needed():
    yy, xx = np.mgrid[:1024, :1024]
    image = Image.fromarray(np.stack([yy // 4, xx // 4, yy * 0], -1).astype(np.uint8))
    small = Photo(resolution=64)(encode(image, "JPEG", quality=95), rng(), False).astype(int)
    exact = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(small - exact).max() <= 6


def test_photo_follows_the_camera():
    image = Image.new("RGB", (40, 40), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 40, 20))
    exif = Image.Exif()
    exif[274] = 3  # upside down
    turned = Photo(resolution=40)(encode(image, "JPEG", exif=exif), rng(), False)
    assert turned[35, 20, 2] > 200
    assert turned[5, 20, 0] > 200


def test_broken_pictures():
    whole = encode(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))["image"]
    for content in (b"", b"text", whole[: len(whole) // 2]):
        with pytest.raises(BrokenRecord, match="cannot be decoded"):
            Photo(resolution=16)({"image": content}, rng(), False)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_decompression_bomb_is_not_decoded(side):
    bomb = encode(Image.new("1", (side, side)))
    assert len(bomb["image"]) < 100_000
    with pytest.raises(BrokenRecord, match=r"too large|exceeds limit"):
        Photo(resolution=16)(bomb, rng(), False)


def test_text_needs_its_tokenizer():
    with pytest.raises(ValueError, match="bind"):
        Text()({"text": "a"}, rng(), True)
    assert Text(length=5).bind(None) == Text(length=5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Glyph(shift=32), "shift=32"),
        (lambda: Glyph(size=0), "size=0"),
        (lambda: Glyph(scale=-0.1), "scale=-0.1"),
        (lambda: Photo(resolution=0), "resolution=0"),
        (lambda: Photo(crop=(0.9, 0.1)), "crop=(0.9, 0.1)"),
        (lambda: Text(length=2), "length=2"),
        (lambda: Text(member=-1), "member=-1"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert words in str(error.value)


def test_word_dropout_leaves_words_out_at_training_only():
    text = "LATIN SMALL LETTER A WITH BREVE AND GRAVE"
    tokenizer = BytePairs(vocabulary=200).train([text])
    view = Text(length=24, word_dropout=0.5).bind(tokenizer)
    record = {"text": text}
    whole = Text(length=24).bind(tokenizer)(record, np.random.default_rng(0), True)
    np.testing.assert_array_equal(view(record, np.random.default_rng(0), False), whole)
    lengths = [(view(record, np.random.default_rng(i), True) != 0).sum() for i in range(200)]
    assert min(lengths) >= 3  # begin, end and at least one word
    assert 0.35 < (np.mean(lengths) - 2) / ((whole != 0).sum() - 2) < 0.65
