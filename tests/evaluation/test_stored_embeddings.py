"""Embeddings in files: what fewer bytes keep, search block by block, recall, kills between parts."""

import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from usearch.index import Index

from contrastive_jax.errors import CommandError, InputError
from contrastive_jax.evaluation import approximate
from contrastive_jax.evaluation.approximate import Approximate
from contrastive_jax.evaluation.embeddings import Embeddings, Part, write
from contrastive_jax.evaluation.parts import put_together, write_parts
from contrastive_jax.evaluation.quantization import Range, quantize, restore
from contrastive_jax.evaluation.stored_search import nearest, over_blocks, recall

MESH = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])


def unit(rng, n, d=12):
    z = rng.normal(size=(n, d)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def best(scores, k):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 19))
def test_what_is_kept_of_an_embedding(seed, n, d):
    z = np.random.default_rng(seed).normal(3, 2, (n, d)).astype(np.float32)
    codes = Range.of(z.min(axis=0), z.max(axis=0))
    kept = restore(quantize(z, "int8", codes), "int8", d, codes)
    assert np.all(np.abs(kept - z) <= codes.scale / 2 + 1e-5)
    assert quantize(z, "binary").shape == (n, -(-d // 8))
    signs = restore(quantize(z, "binary"), "binary", d)
    np.testing.assert_allclose(signs, np.where(z > 0, 1, -1) / np.sqrt(d), rtol=1e-6)
    hamming = np.sum((z[:1] > 0) != (z > 0), axis=1)
    np.testing.assert_allclose(signs @ signs[0], 1 - 2 * hamming / d, atol=1e-5)
    np.testing.assert_array_equal(restore(quantize(z, "float32"), "float32", d), z)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 40), st.booleans())
def test_search_by_blocks_is_search_of_the_whole(seed, n, k, own):
    z = unit(np.random.default_rng(seed), n)
    blocks = [(0, z[: n // 2]), (n // 2, z[n // 2 :])]
    scores = z @ z.T
    if own:
        np.fill_diagonal(scores, -np.inf)
    found, rows = over_blocks(blocks, z, k, MESH, np.arange(n) if own else None)
    count = min(k, n)
    assert found.shape == rows.shape == (n, count)
    np.testing.assert_allclose(found, np.take_along_axis(scores, best(scores, count), axis=1), atol=1e-6)
    there = rows >= 0
    np.testing.assert_allclose(
        found[there], np.take_along_axis(scores, np.maximum(rows, 0), axis=1)[there], atol=1e-6
    )


def fill(folder, z, size, embed=None):
    def made(indices):
        indices = np.asarray(indices)
        return Part([f"k{i}" for i in indices], indices, z[indices]), []

    write_parts(folder, {"source": "s"}, range(len(z)), embed or made, size)


@pytest.mark.parametrize("dtype", ["float32", "int8", "binary"])
def test_recall_is_what_brute_force_gives(tmp_path, dtype):
    z = unit(np.random.default_rng(0), 90)
    fill(tmp_path / "parts", z, 40)
    output = tmp_path / "e.parquet"
    metadata = put_together(tmp_path / "parts", output, {"source": "s"}, dtype, MESH)
    exact, stored = z @ z.T, Embeddings(output)
    assert (len(stored), stored.keys[50], stored.records[50]) == (90, "k50", 50)
    ((_, kept),) = stored.blocks()
    scores = z @ kept.T
    for each in (exact, scores):
        np.fill_diagonal(each, -np.inf)
    if dtype == "binary":
        hamming = np.where(z > 0, 1, -1) @ np.where(z > 0, 1, -1).T
        np.fill_diagonal(hamming, -99)
        bound = np.sort(exact, axis=1)[:, -10, None]
        by_bits = np.take_along_axis(exact, best(hamming, 10), axis=1) >= bound
        assert metadata["hamming_recall@10"] == pytest.approx(by_bits.mean(), abs=1e-6)
        candidates = np.full(scores.shape, -np.inf)
        chosen = best(hamming, 40)
        np.put_along_axis(candidates, chosen, np.take_along_axis(scores, chosen, axis=1), axis=1)
        # Equal scores of bits are taken in the order of the candidates.
        assert metadata["recall@10"] == pytest.approx(overlap(best(candidates, 10), exact), abs=0.02)
        assert metadata["recall@10"] > metadata["hamming_recall@10"]
    else:
        assert metadata["recall@10"] == pytest.approx(overlap(best(scores, 10), exact), abs=1e-6)
        assert metadata["recall@10"] > 0.95
    found = nearest(stored, z[:3], 4, MESH)[1]
    assert found[:, 0].tolist() == [0, 1, 2]


def overlap(found, exact):
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), best(exact, 10).tolist())])


