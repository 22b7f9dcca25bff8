import pickle

import numpy as np
import pytest

from contrastive_jax.data.concatenation import Concatenation
from contrastive_jax.data.samplers import KINDS
from contrastive_jax.data.selection import Kept
from contrastive_jax.data.sources import open_source


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"n": {n}, "text": "a{n}"}}\n' for n in range(6)))
    (tmp_path / "b.csv").write_text("n,word\n" + "".join(f"{n},b{n}\n" for n in range(20, 23)))
    return f"jsonl:{tmp_path}/a.jsonl + csv:{tmp_path}/b.csv"


def test_one_source_after_another(spec):
    source = pickle.loads(pickle.dumps(open_source(spec)))
    assert isinstance(source, Concatenation)
    assert len(source) == 9
    assert source[5] == {"key": "0:5", "record": 5, "source": 0, "n": 5, "text": "a5"}
    assert source[6] == {"key": "1:0", "record": 6, "source": 1, "n": "20", "word": "b20"}
    assert source.column("source").tolist() == [0] * 6 + [1] * 3
    for field in ("key", "record", "n"):
        assert list(source.column(field)) == [record[field] for record in source]
    assert source.column("word") == [""] * 6 + ["b20", "b21", "b22"]
    with pytest.raises(KeyError):
        source.column("colour")
    with pytest.raises(IndexError):
        source[9]


def test_what_is_kept_of_a_source(spec):
    source = pickle.loads(pickle.dumps(Kept(open_source(spec), ("word",))))
    assert [record["word"] for record in source] == ["b20", "b21", "b22"]
    assert [record["record"] for record in source] == [0, 1, 2]
    for field in ("key", "record", "n", "source"):
        assert list(source.column(field)) == [record[field] for record in source]
    with pytest.raises(IndexError):
        source[-1]


def test_samplers_draw_from_its_parts_by_name_of_config(spec):
    source = open_source(spec)
    labels = np.asarray(source.column("source"))
    mixed = KINDS["mixture"](weights=(1.0, 1.0)).bind(source, 4, seed=0)
    assert all(np.bincount(labels[mixed(step)[:, 0]]).tolist() == [2, 2] for step in range(5))
    one = KINDS["homogeneous"](alpha=0.0).bind(source, 3, seed=0)
    assert sorted(labels[one(step)[0, 0]] for step in range(4)) == [0, 0, 1, 1]
