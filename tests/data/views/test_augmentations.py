"""Each change of a picture against a statement of it in numpy."""

import colorsys
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contrastive_jax.data.views import Photo, colouring, cropping
from contrastive_jax.data.views.randaugment import OPERATIONS, randaugment

SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def picture():
    coarse = rng(1).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC)


def grey_of(array):
    return array @ [0.299, 0.587, 0.114]


def seen(view, array, seed):
    return view({"image": array}, rng(seed), True)


@settings(max_examples=60)
@given(SIZES, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**32))
def test_squares_lie_inside_and_have_their_area(size, one, other, seed):
    least, most = sorted((one, other))
    left, top, right, bottom = cropping.square(size, (least, most), rng(seed))
    assert -1e-6 <= left < right <= size[0] + 1e-6
    assert -1e-6 <= top < bottom <= size[1] + 1e-6
    assert math.isclose(right - left, bottom - top, rel_tol=1e-6)
    share = (right - left) ** 2 / min(size) ** 2
    assert least - 1e-6 <= share <= most + 1e-6


@settings(max_examples=60)
@given(
    SIZES, st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.2, 5), st.floats(0.2, 5), st.integers(0, 2**32)
)
def test_crops_lie_inside_and_have_their_area_and_ratio(size, one, other, narrow, wide, seed):
    area, ratio = sorted((one, other)), sorted((narrow, wide))
    left, top, right, bottom = cropping.inception(size, tuple(area), tuple(ratio), rng(seed))
    width, height = right - left, bottom - top
    assert -1e-6 <= left < right <= size[0] + 1e-6
    assert -1e-6 <= top < bottom <= size[1] + 1e-6
    assert ratio[0] * (1 - 1e-6) <= width / height <= ratio[1] * (1 + 1e-6)
    centred = math.isclose(left + right, size[0]) and math.isclose(top + bottom, size[1])
    if not centred:  # which is what ten that do not fit end in
        assert area[0] - 1e-6 <= width * height / (size[0] * size[1]) <= area[1] + 1e-6


def test_areas_ratios_and_places_are_evenly_drawn():
    draw = rng(0)
    boxes = np.array(
        [cropping.inception((1000, 1000), (0.05, 0.25), (3 / 4, 4 / 3), draw) for _ in range(4000)]
    )
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    for values in (
        (width * height / 1e6 - 0.05) / 0.2,
        (np.log(width / height) + math.log(4 / 3)) / (2 * math.log(4 / 3)),
        boxes[:, 0] / (1000 - width),
        boxes[:, 1] / (1000 - height),
    ):
        counts = np.histogram(values, 10, (0, 1))[0]
        assert counts.sum() == 4000
        assert np.abs(counts - 400).max() < 5 * 20  # five standard deviations


def test_a_crop_that_never_fits_is_the_largest_of_the_nearest_ratio():
    assert cropping.inception((400, 100), (0.9, 1.0), (1.0, 1.0), rng()) == (150, 0, 250, 100)
    assert cropping.inception((100, 400), (0.9, 1.0), (2.0, 3.0), rng()) == (0, 175, 100, 225)


def test_a_flip_is_a_mirror(picture):
    array = np.asarray(picture)
    whole = dict(resolution=24, crop=(1.0, 1.0))
    assert np.array_equal(seen(Photo(**whole, flip=1.0), array, 0), array[:, ::-1])
    flips = [not np.array_equal(seen(Photo(**whole, flip=0.3), array, seed), array) for seed in range(300)]
    assert 60 < sum(flips) < 120


def test_grey_has_the_weights_of_luma(picture):
    array = np.asarray(colouring.grey(picture)).astype(float)
    assert (array == array[:, :, :1]).all()
    assert np.abs(array[:, :, 0] - grey_of(np.asarray(picture))).max() <= 1


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_jitter_of_brightness_contrast_and_saturation(picture, kind):
    array = np.asarray(picture).astype(float)
    mean = np.full(3, round(float(np.asarray(picture.convert("L")).mean())))
    plain = [np.zeros(3), mean, np.asarray(picture.convert("L"))[:, :, None].astype(float)][kind]
    strengths = [0.0] * 4
    strengths[kind] = 0.7
    factors = []
    for seed in range(40):
        changed = np.asarray(colouring.jitter(picture, tuple(strengths), rng(seed)))
        factor = 0.3 + rng(seed).random(4)[kind] * 1.4
        right = np.clip(plain + factor * (array - plain), 0, 255)
        assert np.abs(changed - right).max() <= 1
        factors.append(factor)
    assert min(factors) < 0.5
    assert max(factors) > 1.5