def test_records_that_are_alike_do_not_count_against_recall():
    z = np.repeat(unit(np.random.default_rng(0), 3), 20, axis=0)
    first, last = np.arange(10)[None], np.arange(10, 20)[None]
    assert recall([(0, z)], z[:1], first, last) == 1
    assert recall([(0, z)], z[:1], first, last + 20) == 0


def test_parts_that_are_there_are_not_made_again(tmp_path):
    z, asked = unit(np.random.default_rng(1), 50), []

    def embed(indices):
        asked.append(list(indices))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return Part([str(i) for i in indices], np.asarray(indices), z[list(indices)]), [(7, "torn")]

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "p", z, 20, embed)
    assert [len(one) for one in asked] == [20, 20, 10]
    with pytest.raises(InputError, match="part: 30 here, 20 there"):
        fill(tmp_path / "p", z, 30, embed)
    fill(tmp_path / "p", z, 20, embed)
    assert asked[3:] == [list(range(40, 50))]
    metadata = put_together(tmp_path / "p", tmp_path / "e.npy", {"source": "s"}, "float32", MESH)
    assert metadata["broken"] == 3
    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), z)
    (tmp_path / "p" / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan.json cannot be read"):
        fill(tmp_path / "p", z, 20, embed)


def test_damaged_files_are_refused(tmp_path):
    z = unit(np.random.default_rng(0), 5)
    part = Part(list("abcde"), np.arange(5), z)
    for name in ("e.parquet", "e.npy"):
        write(tmp_path / name, [part], {"dtype": "float32", "dimensions": 12})
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="no embeddings that"):
            Embeddings(tmp_path / name)
    np.save(tmp_path / "e.npy", z[:3])
    with pytest.raises(InputError, match=r"3 rows and its .json 5"):
        Embeddings(tmp_path / "e.npy")
    (tmp_path / "e.json").unlink()
    with pytest.raises(InputError, match=r"no such file \(e.json\)"):
        Embeddings(tmp_path / "e.npy")
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "o.json").write_text(json.dumps({"metadata": {}, "keys": [], "records": []}))
    with pytest.raises(InputError, match="no embeddings"):
        Embeddings(tmp_path / "o.npy")


def stored(folder, z):
    output = folder / "e.parquet"
    write(output, [Part([str(i) for i in range(len(z))], np.arange(len(z)), z)], {
        "dtype": "float32", "dimensions": z.shape[1],
    })  # fmt: skip
    return Embeddings(output)


class Blind:
    """A graph that finds every record itself, and of the others only the `found` nearest."""

    def __init__(self, z, found):
        self.z, self.found = z, found

    def __len__(self):
        return len(self.z)

    def search(self, queries, k):
        rows = best(queries @ self.z.T, k)
        distances = 1 - np.take_along_axis(queries @ self.z.T, rows, axis=1)
        rows[:, self.found + 1 :], distances[:, self.found + 1 :] = 0, 0
        return SimpleNamespace(keys=rows, distances=distances, counts=np.full(len(rows), self.found + 1))


