import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_embeddings import KnownEmbeddings, on_sphere
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from contrastive_jax.data.views import Glyph, Photo, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import FewShot, LinearProbe, Neighbours, linear_probe, neighbours
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.few_shot import accuracy
from contrastive_jax.evaluation.labelled import chosen, pixels
from contrastive_jax.evaluation.neighbours import votes

EMBED = KnownEmbeddings({"image": Glyph(size=8)}, {"image": lambda record: record["z"]})


def clusters(seed, n, classes=4, d=6, spread=0.9, names=None):
    """Points about one centre a class, which are the same for every seed; pictures that follow them."""
    rng = np.random.default_rng(seed)
    centres = on_sphere(np.random.default_rng(99), classes, d)
    labels = rng.integers(classes, size=n)
    z = centres[labels] + spread * rng.normal(size=(n, d))
    return Listed(
        f"clusters {seed}",
        [
            {"z": z[i], "label": int(label) if names is None else names[label], "image": picture(z[i])}
            for i, label in enumerate(labels)
        ],
    )


def picture(z):
    return np.clip(128 + 40 * np.resize(z, (8, 8)), 0, 255).astype(np.uint8)


def arrays(source, field="z"):
    z = np.array([record[field] for record in source.records], np.float64)
    return z.reshape(len(z), -1), np.array([record["label"] for record in source.records])


@pytest.fixture
def train(monkeypatch):
    source = clusters(0, 150)
    for module in (neighbours, linear_probe):
        monkeypatch.setattr(module, "opened", {"train": source}.__getitem__)
    return source