@pytest.mark.parametrize("share", [0.0, 0.1, -0.25, 0.5])
def test_the_hue_goes_round(picture, share):
    turned = np.asarray(colouring.turned_hue(picture, share)).reshape(-1, 3) / 255
    for before, after in zip(np.asarray(picture).reshape(-1, 3) / 255, turned):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        right = colorsys.hsv_to_rgb((hue + share) % 1, saturation, value)
        assert np.abs(after - right).max() < 0.04  # hues have 256 levels


def test_a_grey_picture_has_no_hue(picture):
    grey = picture.convert("L")
    assert np.array_equal(colouring.turned_hue(grey, 0.3), grey)


def test_the_blur_is_a_gaussian_of_the_width_drawn():
    dot = np.zeros((41, 41), np.uint8)
    dot[20, 20] = 255
    image = Image.fromarray(np.repeat(dot[:, :, None], 3, 2))
    spreads = []
    for seed in range(20):
        blurred = np.asarray(colouring.blur(image, (1.0, 3.0), rng(seed)))[:, :, 0].astype(float)
        weights = blurred.sum(0) / blurred.sum()
        assert abs(weights @ np.arange(41) - 20) < 0.01
        spreads.append(math.sqrt(weights @ (np.arange(41) - 20) ** 2))
        sigma = 1 + rng(seed).random() * 2
        assert abs(spreads[-1] - sigma) < 0.35
    assert max(spreads) > 2.3


def test_solarise_inverts_what_is_bright(picture):
    array = np.asarray(picture)
    assert np.array_equal(colouring.solarise(picture), np.where(array < 128, array, 255 - array))


def test_cutout_lays_a_square_of_one_colour(picture):
    array = np.full((24, 24, 3), 7, np.uint8)
    view = Photo(resolution=24, crop=(1.0, 1.0), cutout=0.25)
    areas, rows = set(), []
    for seed in range(300):
        cut = (seen(view, array, seed) != 7).all(-1)
        at = np.argwhere(cut)
        (top, left), (bottom, right) = at.min(0), at.max(0)
        assert cut[top : bottom + 1, left : right + 1].all()
        areas.add((bottom + 1 - top, right + 1 - left))
        rows.append(top)
    assert max(areas) == (6, 6)
    assert min(min(area) for area in areas) >= 3  # the centre is in the picture
    assert len(set(rows)) > 15
    assert (array == 7).all()
    coloured = Photo(resolution=24, crop=(1.0, 1.0), cutout=0.9, mean=(0.2, 0.4, 0.6), std=(1.0,) * 3)
    # What is cut out has the mean's colour, which is 0 when it is normalised.
    assert (np.abs(seen(coloured, array, 0)) < 1 / 255).all(-1).mean() > 0.3


def test_randaugment_of_no_strength_changes_little(picture):
    array = np.asarray(picture).astype(int)
    for name, operation in OPERATIONS.items():
        changed = np.asarray(operation(picture, 0.0)).astype(int)
        if name not in ("autocontrast", "equalize"):  # which have no strength
            assert np.abs(changed - array).max() <= 1, name


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("strength", [1.0, -1.0])
def test_every_operation_of_randaugment_changes_a_picture(picture, mode, strength):
    image = picture.point([40 + level // 2 for level in range(256)] * 3).convert(mode)
    for name, operation in OPERATIONS.items():
        changed = operation(image, strength)
        assert (changed.size, changed.mode) == (image.size, mode)
        same = np.array_equal(changed, image)
        assert same == (name == "identity" or (name == "color" and mode == "L")), name


def test_operations_of_randaugment_in_numpy(picture):
    array = np.asarray(picture).astype(int)
    assert np.array_equal(OPERATIONS["posterize"](picture, 0.5), array & 0b11111100)
    assert np.array_equal(OPERATIONS["solarize"](picture, 0.5), np.where(array < 128, array, 255 - array))
    bright = np.asarray(OPERATIONS["brightness"](picture, -1.0)).astype(int)
    assert np.abs(bright - array * 0.1).max() <= 1
    moved = np.asarray(OPERATIONS["translate_x"](picture, 331 / 150 / 4)).astype(int)  # six pixels
    assert np.array_equal(moved[:, :18], array[:, 6:])
    assert (moved[:, 18:] == 128).all()


def test_randaugment_draws_operations_and_signs_evenly(monkeypatch, picture):
    drawn = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda image, s, name=name: drawn.append((name, s)) or image)
    draw = rng(0)
    for _ in range(1400):
        randaugment(picture, 2, 4, draw)
    counts = {key: drawn.count(key) for key in set(drawn)}
    assert len(drawn) == 2800
    assert set(counts) == {(name, sign) for name in OPERATIONS for sign in (0.4, -0.4)}
    assert max(abs(count - 100) for count in counts.values()) < 50
