import os

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.errors import CommandError, InputError
from contrastive_jax.evaluation.rankings import Ranking, first_right, fuse, ranking_of
from contrastive_jax.evaluation.trec import first_of, measure, run_of, write_run

SCORES = st.sampled_from([0.0, 0.5, 1.0, 1.0 + 1e-9, 2.0, -3.0])
DOCUMENTS = [f"d{i}" for i in range(14)]
RUNS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]), st.dictionaries(st.sampled_from(DOCUMENTS), SCORES, max_size=14)
)
QRELS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]),
    st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 3), min_size=1),
    min_size=1,
)


@settings(max_examples=100)
@given(RUNS, QRELS)
def test_measures_are_trec_evals_whatever_the_run(run, qrels):
    """Ties, queries that were never answered, graded and zero judgements."""
    measures = {
        "nDCG@10": "ndcg_cut_10",
        "R@5": "recall_5",
        "MAP": "map",
        "MAP@3": "map_cut_3",
        "MRR": "recip_rank",
    }
    figures = measure(run, qrels, tuple(measures))
    asked = {"ndcg_cut.10", "recall.5", "map", "map_cut.3", "recip_rank"}
    expected = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run)
    for name, key in measures.items():
        total = sum(expected[q][key] for q in qrels if q in expected)
        assert figures[name] == total / len(qrels)


@settings(max_examples=100)
@given(RUNS, QRELS)
def test_mrr_at_k_is_the_reciprocal_rank_unless_it_lies_deeper(run, qrels):
    every = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)
    ranks = [every.get(query, {"recip_rank": 0.0})["recip_rank"] for query in qrels]
    expected = np.mean([value if value >= 1 / 3 - 1e-9 else 0.0 for value in ranks])
    assert measure(run, qrels, ("MRR@3",))["MRR@3"] == pytest.approx(expected)


def test_by_hand():
    """One relevant document of grade 3 second, one of grade 1 fourth, one never found."""
    run = {"q": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}}
    qrels = {"q": {"b": 3, "d": 1, "z": 1}}
    ideal = 3 + 1 / np.log2(3) + 1 / np.log2(4)
    assert measure(run, qrels, ("nDCG@10", "R@3", "MRR@10", "MAP", "P@4")) == {
        "nDCG@10": pytest.approx((3 / np.log2(3) + 1 / np.log2(5)) / ideal),
        "R@3": pytest.approx(1 / 3),
        "MRR@10": 0.5,
        "MAP": pytest.approx((1 / 2 + 2 / 4) / 3),
        "P@4": 0.5,
    }
    assert measure({}, qrels, ("nDCG@10", "MRR@10")) == {"nDCG@10": 0.0, "MRR@10": 0.0}
    for name in ("nDCG", "MRR@0", "accuracy", "R"):
        with pytest.raises(InputError, match="measures="):
            measure(run, qrels, (name,))


def test_a_disk_without_room_for_a_run_file_is_a_fault(tmp_path, little_room):
    with (
        pytest.raises(CommandError, match=r"run_file .*cannot be written \(File too large\)"),
        little_room(20),
    ):
        write_run(tmp_path / "run.txt", {"q1": {"a": 0.1, "b": 1 / 3}}, "ours")


def test_a_run_file_says_what_the_run_said(tmp_path):
    run = {"q1": {"a": 0.1, "b": 1 / 3}, "q2": {"c": -2.5}}
    write_run(tmp_path / "deep" / "run.txt", run, "ours")
    assert (tmp_path / "deep" / "run.txt").read_text().splitlines()[0] == f"q1 Q0 b 1 {1 / 3!r} ours"
    with open(tmp_path / "deep" / "run.txt") as file:
        assert pytrec_eval.parse_run(file) == run
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"run_file .*cannot be written"):
        write_run(tmp_path / "file" / "run.txt", run, "ours")


def ranking(*rows, depth=4):
    return ranking_of([list(row) for row in rows], depth)


def test_reciprocal_ranks_are_summed():
    first, second = ranking([(7, 9.0), (3, 8.0)]), ranking([(3, 0.2), (5, 0.1)])
    fused = fuse(first, second, "reciprocal_rank")
    np.testing.assert_array_equal(fused.answers, [[3, 7, 5, -1]])
    np.testing.assert_allclose(fused.scores[0, :3], [1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_scores_are_brought_to_one_scale():
    first, second = ranking([(7, 9.0), (3, 8.0), (1, 5.0)]), ranking([(3, 0.2), (5, 0.1)])
    fused = fuse(first, second, "min_max", 0.25)
    np.testing.assert_array_equal(fused.answers, [[3, 7, 1, 5]])
    np.testing.assert_allclose(fused.scores, [[0.25 * 0.75 + 0.75, 0.25, 0.0, 0.0]])
    for how, weight in (("min_max", 1.5), ("sum", 0.5)):
        with pytest.raises(InputError):
            fuse(first, second, how, weight)


@given(st.integers(0, 1000))
def test_a_ranking_fused_with_nothing_stays_in_order(seed):
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.permutation(50)[:6].reshape(1, 6).astype(float))
    alone = Ranking(rng.permutation(6)[None], scores)
    for how in ("reciprocal_rank", "min_max"):
        np.testing.assert_array_equal(fuse(alone, ranking([], depth=6), how, 1.0).answers, alone.answers)


def test_the_first_right_answer():
    found = ranking([(4, 3.0), (2, 2.0)], [(0, 1.0)], [])
    ids = np.array([9, 9, 9, 8, 7])
    np.testing.assert_array_equal(first_right(found, np.array([9, 8, 9]), ids), [2, np.inf, np.inf])
    run = run_of(found, ["a", "b", "c"], list("vwxyz"))
    assert run == {"a": {"z": 3.0, "x": 2.0}, "b": {"v": 1.0}, "c": {}}
    assert first_of({"q": {"a": 1.0, "b": 1.0, "c": 2.0}}, 2) == {"q": {"c": 2.0, "b": 1.0}}


def test_a_run_file_takes_the_place_of_none_but_its_like(tmp_path):
    """The config of somebody else's run may name any file."""
    run, file = {"q": {"d": 1.0}}, tmp_path / "run.txt"
    for _ in range(2):
        write_run(file, run, "ours")
    (tmp_path / "profile").write_text("export PATH=/bin\n")
    (tmp_path / "link").symlink_to("profile")
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "profile": "something else is there",
        "link": "something else",
        "pipe": "a pipe",
    }.items():
        with pytest.raises(InputError, match=words):
            write_run(tmp_path / name, run, "ours")
    assert (tmp_path / "profile").read_text() == "export PATH=/bin\n"
