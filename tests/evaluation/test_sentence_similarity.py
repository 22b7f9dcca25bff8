import numpy as np
import pyarrow.parquet as parquet
import pytest
from known_embeddings import KnownEmbeddings, hashed
from scipy.stats import pearsonr, spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer

from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import SentenceSimilarity
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.sentence_similarity import cosines


def pairs(scores, **columns):
    return Listed(
        "made up",
        [
            {"sentence1": f"one {i}", "sentence2": f"other {i}", "score": score}
            | {name: values[i] for name, values in columns.items()}
            for i, score in enumerate(scores)
        ],
    )


def embedder(function=hashed):
    return KnownEmbeddings({"text": Text()}, {"text": lambda record: 3 * function(record["text"])})


def test_correlations_are_scipys_of_the_cosines():
    scores = np.random.default_rng(0).random(40)
    source = pairs(scores, year=["STS12"] * 15 + ["STS13"] * 25)
    similar = [float(hashed(r["sentence1"]) @ hashed(r["sentence2"])) for r in source.records]
    found = dict(SentenceSimilarity("text", group="year").run(embedder(), source))
    for name, correlation in (("spearman", spearmanr), ("pearson", pearsonr)):
        parts = [correlation(similar[:15], scores[:15])[0], correlation(similar[15:], scores[15:])[0]]
        assert found[name] == pytest.approx(correlation(similar, scores)[0], abs=1e-6)
        assert [found[f"{name}/STS12"], found[f"{name}/STS13"]] == pytest.approx(parts, abs=1e-6)
        assert found[f"{name}/mean"] == pytest.approx(np.mean(parts), abs=1e-6)
    assert len(found) == 8


def test_words_and_letters_alone_stand_beside_the_embedding():
    texts = [
        ("a cat sat", "a cat sat"),
        ("cats sit", "a cat sits"),
        ("rain", "a red car"),
        ("the dog barks", "the dog"),
    ]
    records = [
        {"sentence1": a, "sentence2": b, "score": score}
        for (a, b), score in zip(texts, [5.0, 3.0, 0.0, 4.0], strict=True)
    ]
    sts = SentenceSimilarity("text", baselines=("tfidf", "tfidf_characters"))
    found = dict(sts.run(embedder(), Listed("made up", records)))
    rows = TfidfVectorizer(sublinear_tf=True).fit_transform([a for a, _ in texts] + [b for _, b in texts])
    cosine = (rows[:4].toarray() * rows[4:].toarray()).sum(axis=1)
    assert cosine[0] == pytest.approx(1)
    assert cosine[1:3].max() == 0
    assert found["tfidf/spearman"] == pytest.approx(spearmanr(cosine, [5.0, 3.0, 0.0, 4.0])[0])
    assert found["tfidf_characters/spearman"] == pytest.approx(1.0)
    with pytest.raises(InputError, match=r"'tfidf_charcters': unknown; .*tfidf_characters"):
        SentenceSimilarity("text", baselines=("tfidf_charcters",))
    silent = Listed("made up", [{"sentence1": "-", "sentence2": "!", "score": float(i)} for i in range(2)])
    with pytest.raises(InputError, match="no word in 4 texts"):
        dict(sts.run(embedder(), silent))


def test_a_group_without_an_order_is_left_out_and_a_collapsed_model_has_none():
    source = pairs([1.0, 2.0, 5.0, 3.0, 3.0], task=["a", "a", "a", "b", "b"])
    found = dict(SentenceSimilarity("text", group="task").run(embedder(), source))
    assert "spearman/b" not in found
    assert found["spearman/mean"] == found["spearman/a"]
    assert dict(SentenceSimilarity("text").run(embedder(lambda text: np.ones(3)), source)) == {
        "spearman": 0.0,
        "pearson": 0.0,
    }
    np.testing.assert_array_equal(cosines(np.array([[0.0, 0], [2, 0]]), np.array([[1.0, 0], [1, 0]])), [0, 1])


def test_what_cannot_be_measured_is_refused():
    for scores, message in (
        ([2.0, 2.0], "score is the same in all"),
        (["high", "low"], "'score' is not a number"),
        ([1.0, float("nan")], "'score' is not a number"),
    ):
        with pytest.raises(InputError, match=message):
            dict(SentenceSimilarity("text").run(embedder(), pairs(scores)))
    with pytest.raises(InputError, match="no field 'grade'"):
        dict(SentenceSimilarity("text", score="grade").run(embedder(), pairs([1.0, 2.0])))


def test_the_sts_benchmark(data_folder):
    """Its test pairs, by a vector of their words: what an evaluator sees of a model without a network."""
    table = parquet.read_table(data_folder / "sts" / "stsb_en" / "test.parquet").to_pylist()
    words = TfidfVectorizer().fit([r["sentence1"] for r in table] + [r["sentence2"] for r in table])
    vectors = {
        text: row for name in ("sentence1", "sentence2") for text, row in zip(*[[r[name] for r in table]] * 2)
    }
    dense = dict(zip(vectors, words.transform(vectors).toarray().astype(np.float32)))
    found = dict(SentenceSimilarity("text").run(embedder(dense.__getitem__), Listed("stsb", table)))
    similar = [float(dense[r["sentence1"]] @ dense[r["sentence2"]]) for r in table]
    assert found["spearman"] == pytest.approx(spearmanr(similar, [r["score"] for r in table])[0], abs=1e-5)
    assert found["spearman"] > 0.6
