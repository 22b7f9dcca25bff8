import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, on_sphere
from sklearn.metrics import average_precision_score

from contrastive_jax.data.views import Glyph
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import ReIdentification, re_identification, trec
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.ranks import average_precisions, first_ranks, ranks, score_blocks

EMBED = KnownEmbeddings({"image": Glyph()}, {"image": lambda record: record["z"]})


def players(seed, n, d=4, name="players", identities=9):
    rng = np.random.default_rng(seed)
    centres = on_sphere(np.random.default_rng(99), identities, d)
    label = rng.integers(identities, size=n)
    z = centres[label] + 0.3 * rng.normal(size=(n, d))
    camera = rng.integers(3, size=n)
    rows = zip(z, label.tolist(), camera.tolist())
    return Listed(name, [{"z": a, "label": b, "camera": c} for a, b, c in rows])


def arrays(source):
    z = np.array([record["z"] for record in source.records])
    return z / np.linalg.norm(z, axis=1, keepdims=True), np.array(source.column("label"))


def test_map_is_trec_evals_and_rank_k_a_sorts():
    """A query is not its own match, and one without another record of its identity is left out."""
    source = players(0, 60)
    source.records.append({"z": np.ones(4), "label": 77, "camera": 0})
    z, label = arrays(source)
    table = z @ z.T
    run, qrels, firsts = {}, {}, []
    for i in range(60):
        others = [j for j in range(61) if j != i]
        run[str(i)] = {str(j): float(table[i, j]) for j in others}
        qrels[str(i)] = {str(j): 1 for j in others if label[j] == label[i]}
        order = sorted(others, key=lambda j, i=i: -table[i, j])
        firsts.append(1 + next(place for place, j in enumerate(order) if label[j] == label[i]))
    found = dict(ReIdentification("image", at=(1, 3)).run(EMBED, source))
    assert found == {
        "mAP": pytest.approx(trec.measure(run, qrels, ("MAP",))["MAP"], abs=1e-6),
        "rank_1": pytest.approx(np.mean(np.array(firsts) <= 1)),
        "rank_3": pytest.approx(np.mean(np.array(firsts) <= 3)),
        "chance": pytest.approx(np.mean([len(right) / 60 for right in qrels.values()])),
        "queries": 60,
    }
    assert found["chance"] + 0.2 < found["rank_1"] < found["rank_3"] <= 1


def test_another_gallery_and_cameras(monkeypatch):
    """Answers of the query's identity by its own camera are taken out before anything is counted."""
    source, gallery = players(1, 20), players(2, 50, name="gallery")
    monkeypatch.setattr(re_identification, "opened", {"gallery": gallery}.__getitem__)
    (a, own), (b, other) = arrays(source), arrays(gallery)
    camera = [np.array(part.column("camera")) for part in (source, gallery)]
    expected, nearest = [], []
    for i in range(20):
        kept = (own[i] != other) | (camera[0][i] != camera[1])
        right, scores = (own[i] == other)[kept], (b @ a[i])[kept]
        if right.any():
            expected.append(average_precision_score(right, scores))
            nearest.append(right[scores.argmax()])
    evaluator = ReIdentification("image", gallery="gallery", camera="camera")
    found = dict(evaluator.run(EMBED, source))
    assert found["mAP"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert found["rank_1"] == pytest.approx(np.mean(nearest))
    assert found["queries"] == len(expected)
    assert evaluator.sources == (None, "gallery")
    assert evaluator.fields == ("label", "camera")


def test_equal_scores_earn_no_more_than_chance():
    """scikit-learn's average precision at any number of equal scores; a collapsed model has the share of
    right answers, though the records lie sorted by identity."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (30, 25)).astype(np.float32)
    right = rng.random((30, 25)) < 0.3
    scores[:2], right[2] = 0, False
    expected = [average_precision_score(r, s) if r.any() else np.nan for r, s in zip(right, scores)]
    np.testing.assert_allclose(average_precisions(scores, right), expected, rtol=1e-12)
    source = Listed("sorted", [{"z": np.ones(3), "label": i // 5} for i in range(40)])
    found = dict(ReIdentification("image").run(EMBED, source))
    assert found["mAP"] == pytest.approx(4 / 39)
    assert found["rank_1"] == found["rank_10"] == 0
    assert found["chance"] == pytest.approx(4 / 39)


def test_what_is_no_answer_has_no_rank():
    scores = np.array([[3.0, -np.inf, 1.0], [-np.inf, -np.inf, 2.0], [1.0, 1.0, 0.0]])
    right = np.array([[False, True, True], [True, False, False], [True, False, False]])
    assert first_ranks(scores, right).tolist() == [2.0, np.inf, 2.0]
    np.testing.assert_allclose(average_precisions(scores, right), [1 / 2, np.nan, 1 / 2])


def test_blocks_of_queries_change_nothing():
    rng = np.random.default_rng(0)
    queries, corpus = on_sphere(rng, 23, 5), on_sphere(rng, 17, 5)
    asked, given = rng.integers(0, 4, 23), rng.integers(0, 4, 17)
    whole = (queries @ corpus.T).astype(np.float32)
    parts = list(score_blocks(queries, corpus, 5))
    assert [scores.shape for _, scores in parts] == [(5, 17)] * 4 + [(3, 17)]
    np.testing.assert_allclose(np.concatenate([scores for _, scores in parts]), whole, atol=1e-7)
    expected = first_ranks(whole, asked[:, None] == given[None, :])
    np.testing.assert_array_equal(ranks(queries, corpus, asked, given), expected)


def test_queries_are_drawn_by_the_seed():
    source = players(3, 50)
    found = [dict(ReIdentification("image", limit=10, seed=seed).run(EMBED, source)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found[0]["queries"] == 10


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="at="):
        ReIdentification("image", at=(0,))
    with pytest.raises(InputError, match="limit=0"):
        ReIdentification("image", limit=0)
    alone = Listed("alone", [{"z": np.ones(3), "label": i} for i in range(3)])
    with pytest.raises(InputError, match="no query has another record of its label"):
        dict(ReIdentification("image").run(EMBED, alone))
