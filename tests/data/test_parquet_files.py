import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastive_jax.data import parquet_files
from contrastive_jax.data.parquet import Parquet
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.errors import InputError

N = 90


def some(make):
    return [None if n % 5 == 3 else make(n) for n in range(N)]


COLUMNS = {
    "text": pa.array(some(lambda n: f"é{n % 7}")),
    "large": pa.array(some(lambda n: f"l{n}"), pa.large_string()),
    "view": pa.array(some(lambda n: f"v{n}"), pa.string_view()),
    "bytes": pa.array(some(lambda n: bytes([n]) * 3)),
    "decimal": pa.array(some(decimal.Decimal), pa.decimal256(60, 2)),
    "coded": pa.array(some(lambda n: f"c{n % 3}")).dictionary_encode(),
    "list": pa.array(some(lambda n: [*(f"x{k}" for k in range(n % 4)), None])),
    "lists": pa.array(
        some(lambda n: [[f"x{k}"] for k in range(n % 4)]), pa.list_(pa.large_list(pa.string()))
    ),
    "map": pa.array(some(lambda n: [("a", f"{n}"), ("b", None)]), pa.map_(pa.string(), pa.string())),
    "pair": pa.array([[f"{n}", None] for n in range(N)], pa.list_(pa.string(), 2)),
    "objects": pa.array(some(lambda n: [{"x": f"{n}", "n": n}] * (n % 3))),
    "object": pa.array(some(lambda n: {"x": f"{n}", "y": {"z": [b"q"]}, "n": n})),
    "time": pa.array(some(lambda n: datetime.datetime(2020, 1, 1, n % 24))),
    "nothing": pa.nulls(N),
}
WAYS = {
    "as pyarrow writes": {},
    "without its schema": {"store_schema": False},
    "without dictionaries": {"use_dictionary": False},
    "tiny pages": {"dictionary_pagesize_limit": 64, "data_page_size": 128},
    "deltas": {
        "use_dictionary": False,
        "column_encoding": {"text": "DELTA_BYTE_ARRAY", "bytes": "DELTA_LENGTH_BYTE_ARRAY"},
    },
}


@pytest.mark.parametrize("rows", [N, 37])
@pytest.mark.parametrize("way", WAYS)
def test_all_types_are_what_pyarrow_reads(tmp_path, way, rows):
    path = str(tmp_path / "t.parquet")
    pq.write_table(pa.table(COLUMNS), path, row_group_size=rows, **WAYS[way])
    source, plain = Parquet(path), pq.read_table(path).to_pylist()
    for record, row in zip(source, plain, strict=True):
        nothing = {"object": None} if row["object"] is None else {}
        assert record == flatten(row) | nothing | {"key": record["key"], "record": record["record"]}
    for name in COLUMNS:
        if name != "bytes":
            values = ["" if row[name] is None else row[name] for row in plain]
            if name == "object":
                with pytest.raises(KeyError):
                    source.column(name)
            else:
                assert source.column(name) == values


def repeated(values, count):
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array(values))


def test_one_long_text_for_many_rows_is_kept_once(tmp_path):
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"text": repeated(["a" * 65536], 100_000)}), path, store_schema=False)
    assert path.stat().st_size < 10_000  # 6.6 GB in full
    source = Parquet(str(path))
    assert source[99_999]["text"] == "a" * 65536
    ((size, _),) = source._kept.values()
    assert size < 1 << 20
    column = source.column("text")
    assert len(column) == 100_000
    assert column[0] is column[-1]


def bombs():
    texts = repeated(["a" * 65536], 100_000)
    ends = pa.array(np.linspace(0, 100_000, 11), pa.int32())
    yield "lists of a text", pa.ListArray.from_arrays(ends, texts), {}
    yield "one number", pa.array(np.zeros(1 << 17, np.int64)), {"row_group_size": 1 << 17}
    yield "pressed", pa.array(["a" * (1 << 20)] * 20), {"use_dictionary": False, "compression": "zstd"}
    deltas = {"use_dictionary": False, "column_encoding": {"c": "DELTA_BYTE_ARRAY"}}
    yield "deltas", pa.array(["a" * 10_000 + str(n) for n in range(2000)]), deltas


@pytest.mark.parametrize(("array", "options"), [pytest.param(*each[1:], id=each[0]) for each in bombs()])
def test_groups_that_become_too_large_are_refused(tmp_path, monkeypatch, array, options):
    path = str(tmp_path / "bomb.parquet")
    pq.write_table(pa.table({"c": array}), path, store_schema=False, **options)
    if len(array) != 10:
        monkeypatch.setattr("contrastive_jax.data.parquet_files._GROUP_BYTES", 1 << 20)
    source = Parquet(path)
    with pytest.raises(
        BrokenRecord, match=r"it would be [\d,]+ bytes in memory, and at most [\d,]+ are read"
    ):
        source[0]
    assert set(source.column("c")) == {""}


def test_more_rows_than_a_file_can_hold(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"c": pa.nulls(1_000_000)}), path)
    assert len(Parquet(str(path))) == 1_000_000
    monkeypatch.setattr("contrastive_jax.data.parquet_files._ROWS", 1000)
    monkeypatch.setattr("contrastive_jax.data.parquet_files._ROWS_A_BYTE", 10)
    with pytest.raises(InputError, match=r"rows\.parquet \([\d,]+ bytes\) says that it holds 1,000,000 rows"):
        Parquet(str(path))


def test_lists_of_texts_that_repeat_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr("contrastive_jax.data.parquet_files._GROUP_BYTES", 1 << 20)
    deltas = {"use_dictionary": False, "column_encoding": {"c.list.element": "DELTA_BYTE_ARRAY"}}
    path = str(tmp_path / "lists.parquet")
    pq.write_table(pa.table({"c": [["a" * 50_000] * 1000]}), path, **deltas)
    read = []
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *args, **options: read.append(args) or [])
    with pytest.raises(BrokenRecord, match=r"it would be [\d,]+ bytes in memory"):
        Parquet(path)[0]
    assert not read


def test_different_texts_are_read_without_a_dictionary_of_them(tmp_path, monkeypatch):
    opened = []

    def opening(path, *args, _open=parquet_files._open, **options):
        opened.append("read_dictionary" in options)
        return _open(path, *args, **options)

    monkeypatch.setattr(parquet_files, "_open", opening)
    path = str(tmp_path / "t.parquet")
    texts = [f"{n}" * 300 for n in range(1000)]
    pq.write_table(pa.table({"text": texts, "bytes": [t.encode() for t in texts]}), path, row_group_size=500)
    assert [record["text"] for record in Parquet(path)] == texts
    assert not any(opened)


def test_one_text_for_many_rows_of_a_small_group_is_kept_once(tmp_path):
    path = str(tmp_path / "t.parquet")
    pq.write_table(pa.table({"text": repeated(["a" * 65536], 1000)}), path, store_schema=False)
    source = Parquet(path)
    assert source[999]["text"] == "a" * 65536
    ((size, _),) = source._kept.values()
    assert size < 1 << 20


def test_texts_of_a_large_group_are_spelled_out(tmp_path, monkeypatch):
    monkeypatch.setattr("contrastive_jax.data.parquet_files._BATCH_BYTES", 1)
    path = str(tmp_path / "t.parquet")
    texts = [None, *(f"text {n}" for n in range(1000))]
    pq.write_table(pa.table({"text": texts}), path)
    source = Parquet(path)
    assert [record["text"] for record in source] == texts
    (((_, (column,))),) = source._kept.values()
    assert pa.types.is_string(column.type)
