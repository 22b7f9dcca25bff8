import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, hashed
from sklearn.linear_model import LinearRegression

from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import LengthBias
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.length_bias import slope


def embedder(function):
    return KnownEmbeddings({"text": Text()}, {"text": lambda record: function(record["text"])})


def by_length(text):
    """A direction that turns with the number of words, and nothing else."""
    turn = 0.05 * len(text.split())
    return np.array([np.cos(turn), np.sin(turn)])


def sentences(n=60, seed=0, column="sentence1"):
    rng = np.random.default_rng(seed)
    return [{column: " ".join(f"w{k}" for k in rng.integers(99, size=rng.integers(1, 20)))} for _ in range(n)]


def test_a_bias_is_found_and_none_is_not():
    source = Listed("s", sentences())
    biased = dict(LengthBias("text", pairs=2000).run(embedder(by_length), source))
    assert biased["slope"] < -0.005
    assert biased["correlation"] < -0.8
    assert biased["gap"] == pytest.approx(biased["near_cosine"] - biased["far_cosine"])
    assert biased["gap"] > 0.1
    none = dict(LengthBias("text", pairs=2000).run(embedder(hashed), source))
    assert abs(none["slope"]) < 0.005
    assert none["pairs"] == 2000
    assert dict(LengthBias("text", pairs=2000).run(embedder(hashed), source)) == none
    collapsed = dict(LengthBias("text", pairs=100).run(embedder(lambda text: np.ones(3)), source))
    assert collapsed["slope"] == pytest.approx(0, abs=1e-12)
    assert collapsed["correlation"] == pytest.approx(0, abs=1e-12)


def test_what_people_say_of_a_pair_is_held():
    """Both lengths and scores are in the cosine; the slope is scikit-learn's of the two together."""
    rng = np.random.default_rng(1)
    records = [a | b for a, b in zip(sentences(seed=1), sentences(seed=2, column="sentence2"))]
    apart = np.array([abs(len(r["sentence1"].split()) - len(r["sentence2"].split())) for r in records])
    scores = 5 - 0.2 * apart + rng.normal(size=len(apart))
    records = [record | {"score": score} for record, score in zip(records, scores)]
    source, settings = Listed("sts", records), dict(second="sentence2")
    held = dict(LengthBias("text", score="score", **settings).run(embedder(by_length), source))
    alone = dict(LengthBias("text", **settings).run(embedder(by_length), source))
    similar = np.array([by_length(r["sentence1"]) @ by_length(r["sentence2"]) for r in records])
    expected = LinearRegression().fit(np.stack([apart, scores], axis=1), similar).coef_[0]
    assert held["slope"] == pytest.approx(expected, rel=1e-4)
    assert alone["slope"] == pytest.approx(np.polyfit(apart, similar, 1)[0], rel=1e-4)
    assert held["slope"] != alone["slope"]
    assert held["pairs"] == 60
    assert slope(0.5 * apart + 3 * scores, apart, scores) == pytest.approx(0.5)


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="give second as well"):
        LengthBias("text", score="score")
    with pytest.raises(InputError, match="pairs=2"):
        LengthBias("text", pairs=2)
    same = Listed("same", [{"sentence1": "one two"}] * 4)
    with pytest.raises(InputError, match="all pairs differ by 0 words"):
        dict(LengthBias("text").run(embedder(hashed), same))
    with pytest.raises(InputError, match="has one record"):
        dict(LengthBias("text").run(embedder(hashed), Listed("one", same.records[:1])))


def test_stsb(data_folder):
    """Its pairs, by embeddings that know nothing: no bias."""
    source = open_source(f"parquet:{data_folder}/sts/stsb_en/test.parquet")
    found = dict(LengthBias("text", second="sentence2", score="score").run(embedder(hashed), source))
    assert found["pairs"] == len(source)
    assert abs(found["slope"]) < 0.01
