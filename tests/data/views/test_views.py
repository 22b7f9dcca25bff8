import io

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data.glyphs import Glyphs
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
    Photo(resolution=32, channels=1, randaugment=(3, 10), mean=(0.1,), std=(0.3,), cutout=0.5),
    Photo(resolution=20, ratio=(0.5, 2.0), jitter=(0.8, 0.8, 0.8, 0.2), grey=0.5, blur=0.5, solarise=0.5),
    Text(length=9, span=(0.2, 0.5), prompts=("a {}", "one {} of two")).bind(
        BytePairs(vocabulary=50).train(["one two"])
    ),
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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Glyph(shift=32), "shift=32"),
        (lambda: Glyph(size=0), "size=0"),
        (lambda: Glyph(scale=-0.1), "scale=-0.1"),
        (lambda: Photo(resolution=0), "resolution=0"),
        (lambda: Photo(crop=(0.9, 0.1)), "crop=(0.9, 0.1)"),
        (lambda: Photo(crop=(0.0, 1.0)), "crop=(0.0, 1.0)"),
        (lambda: Photo(ratio=(2.0, 0.5)), "ratio=(2.0, 0.5)"),
        (lambda: Photo(flip=1.5), "flip=1.5"),
        (lambda: Photo(cutout=1.0), "cutout=1.0"),
        (lambda: Photo(channels=4), "channels=4"),
        (lambda: Photo(jitter=(0.4, 0.4, 0.4)), "jitter=(0.4, 0.4, 0.4)"),
        (lambda: Photo(jitter=(0.4, 0.4, 0.4, 0.6)), "jitter=(0.4, 0.4, 0.4, 0.6)"),
        (lambda: Photo(randaugment=(2, 11)), "randaugment=(2, 11)"),
        (lambda: Photo(randaugment=(1.5, 5)), "randaugment=(1.5, 5)"),
        (lambda: Photo(mean=(0.5, 0.5, 0.5)), "mean=(0.5, 0.5, 0.5)"),
        (lambda: Photo(mean=(0.5,) * 3, std=(0.0, 1.0, 1.0)), "std=(0.0, 1.0, 1.0)"),
        (lambda: Photo(background=(0, 0, 256)), "background=(0, 0, 256)"),
        (lambda: Text(length=2), "length=2"),
        (lambda: Text(span=(0.5, 0.1)), "span=(0.5, 0.1)"),
        (lambda: Text(prompts=("a photo",)), "prompts='a photo'"),
        (lambda: Text(member=-1), "member=-1"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert words in str(error.value)
