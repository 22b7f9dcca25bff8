"""What all views have in common: several examples a record, shared random numbers, blanks."""

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data.examples import Steps, evaluate_view
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.samplers import Permutation
from contrastive_jax.data.streams import Streams
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.data.views import Glyph, Photo, Text
from contrastive_jax.errors import InputError

TOKENIZER = BytePairs(vocabulary=60).train(["one two three four missing"])
CHANGED = dict(flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1), grey=0.3, blur=0.5, randaugment=(2, 5))


class Records:
    """A source of the records that it is given."""

    name = "records"

    def __init__(self, records):
        self._records = records

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]


def pictures(count=12, size=(40, 40)):
    rng = np.random.default_rng(0)
    return [{"image": rng.integers(0, 256, (*size, 3), np.uint8)} for _ in range(count)]


def batch(records, step=0, batch_size=8, **views):
    source = Records(records)
    draw = Permutation().bind(source, batch_size, 0)
    return Steps(source, draw, views, {}, 3, 9, [slice(None)], 1)[step]


def rng(seed=0):
    return np.random.default_rng(seed)


VIEWS = {
    "photo": (Photo, dict(resolution=16, ratio=(0.7, 1.3), std=(1.0,) * 3, mean=(0.5,) * 3)),
    "glyph": (Glyph, dict(size=16)),
    "text": (Text, dict(length=8, word_dropout=0.5)),
}


def made(kind, **settings):
    view = VIEWS[kind][0](**VIEWS[kind][1], **settings)
    return view.bind(TOKENIZER) if kind == "text" else view


def record(kind):
    image = np.random.default_rng(1).integers(0, 256, (16, 16), np.uint8)
    return {"image": image, "text": "one two three four"}


@pytest.mark.parametrize("kind", VIEWS)
def test_count_adds_an_axis_at_training_alone(kind):
    view, one = made(kind, count=5), made(kind)
    several, single = view(record(kind), rng(), True), one(record(kind), rng(), True)
    assert view.structure() == one.structure()
    assert several.shape == (5, *view.structure().shape)
    assert several.dtype == view.structure().dtype
    assert np.array_equal(several[0], single)  # drawn one after another
    assert len({example.tobytes() for example in several}) > 1
    assert made(kind, count=1)(record(kind), rng(), True).shape == (1, *view.structure().shape)
    at_evaluation = evaluate_view(Records([record(kind)] * 3), view, range(3))
    assert np.array_equal(at_evaluation, evaluate_view(Records([record(kind)] * 3), one, range(3)))
    with pytest.raises(InputError, match=f"view '{kind}': count=0"):
        made(kind, count=0)


def test_count_draws_different_strings_and_then_the_same_again():
    strings = ["one", "two", "three", "four"]
    texts = {TOKENIZER.encode(text, 8).tobytes(): text for text in strings}
    view, firsts = Text(length=8, count=4).bind(TOKENIZER), set()
    for seed in range(60):
        drawn = [texts[e.tobytes()] for e in view({"text": strings}, rng(seed), True)]
        assert sorted(drawn) == sorted(strings)
        firsts.add(drawn[0])
    assert firsts == set(strings)
    more = Text(length=8, count=6).bind(TOKENIZER)({"text": strings[:2]}, rng(), True)
    drawn = [texts[example.tobytes()] for example in more]
    assert drawn[:2] * 3 == drawn
    assert set(drawn) == {"one", "two"}
    joined = Text(length=8, count=3, join=True).bind(TOKENIZER)({"text": strings[:2]}, rng(), True)
    assert np.array_equal(joined, [TOKENIZER.encode("one two", 8)] * 3)
    with pytest.raises(BrokenRecord, match="no text"):
        view({"text": []}, rng(), True)


def test_batches_with_counts_are_the_same_for_some_rows_and_broken_records_are_replaced():
    records = pictures(9)
    records[2] = {"image": b"no picture"}
    records[5] = {}
    views = {"a": Photo(resolution=8, count=3), "b": Photo(resolution=8)}
    source = Records(records)
    draw = Permutation().bind(source, 8, 0)
    whole = Steps(source, draw, views, {}, 3, 9, [slice(None)], 1)
    pieces = Steps(source, draw, views, {}, 3, 9, [slice(0, 3), slice(3, 8)], 1)
    assert whole[0]["views"]["a"].shape == (8, 3, 8, 8, 3)
    assert whole[0]["broken"] >= 1
    for name in views:
        parts = [pieces[0]["views"][name], pieces[1]["views"][name]]
        assert np.array_equal(np.concatenate(parts), whole[0]["views"][name])