def test_a_graphs_recall_is_of_other_records(tmp_path):
    """That a record finds itself says nothing; what a graph does not reach is no answer."""
    z = unit(np.random.default_rng(0), 60)
    index = Approximate(stored(tmp_path, z), MESH)
    assert index.built
    assert index.recall > 0.9
    index._index = Blind(z, found=4)
    assert index._measured(stored(tmp_path, z), MESH) == pytest.approx(4 / 10)
    scores, rows = index.nearest(z[:3], 8)
    assert (rows[:, :5] >= 0).all()
    assert rows[:, 0].tolist() == [0, 1, 2]
    assert (rows[:, 5:] == -1).all()
    assert (scores[:, 5:] == -np.inf).all()


def test_a_graph_that_cannot_be_kept_is_refused_in_words(tmp_path):
    file = stored(tmp_path, unit(np.random.default_rng(0), 5))
    (tmp_path / ".e.parquet.usearch.partial").mkdir()
    with pytest.raises(InputError, match=r"--approximate: .*e\.parquet\.usearch cannot be written"):
        Approximate(file, MESH)


def test_a_disk_that_takes_no_more_of_a_graph_is_a_fault_that_leaves_nothing(tmp_path, little_room):
    file = stored(tmp_path, unit(np.random.default_rng(0), 60))
    before = sorted(tmp_path.iterdir())
    with little_room(2000), pytest.raises(CommandError, match="usearch cannot be written"):
        Approximate(file, MESH)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("keys", "factor"),
    [(np.arange(50), 1), (np.arange(60) + 1, 1), (np.arange(60), np.float32("nan"))],
    ids=["too few", "a row that is not there", "no numbers"],
)
def test_a_graph_of_something_else_is_built_anew_whatever_stands_beside_it(tmp_path, keys, factor):
    z = unit(np.random.default_rng(0), 60)
    file = stored(tmp_path, z)
    path = Approximate(file, MESH).path
    other = Index(ndim=12, metric="ip", dtype="f32")
    other.add(keys, z[: len(keys)] * factor)
    other.save(str(path))
    says = path.with_name(f"{path.name}.json")
    told = json.loads(says.read_text())
    says.write_text(json.dumps(told | {"sha256": approximate._digest(path, told["of"])}))
    index = Approximate(file, MESH)
    assert not index.built
    scores, rows = index.nearest(z[-2:], 3)
    assert index.built
    assert rows[:, 0].tolist() == [58, 59]
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-6)
    again = Approximate(file, MESH)
    np.testing.assert_array_equal(again.nearest(z[-2:], 3)[1], rows)
    assert not again.built


# In a process of its own: it is about what takes a process with it.
QUESTIONS = """
import json, sys
import jax, numpy as np
from contrastive_jax.evaluation import approximate
from contrastive_jax.evaluation.embeddings import Embeddings
stored = Embeddings(sys.argv[1])
mesh = jax.make_mesh((1,), ("data",))
queries = np.random.default_rng(0).normal(size=(50, stored.dimensions)).astype(np.float32)
index = approximate.Approximate(stored, mesh)
good = index.nearest(queries, 5)[1]
says = index.path.with_name(f"{index.path.name}.json")
whole, told = index.path.read_bytes(), json.loads(says.read_text())
rng = np.random.default_rng(0)
built = 0
for _ in range(4):
    content = bytearray(whole)
    for start in rng.integers(len(whole) // 2, len(whole) - 8, 40):
        content[start : start + 4] = b"\\xff\\xff\\xff\\x7f"
    index.path.write_bytes(content)
    says.write_text(json.dumps(told | {"sha256": approximate._digest(index.path, told["of"])}))
    again = approximate.Approximate(stored, mesh)
    rows = again.nearest(queries, 5)[1]
    built += again.built
    assert not again.built or (rows == good).mean() > 0.9
print(built)
"""


def test_a_graph_whose_damage_shows_with_a_question_takes_no_process_with_it(tmp_path):
    """Its head, size and count are right, and so is the digest: only its links lead out of it."""
    file = stored(tmp_path, unit(np.random.default_rng(0), 2000))
    command = [sys.executable, "-c", QUESTIONS, file.path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) >= 3
