"""Texts of unseen authors: told apart from a few known ones, and verified two by two."""

import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, hashed
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestCentroid

from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import FewShot, Verification
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.labelled import chosen
from contrastive_jax.evaluation.lexical import vectors

WORDS = {"anna": "upon whilst shall thee", "bert": "gonna kinda yeah dude", "cleo": "hence thus ergo quod"}
SHARED = ["the", "a", "ship", "house", "sea", "went", "came", "saw", "day", "night", "in", "at", "of", "and"]
TFIDF = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 4))


def documents(each=20, own=0.2, seed=0):
    rng, rows = np.random.default_rng(seed), []
    for author, words in WORDS.items():
        for _ in range(each):
            mixed = [
                rng.choice(words.split()) if rng.random() < own else rng.choice(SHARED) for _ in range(12)
            ]
            rows.append({"text": " ".join(mixed), "author": author})
    return Listed("letters", rows)


def embedder(read=hashed):
    return KnownEmbeddings(
        {"text": Text(), "image": Glyph()},
        {"text": lambda r: read(r["text"]), "image": lambda r: np.ones(3)},
    )


def authors_alone(text):
    """Knows the authors' own words, and little else."""
    counts = [sum(word in words.split() for word in text.split()) for words in WORDS.values()]
    return np.array([*counts, 1.0])


def test_eight_known_documents_an_author():
    """The nearest centroid as scikit-learn finds it, of embeddings and of the characters' TF-IDF beside."""
    source = documents()
    evaluator = FewShot(
        "text", label="author", ways=3, shots=8, queries=4, episodes=10, baselines=("tfidf_characters",)
    )
    found = dict(evaluator.run(embedder(authors_alone), source))
    table = TFIDF.fit_transform([record["text"] for record in source.records]).toarray()
    expected = []
    for shots, queries in evaluator.draw(chosen(source, "author")):
        assert shots.shape == (3, 8)
        model = NearestCentroid().fit(table[shots.ravel()], np.repeat(np.arange(3), 8))
        expected.append(np.mean(model.predict(table[queries.ravel()]) == np.repeat(np.arange(3), 4)))
    assert found["tfidf_characters/accuracy"] == pytest.approx(np.mean(expected))
    assert found["accuracy"] > 0.6 > found["chance"] == pytest.approx(1 / 3)
    assert list(found) == [
        "accuracy", "interval_95", "tfidf_characters/accuracy", "tfidf_characters/interval_95", "chance"
    ]  # fmt: skip
    blind = dict(evaluator.run(embedder(), source))
    assert blind["accuracy"] == pytest.approx(1 / 3, abs=0.15)
    with pytest.raises(InputError, match="need texts, and 'image' reads none"):
        dict(FewShot("image", label="author", ways=3, baselines=("tfidf",)).run(embedder(), source))


def test_verification_is_scikit_learns():
    source = documents()
    evaluator = Verification("text", label="author", pairs=300, baselines=("tfidf_characters",))
    found = dict(evaluator.run(embedder(authors_alone), source))
    one, other, same = evaluator.draw(chosen(source, "author"))
    author = np.array(source.column("author"))
    np.testing.assert_array_equal(author[one] == author[other], same)
    assert (one != other).all()
    assert same.mean() == 0.5
    z = np.stack([authors_alone(record["text"]) for record in source.records])
    table = TFIDF.fit_transform(source.column("text")).toarray()
    for start, rows in (("", z), ("tfidf_characters/", table)):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        similar = np.sum(rows[one] * rows[other], axis=1)
        assert found[f"{start}auc"] == pytest.approx(roc_auc_score(same, similar), abs=1e-3)
    assert found["auc"] > 0.7
    assert found["pairs"] == 300
    blind = dict(evaluator.run(embedder(), source))
    assert blind["auc"] == pytest.approx(0.5, abs=0.1)
    assert blind["equal_error_rate"] == pytest.approx(0.5, abs=0.1)


def test_the_ends_of_verification():
    """One that knows all misses nothing; one that says the same of all pairs is a guess."""
    source = documents()
    evaluator = Verification("text", label="author", pairs=100)
    author = {record["text"]: record["author"] for record in source.records}
    known = dict(evaluator.run(embedder(lambda text: hashed(author[text])), source))
    assert (known["auc"], known["equal_error_rate"]) == (1.0, 0.0)
    same = dict(evaluator.run(embedder(lambda text: np.ones(2)), source))
    assert (same["auc"], same["equal_error_rate"]) == (0.5, 0.5)


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="pairs=1"):
        Verification("text", pairs=1)
    for evaluator in (Verification, FewShot):
        with pytest.raises(InputError, match="baselines='bm25': unknown"):
            evaluator("text", baselines=("bm25",))
    alone = Listed("s", [{"text": str(i), "author": i} for i in range(4)])
    with pytest.raises(InputError, match="no author has two records"):
        dict(Verification("text", label="author").run(embedder(), alone))
    with pytest.raises(InputError, match="no word in 1 texts"):
        vectors("tfidf", ["."])
    with pytest.raises(InputError, match="need texts, and 'image' reads none"):
        dict(Verification("image", label="author", baselines=("tfidf",)).run(embedder(), documents()))