def test_nearest_neighbours_vote_as_scikit_learns(train):
    """Weighted with exp(cosine / T), and raw pictures by distance and by the cosine about their mean."""
    test = clusters(1, 80)
    found = dict(Neighbours("image", train="train", k=7, temperature=0.1, pixels=True).run(EMBED, test))
    (x, y), (asked, truth) = arrays(train), arrays(test)

    def expected(x, asked, **settings):
        return KNeighborsClassifier(7, algorithm="brute", **settings).fit(x, y).predict(asked)

    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, asked)]
    weighted = expected(*unit, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1))
    assert found["accuracy"] == np.mean(weighted == truth)
    recalls = [np.mean(weighted[truth == c] == c) for c in range(4)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    # Where classes have equally many votes scikit-learn takes the lower one, and we the nearest's.
    assert found["majority_vote"] == pytest.approx(np.mean(expected(*unit) == truth), abs=0.05)
    pictures, shown = arrays(train, "image")[0], arrays(test, "image")[0]
    assert found["pixels_l2"] == pytest.approx(np.mean(expected(pictures, shown) == truth), abs=0.05)
    centred = [z - pictures.mean(axis=0) for z in (pictures, shown)]
    cosine = np.mean(expected(*centred, metric="cosine") == truth)
    assert found["pixels_cosine"] == pytest.approx(cosine, abs=0.05)


def test_a_record_is_not_its_own_neighbour():
    """Of two records of each class, each other one is the nearest but for itself."""
    z = np.repeat(np.eye(5), 2, axis=0) + 0.01 * np.arange(10)[:, None]
    source = Listed("pairs", [{"z": z[i], "label": "abcde"[i // 2]} for i in range(10)])
    assert dict(Neighbours("image", k=1).run(EMBED, source))["accuracy"] == 1.0
    alone = Listed("alone", [{"z": np.eye(5)[i], "label": i} for i in range(5)])
    assert dict(Neighbours("image", k=3).run(EMBED, alone))["accuracy"] == 0.0


@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([None, 0.07, 1.0]))
def test_votes_are_counted(seed, k, temperature):
    rng = np.random.default_rng(seed)
    classes, scores = rng.integers(3, size=(5, k)), -np.sort(-rng.random((5, k)), axis=1)
    scores[0, k // 2 + 1 :] = -np.inf
    for row, guess in enumerate(votes(classes, scores, 3, temperature)):
        weight = dict.fromkeys(range(3), 0.0)
        for c, score in zip(classes[row], scores[row]):
            if score > -np.inf:
                weight[c] += 1 if temperature is None else np.exp(score / temperature)
        best = max(weight.values())
        assert guess == next(c for c in classes[row] if weight[c] > best * (1 - 1e-9))


def test_a_linear_probe_is_scikit_learns(train):
    test = clusters(1, 80)
    evaluator = LinearProbe("image", "train", strengths=(0.01, 1.0))
    found = dict(evaluator.run(EMBED, test))
    (x, y), (asked, truth) = arrays(train), arrays(test)
    scaling = StandardScaler().fit(x.astype(np.float32))
    model = LogisticRegression(C=found["C"], max_iter=200).fit(scaling.transform(x), y)
    assert found["accuracy"] == pytest.approx(model.score(scaling.transform(asked), truth), abs=0.02)
    assert found["C"] in (0.01, 1.0)
    assert found["accuracy"] > 0.45


def test_the_strength_is_the_best_on_held_out_records():
    """Labels that depend on one small feature of many: a strong pull to zero cannot tell them."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 20))
    classes = (z[:, 0] + 0.05 * rng.normal(size=400) > 0).astype(int)
    model, strength = LinearProbe("image", "train", strengths=(1.0, 1e-6)).fit(z, classes)
    rare = np.r_[np.zeros(395, int), np.ones(5, int)]
    assert strength == 1.0
    assert model.score(z, classes) > 0.95
    assert LinearProbe("image", "train", strengths=(10.0, 5.0)).fit(z * 0, rare)[1] == 5.0  # equally good
    with pytest.raises(InputError, match=r"held_out=0\.2 of 3 labelled records"):
        LinearProbe("image", "train").fit(z[:3], np.array([0, 1, 1]))


def test_labels_by_name_and_a_part_of_the_labelled(train):
    names = ["ash", "birch", "elm", "oak"]
    part = chosen(clusters(0, 150, names=names), "label", limit=40, seed=3)
    assert part.names == names
    assert len(part.records) == 40
    assert (np.diff(part.records) > 0).all()
    assert [part.source[int(i)]["label"] for i in part.records] == [names[c] for c in part.classes]
    other = clusters(1, 30, names=names)
    for evaluator in (Neighbours("image", train="train"), LinearProbe("image", "train")):
        with pytest.raises(InputError, match="clusters 1 has the class 'ash', which clusters 0 lacks"):
            dict(evaluator.run(EMBED, other))
    with pytest.raises(InputError, match="has 1 classes of label"):
        chosen(clusters(0, 9, classes=1), "label")


def test_episodes_are_named_by_the_nearest_centroid():
    source = clusters(0, 400, classes=8, spread=0.5)
    evaluator = FewShot("image", ways=4, shots=3, queries=5, episodes=8, pixels=True)
    found = dict(evaluator.run(EMBED, source))
    z, labels = arrays(source)
    unit, raw = z / np.linalg.norm(z, axis=1, keepdims=True), arrays(source, "image")[0]
    expected = {"": [], "pixels_": []}
    for shots, queries in evaluator.draw(chosen(source, "label")):
        assert len({*labels[shots[:, 0]]}) == 4
        assert (labels[np.c_[shots, queries]] == labels[shots[:, :1]]).all()
        assert len(np.unique(np.c_[shots, queries])) == 4 * 8
        for name, x in (("", unit), ("pixels_", raw)):
            model = NearestCentroid().fit(x[shots.ravel()], labels[shots.ravel()])
            expected[name].append(model.score(x[queries.ravel()], labels[queries.ravel()]))
    for name, scores in expected.items():
        assert found[f"{name}accuracy"] == pytest.approx(np.mean(scores), abs=1e-6)
        half = 1.96 * np.std(scores, ddof=1) / np.sqrt(8)
        assert found[f"{name}interval_95"] == pytest.approx(half, abs=1e-6)
    assert found["chance"] == 0.25


def test_episodes_within_a_group_and_too_few_classes():
    records = [{"z": np.eye(6)[c], "label": c, "alphabet": "ab"[c // 3]} for c in range(6) for _ in range(4)]
    source = Listed("alphabets", records)
    evaluator = FewShot("image", ways=3, shots=2, queries=2, episodes=20, within="alphabet")
    drawn = list(evaluator.draw(chosen(source, "label")))
    groups = [{records[i]["alphabet"] for i in np.r_[shots, queries].ravel()} for shots, queries in drawn]
    assert all(len(group) == 1 for group in groups)
    assert {group.pop() for group in groups} == {"a", "b"}
    assert dict(evaluator.run(EMBED, source))["accuracy"] == 1.0
    for settings, message in (
        (dict(ways=4), "in one alphabet"),
        (dict(shots=3), "3 classes of label with 5"),
    ):
        given = dict(ways=3, shots=2, queries=2, within="alphabet") | settings
        with pytest.raises(InputError, match=message):
            list(FewShot("image", **given).draw(chosen(source, "label")))
    for settings in (dict(ways=1), dict(shots=0), dict(episodes=1)):
        with pytest.raises(InputError, match=next(iter(settings))):
            FewShot("image", **settings)


def test_the_nearest_centroid_by_hand():
    z = np.array([[0.0, 0], [4, 0], [1, 0], [3, 0], [2.5, 0]])
    assert accuracy(z, np.array([[0], [1]]), np.array([[2, 4], [3, 3]])) == 0.75


def test_records_that_cannot_be_told_apart_are_refused():
    rare = Listed("rare", [{"z": np.eye(2)[i == 7], "label": int(i == 7)} for i in range(50)])
    with pytest.raises(InputError, match="rare has 1 classes of label among the 3 records that are drawn"):
        chosen(rare, "label", limit=3)
    for absent in ("", None):
        source = Listed("part", [*rare.records, {"z": np.ones(2), "label": absent}])
        with pytest.raises(InputError, match="part, record 50: it has no 'label'"):
            dict(Neighbours("image", k=1).run(EMBED, source))
    lists = Listed("lists", [{"z": np.eye(2)[i], "label": [i]} for i in range(2)])
    with pytest.raises(InputError, match="lists, record 0: 'label' is a list"):
        dict(FewShot("image").run(EMBED, lists))


def test_raw_pixels_are_raw_whatever_the_view_makes_of_them():
    source = clusters(0, 12)
    plain, normalized = (
        KnownEmbeddings({"image": Photo(resolution=8, **levels)}, EMBED.functions)
        for levels in ({}, dict(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.9)))
    )
    found = [pixels(embed, "image", chosen(source, "label")) for embed in (plain, normalized)]
    np.testing.assert_array_equal(*found)
    assert 0 <= found[0].min() < found[0].max() <= 1
    words = KnownEmbeddings({"image": Text()}, EMBED.functions)
    with pytest.raises(InputError, match="pixels=True: the branch 'image' reads no pictures"):
        dict(Neighbours("image", k=3, pixels=True).run(words, source))
