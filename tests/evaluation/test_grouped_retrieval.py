import io

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_embeddings import KnownEmbeddings, on_sphere
from PIL import Image

from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import GroupedRetrieval
from contrastive_jax.evaluation.aggregation import AGGREGATORS, aggregate, levels, most, softmax_mean, votes
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.labelled import chosen
from contrastive_jax.evaluation.ranks import first_ranks

WAYS = dict(pool=5, temperature=0.1)


def table(seed, queries=7, frames=30, groups=8):
    rng = np.random.default_rng(seed)
    each = np.r_[np.arange(groups), rng.integers(groups, size=frames - groups)]
    return rng.normal(size=(queries, frames)), rng.permutation(each)


@given(seed=st.integers(0, 999))
def test_one_frame_a_video_is_plain_retrieval(seed):
    """Every way of scoring gives the order of the frames themselves, with equal ones equal."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, (6, 20)) / 8
    groups = rng.permutation(20)
    right = rng.random((6, 20)) < 0.1
    expected = first_ranks(scores, right[:, groups])
    for how in AGGREGATORS:
        found = first_ranks(aggregate(how, scores, groups, **WAYS), right)
        np.testing.assert_array_equal(found, expected, how)


@given(seed=st.integers(0, 999))
def test_repeated_frames_change_the_mean_and_not_the_maximum(seed):
    scores, groups = table(seed)
    again = np.r_[np.arange(30), np.flatnonzero(groups == 2)[:1].repeat(4)]
    first = {how: aggregate(how, scores, groups, **WAYS) for how in AGGREGATORS}
    second = {how: aggregate(how, scores[:, again], groups[again], **WAYS) for how in AGGREGATORS}
    np.testing.assert_array_equal(first["max"], second["max"])
    others = np.arange(8) != 2
    for how in ("mean", "softmax"):
        np.testing.assert_allclose(first[how][:, others], second[how][:, others], rtol=1e-12)
    if np.sum(groups == 2) > 1:
        assert (np.abs(first["mean"][:, 2] - second["mean"][:, 2]) > 1e-6).all()


@given(seed=st.integers(0, 999), pool=st.integers(1, 40))
def test_votes_sum_to_the_pool(seed, pool):
    scores, groups = table(seed)
    counts = votes(scores, groups, pool)
    np.testing.assert_array_equal(counts.sum(axis=1), min(pool, 30))
    np.testing.assert_array_equal(counts, np.round(counts))
    equal = votes(np.round(scores), groups, pool)
    np.testing.assert_allclose(equal.sum(axis=1), min(pool, 30), rtol=1e-12)
    np.testing.assert_array_equal(votes(scores, groups, 30), np.tile(np.bincount(groups), (7, 1)))
    np.testing.assert_array_equal(
        votes(scores, groups, 1).argmax(axis=1), most(scores, groups).argmax(axis=1)
    )


@given(seed=st.integers(0, 999))
def test_the_weighted_mean_lies_between_the_mean_and_the_maximum(seed):
    scores, groups = table(seed)
    mean, best = (aggregate(how, scores, groups, **WAYS) for how in ("mean", "max"))
    expected = [[scores[q, groups == g].mean() for g in range(8)] for q in range(7)]
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    weighted = softmax_mean(scores, groups, 0.5)
    assert (weighted >= mean - 1e-6).all()
    assert (weighted <= best + 1e-6).all()
    np.testing.assert_allclose(softmax_mean(scores, groups, 1e-4), best, atol=1e-3)
    np.testing.assert_allclose(softmax_mean(scores, groups, 1e6), mean, atol=1e-5)


def test_levels_are_the_order_of_two_keys():
    found = levels(np.array([[2, 1, 2, 1, 1]]), np.array([[0.1, 0.9, 0.3, 0.9, 0.2]]))
    assert found.tolist() == [[2, 1, 3, 1, 0]]


def embedder(seed=0, noise=0.0, d=12):
    """Class c along axis c; a frame is its class with noise, which is the same whenever it is asked for."""

    def frame(record):
        rng = np.random.default_rng([seed, record["record"]])
        return np.eye(d)[record["label"]] + noise * on_sphere(rng, 1, d)[0]

    views = {"text": Text(), "image": Glyph()}
    return KnownEmbeddings(views, {"text": lambda r: np.eye(d)[int(r["text"].split()[-1])], "image": frame})


def frames(n=600, classes=6, **columns):
    rows = [{"record": i, "label": i % classes} for i in range(n)]
    return Listed("frames", [row | {k: v[i] for k, v in columns.items()} for i, row in enumerate(rows)])


def test_bags_hold_what_is_asked_for():
    """One bag of a query holds `hits` of its class and the others none; no record comes twice."""
    known = chosen(frames(), "label")
    evaluator = GroupedRetrieval("text", "image", bag=5, hits=2, candidates=4, trials=3)
    for examples in (False, True):
        asked = evaluator.bags(known, examples)
        assert asked.classes.tolist() == np.repeat(np.arange(6), 3).tolist()
        shown = (asked.frames % 6 == asked.classes[:, None]).reshape(18, 4, 5)
        assert shown.sum(axis=2).tolist() == [[2, 0, 0, 0]] * 18
        assert all(len(set(row)) == 20 for row in asked.frames.tolist())
        if examples:
            assert (asked.examples % 6 == asked.classes).all()
            assert not (asked.examples[:, None] == asked.frames).any()
        again = evaluator.bags(known, examples)
        np.testing.assert_array_equal(again.frames, asked.frames)
    assert not np.array_equal(
        asked.frames, GroupedRetrieval("text", "image", seed=1).bags(known, True).frames
    )


@pytest.mark.parametrize("branch", ["text", "image"])
def test_one_frame_of_twenty_is_found_by_its_maximum(branch):
    """By class names and by an example; and half of the frames by votes as surely as by the best frame."""
    settings = dict(templates=("class {}",), trials=5)
    embed = embedder(noise=0.9)
    found = dict(GroupedRetrieval(branch, "image", **settings).run(embed, frames()))
    assert found["max/R@1"] > found["mean/R@1"] + 0.1
    assert found["max/R@1"] <= found["max/MRR"] <= found["max/R@5"] + (1 - found["max/R@5"]) / 6
    assert found["chance"] == pytest.approx(1 / 10)
    assert found["queries"] == 30
    half = dict(GroupedRetrieval(branch, "image", hits=10, **settings).run(embed, frames()))
    assert half["vote/R@1"] >= half["max/R@1"]
    assert half["mean/R@1"] == 1.0


def test_a_model_that_tells_nothing_apart_finds_nothing():
    embed = KnownEmbeddings(
        {"text": Text(), "image": Glyph()}, {"text": lambda r: np.ones(3), "image": lambda r: np.ones(3)}
    )
    for group in (None, "video"):
        evaluator = GroupedRetrieval("text", "image", group=group, trials=2)
        found = dict(evaluator.run(embed, frames(video=[i // 5 for i in range(600)])))
        assert {value for name, value in found.items() if "R@1" in name} == {0.0}


def test_the_sources_own_videos():
    """Three videos; class 2 is in two of them, class 5 is one record, which is no frame where it is the
    example, so that it asks for nothing."""
    label, video = [0, 0, 1, 1, 2, 2, 5], ["a", "a", "b", "b", "a", "b", "c"]
    source = Listed(
        "s", [{"record": i, "label": c, "video": v} for i, (c, v) in enumerate(zip(label, video))]
    )
    evaluator = GroupedRetrieval("text", "image", group="video", at=(1, 2), pool=1)
    asked = evaluator.videos(chosen(source, "label"), False)
    assert asked.right(slice(0, 4)).tolist() == [
        [True, False, False], [False, True, False], [True, True, False], [False, False, True]
    ]  # fmt: skip
    found = dict(evaluator.run(embedder(), source))
    assert [found[f"{how}/R@1"] for how in AGGREGATORS] == [1.0] * 4
    assert found["chance"] == pytest.approx(5 / 12)
    by_example = dict(GroupedRetrieval("image", "image", group="video").run(embedder(), source))
    assert by_example["queries"] == 3
    assert evaluator.fields == ("label", "video")


def test_wrong_settings_are_refused():
    for settings, message in (
        (dict(hits=21), "hits=21, bag=20"),
        (dict(candidates=1), "candidates=1"),
        (dict(aggregators=("median",)), "aggregators='median'"),
        (dict(pool=0), "pool=0"),
        (dict(temperature=0.0), "temperature=0"),
        (dict(templates=("a",)), "templates"),
    ):
        with pytest.raises(InputError, match=message):
            GroupedRetrieval("text", "image", **settings)
    with pytest.raises(
        InputError, match="has 10 records of the label 0, and 10 bags of 20 with 11 hits take 11"
    ):
        dict(GroupedRetrieval("text", "image", hits=11).run(embedder(), frames(600, 60)))
    with pytest.raises(InputError, match="has 90 records not of the label 0"):
        dict(GroupedRetrieval("text", "image").run(embedder(), frames(108)))


def test_cifars_pictures_as_videos(data_folder):
    """Raw pictures by an example of the class: the measures run, and find more than by chance."""
    rows = parquet.read_table(data_folder / "cifar10" / "test.parquet").slice(0, 1500).to_pylist()

    def pixels(record):
        return np.asarray(Image.open(io.BytesIO(record["image"])), np.float32).ravel() - 120

    embed = KnownEmbeddings({"image": Glyph()}, {"image": pixels})
    evaluator = GroupedRetrieval("image", "image", hits=10, trials=3)
    found = dict(evaluator.run(embed, Listed("cifar10", rows)))
    assert found["queries"] == 30
    assert found["mean/R@5"] > 0.5
