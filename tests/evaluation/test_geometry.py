import jax
import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, on_sphere
from scipy.special import softmax
from scipy.stats import entropy

from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import Geometry
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.geometry import (
    effective_rank,
    penalty_entropy,
    relative_std,
    tolerance,
    uniformity,
)


def brute_force(z):
    squared = np.sum((z[:, None] - z[None, :]) ** 2, axis=-1)
    return np.log(np.mean(np.exp(-2 * squared)[~np.eye(len(z), dtype=bool)]))


def run(images, texts, devices):
    views = {"image": Glyph(), "text": Text()}
    functions = {"image": lambda r: images[r["record"]], "text": lambda r: texts[r["record"]]}
    source = Listed("made up", [{"record": i} for i in range(len(images))])
    return dict(Geometry("image", "text").run(KnownEmbeddings(views, functions, devices), source))


@pytest.mark.parametrize("devices", [1, 8])
def test_alignment_and_uniformity_are_those_of_the_whole_matrix(devices):
    rng = np.random.default_rng(0)
    images, texts = on_sphere(rng, 37, 5), on_sphere(rng, 37, 5)
    found = run(images, texts, devices)
    assert found == {
        "alignment": pytest.approx(np.mean(np.sum((images - texts) ** 2, axis=1)), rel=1e-5),
        "modality_gap": pytest.approx(np.linalg.norm(images.mean(0) - texts.mean(0)), rel=1e-5),
        "uniformity/image": pytest.approx(brute_force(images), rel=1e-4),
        "uniformity/text": pytest.approx(brute_force(texts), rel=1e-4),
        "effective_rank/image": pytest.approx(effective_rank(images), rel=1e-5),
        "effective_rank/text": pytest.approx(effective_rank(texts), rel=1e-5),
        "std/image": pytest.approx(images.std(axis=0).mean() * np.sqrt(5), rel=1e-5),
        "std/text": pytest.approx(texts.std(axis=0).mean() * np.sqrt(5), rel=1e-5),
    }


def test_one_branch_alone_with_its_labels():
    z, labels = on_sphere(np.random.default_rng(0), 20, 4), list("abcd") * 5
    embed = KnownEmbeddings({"image": Glyph()}, {"image": lambda r: z[r["record"]]})
    source = Listed("made up", [{"record": i, "label": labels[i]} for i in range(20)])
    found = dict(Geometry("image", label="label").run(embed, source))
    pairs = [z[i] @ z[j] for i in range(20) for j in range(20) if i != j and labels[i] == labels[j]]
    assert set(found) == {"uniformity/image", "tolerance/image", "effective_rank/image", "std/image"}
    assert found["tolerance/image"] == pytest.approx(np.mean(pairs), rel=1e-5)
    with pytest.raises(InputError, match="no two records share a class"):
        tolerance(z, np.arange(20))


def test_the_effective_rank_counts_directions():
    """k directions of equal weight are k; a line is one; scale and rotation change nothing."""
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for k in (1, 3, 6):
        z = np.repeat(np.eye(6)[:k], 4, axis=0)
        assert effective_rank(z) == pytest.approx(k)
        assert effective_rank(7 * z @ turned) == pytest.approx(k)
    skew = effective_rank(np.eye(4) * [9, 1, 1, 1])
    assert skew == pytest.approx(np.exp(-0.75 * np.log(0.75) - 3 / 12 * np.log(1 / 12)))


def test_by_hand():
    """Two opposite points are 4 apart, squared; one place for all is the worst that there is."""
    images, texts = np.array([[1.0, 0], [-1, 0]]), np.array([[0, 1.0], [0, 1]])
    found = run(images, texts, 1)
    assert found["alignment"] == pytest.approx(2.0)
    assert found["modality_gap"] == pytest.approx(1.0)
    assert found["uniformity/image"] == pytest.approx(-8.0, rel=1e-5)
    assert found["uniformity/text"] == pytest.approx(0.0, abs=1e-5)


def test_no_square_matrix_is_built():
    n = 20_000
    compiled = jax.jit(uniformity).lower(jax.ShapeDtypeStruct((n, 8), np.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 10


def test_one_record_has_no_pairs():
    with pytest.raises(InputError, match="made up has one record"):
        run(np.eye(1), np.eye(1), 1)


def test_the_deviation_tells_a_collapse():
    """About 1 all around the sphere, whatever the size and the length; 0 at one point; two opposite points
    vary in one of their d numbers alone."""
    rng = np.random.default_rng(0)
    for d in (3, 64):
        z = on_sphere(rng, 4000, d)
        assert relative_std(z) == pytest.approx(1, abs=0.03)
        assert relative_std(5 * z) == pytest.approx(relative_std(z))
        assert relative_std(np.ones((5, d)) * [[1], [2], [3], [4], [5]]) == pytest.approx(0, abs=1e-7)
        ends = np.eye(d)[:1] * [[1.0], [-1.0]]
        assert relative_std(ends) == pytest.approx(1 / np.sqrt(d))


@pytest.mark.parametrize("devices", [1, 8])
def test_the_entropy_of_penalties(devices):
    """scipy's of the whole matrix; it never falls with the temperature, and its ends are 0 and 1."""
    z = on_sphere(np.random.default_rng(0), 29, 5)
    embed = KnownEmbeddings({"a": Glyph()}, {"a": lambda r: z[r["record"]]}, devices)
    source = Listed("made up", [{"record": i} for i in range(29)])
    found = {}
    for t in (0.003, 0.07, 0.3, 1.0, 1e4):
        logits = np.where(np.eye(29, dtype=bool), -np.inf, z @ z.T / t)
        shares = entropy(softmax(logits, axis=1), axis=1) / np.log(28)
        found[t] = dict(Geometry("a", temperature=t).run(embed, source))["penalty_entropy/a"]
        assert found[t] == pytest.approx(shares.mean(), rel=1e-3, abs=1e-4)
    assert list(found.values()) == sorted(found.values())
    assert found[0.003] < 0.1
    assert found[1e4] == pytest.approx(1)
    with pytest.raises(InputError, match="temperature=0"):
        Geometry("a", temperature=0.0)
    with pytest.raises(InputError, match="give three"):
        dict(Geometry("a", temperature=1.0).run(embed, Listed("two", source.records[:2])))


def test_the_entropy_of_penalties_builds_no_square_matrix():
    n = 20_000
    compiled = jax.jit(penalty_entropy).lower(jax.ShapeDtypeStruct((n, 8), np.float32), 0.1).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / 10