def test_views_draw_apart_unless_they_draw_together():
    settings = dict(resolution=12, crop=(0.3, 1.0), **CHANGED)
    views = {name: Photo(**settings) for name in "ab"}
    views |= {name: Photo(**settings, together="pair") for name in "cd"}
    seen = batch(pictures(), **views)["views"]
    assert not np.array_equal(seen["a"], seen["b"])
    assert np.array_equal(seen["c"], seen["d"])
    assert not np.array_equal(seen["a"], seen["c"])
    # A view by itself has the numbers of its name.
    (index,) = Permutation().bind(Records(pictures()), 8, 0)(0)[5].tolist()
    alone = views["a"](pictures()[index], Streams(3, "view a").at(0, 5), True)
    assert np.array_equal(seen["a"][5], alone)


def test_both_pictures_of_a_pair_are_flipped_together_whatever_their_sizes():
    """A box that does not fit is drawn again, so crops of pictures of two shapes take unlike many numbers."""
    half = np.zeros((60, 60, 3), np.uint8)
    half[:, 30:] = 255
    wide = np.asarray(Image.fromarray(half).resize((300, 20)))
    settings = dict(resolution=8, crop=(0.3, 0.6), ratio=(0.9, 1.1), flip=0.5, together="pair")
    first, second = Photo(field="half", **settings), Photo(field="wide", **settings)
    flips = []
    for seed in range(60):
        sides = []
        for view in (first, second):
            image = view({"half": half, "wide": np.tile(wide[:, ::15], (1, 1, 1))}, rng(seed), True)
            sides.append(int(image[:, -1].mean()) - int(image[:, 0].mean()))
        if all(abs(side) > 20 for side in sides):  # the edge is in both crops
            flips.append([side < 0 for side in sides])
    assert len(flips) > 20
    assert all(one == other for one, other in flips)
    assert {one for one, _ in flips} == {True, False}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_blank_stands_in_at_the_rate_asked_for(kind):
    view, one = made(kind, missing=0.3), made(kind)
    blank = view.blank()
    assert blank.shape == view.structure().shape
    assert blank.dtype == view.structure().dtype
    gone = 0
    for seed in range(600):
        example = view(record(kind), rng(seed), True)
        missing = np.array_equal(example, blank)
        gone += missing
        assert missing or np.array_equal(example, one(record(kind), rng(seed), True))
    assert 130 < gone < 230  # 180 expected, 11 standard deviation
    assert np.array_equal(view(record(kind), rng(), False), one(record(kind), rng(), False))
    always = made(kind, missing=1.0)
    for train in (True, False):
        assert np.array_equal(always({}, rng(), train), blank)  # without the field
    assert np.array_equal(made(kind, missing=1.0, count=2)({}, rng(), True), [blank] * 2)
    with pytest.raises(InputError, match=f"view '{kind}': missing=1.5"):
        made(kind, missing=1.5)


def test_what_a_blank_looks_like():
    assert not Glyph(size=4).blank().any()
    assert (Photo(resolution=4, background=(1, 2, 3)).blank() == [1, 2, 3]).all()
    scaled = Photo(resolution=4, mean=(0.5,) * 3, std=(0.25,) * 3, background=(255, 0, 255)).blank()
    assert np.allclose(scaled, [2, -2, 2])
    assert (Photo(resolution=4, channels=1).blank() == 255).all()
    assert np.array_equal(Text(length=6).bind(TOKENIZER).blank(), TOKENIZER.encode("missing", 6))


def test_views_together_change_alike_however_often_one_is_missing():
    settings = dict(size=16, shift=4, together="both")
    views = {"a": Glyph(**settings), "b": Glyph(**settings, missing=0.5)}
    records = [record("glyph")] * 12
    seen = batch(records, **views)["views"]
    there = seen["b"].any((1, 2, 3))
    assert 0 < there.sum() < 8
    assert np.array_equal(seen["a"][there], seen["b"][there])
