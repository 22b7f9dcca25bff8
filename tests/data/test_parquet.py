import datetime
import json
import multiprocessing
import os
import pickle
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastive_jax.data.parquet import Parquet
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError


def hugging_face(rows, start=0):
    """A table as `datasets` writes one: pictures as structs, the features in the schema's metadata."""
    numbers = range(start, start + rows)
    table = pa.table(
        {
            "image": pa.array([{"bytes": bytes([n]) * 9, "path": f"{n}.png"} for n in numbers]),
            "label": pa.array([n % 3 - 1 for n in numbers], pa.int64()),
            "captions": pa.array([[f"one {n}", f"two {n}"] for n in numbers]),
            "translation": pa.array([{"en": f"e{n}", "of": {"de": f"d{n}"}} for n in numbers]),
            "text": pa.array([f"é {n}" if n % 4 else None for n in numbers]),
        }
    )
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.fixture
def pattern(tmp_path):
    for number in range(3):
        path = tmp_path / f"train-{number:05d}-of-00003.parquet"
        pq.write_table(hugging_face(10, 10 * number), path, row_group_size=4)
    return f"{tmp_path}/train-*.parquet"


def test_the_layout_of_hugging_face(pattern):
    source = Parquet(pattern)
    assert len(source) == 30
    assert source[26] == {
        "key": "train-00002-of-00003/6",
        "record": 26,
        "image": bytes([26]) * 9,
        "label": 1,
        "label_name": "dog",
        "captions": ["one 26", "two 26"],
        "translation.en": "e26",
        "translation.of.de": "d26",
        "text": "é 26",
    }
    assert source[0]["label"] == -1
    assert source[0]["label_name"] is None
    for field in ("key", "record", "label", "captions", "translation.en", "translation.of.de"):
        assert list(source.column(field)) == [record[field] for record in source]
    assert source.column("text")[:2] == ["", "é 1"]
    assert source.column("label_name")[:3] == ["", "cat", "dog"]
    for field in ("image", "colour", "translation", "colour_name"):
        with pytest.raises(KeyError):
            source.column(field)
    with pytest.raises(IndexError):
        source[30]


def test_columns_and_a_cache_smaller_than_a_row_group(pattern):
    source = pickle.loads(pickle.dumps(open_source(f"parquet:{pattern}?columns=text,label&cache=0")))
    assert sorted(source[5]) == ["key", "label", "label_name", "record", "text"]
    assert [source[n]["text"] for n in (29, 1, 14, 2)] == ["é 29", "é 1", "é 14", "é 2"]
    with pytest.raises(InputError, match="no column 'txt'; there are image, label"):
        Parquet(pattern, columns="txt")


def test_pictures_that_are_paths_below_the_folder(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "x.png").write_bytes(b"picture")
    paths = ["p/x.png", "p/none.png", "../x.png", "/etc/passwd", None]
    rows = [{"image": {"bytes": None, "path": path}} for path in paths]
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "t.parquet")
    source = Parquet(f"{tmp_path}/t.parquet")
    assert source[0]["image"] == b"picture"
    for index, words in enumerate(["cannot read 'p/none.png'", "'../x.png'", "'/etc/passwd'", "None"], 1):
        with pytest.raises(BrokenRecord) as error:
            source[index]
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns(["text"]), "column 'text' is missing, but in"),
        (lambda t: t.append_column("more", pa.array([1] * 3)), "column 'more' is int64, but in"),
        (
            lambda t: t.set_column(1, "label", pa.array(["a", "b", "c"])),
            "column 'label' is string, but in",
        ),
    ],
)
def test_a_file_of_another_schema_is_named_with_its_column(pattern, tmp_path, change, words):
    odd = tmp_path / "train-00009.parquet"
    pq.write_table(change(hugging_face(3)), odd)
    with pytest.raises(InputError) as error:
        Parquet(pattern)
    assert f"{odd}: {words}" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_differ_in_encoding_alone_are_of_one_schema(tmp_path):
    plain = pa.table({"text": ["a", "b"]})
    pq.write_table(plain, tmp_path / "a.parquet")
    coded = pa.table({"text": pa.array(["c", "d"]).dictionary_encode()})
    pq.write_table(coded, tmp_path / "b.parquet")
    pq.write_table(plain.cast(pa.schema([("text", pa.large_string())])), tmp_path / "c.parquet")
    assert Parquet(str(tmp_path)).column("text") == ["a", "b", "c", "d", "a", "b"]


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"PAR1", lambda b: b"no parquet at all" * 9])
def test_a_torn_file_is_refused(tmp_path, damage):
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(damage((tmp_path / "t.parquet").read_bytes()))
    with pytest.raises(InputError, match=r"t\.parquet is no Parquet file, or is torn"):
        Parquet(str(tmp_path))


def test_a_damaged_row_group_breaks_its_records_alone(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"text": [f"text {n}" for n in range(20)]}), path, row_group_size=10, compression="gzip"
    )
    content = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = chunk.dictionary_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    source = Parquet(str(path))
    assert source[9]["text"] == "text 9"
    with pytest.raises(BrokenRecord, match="row group 1 of"):
        source[10]
    assert source.column("text")[8:11] == ["text 8", "text 9", ""]


def test_a_value_that_cannot_be_read_breaks_its_record_alone(tmp_path):
    texts = pa.array([b"one", b"\xff\xfe", b"three"]).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "t.parquet")
    source = Parquet(f"{tmp_path}/t.parquet")
    assert source.column("text") == ["one", "", "three"]
    assert source[2]["text"] == "three"
    with pytest.raises(BrokenRecord, match=r"column 'text' of .*t\.parquet: 'utf-8' codec"):
        source[1]
    pq.write_table(pa.table({"key": ["a", None]}), tmp_path / "k.parquet")
    source = Parquet(f"{tmp_path}/k.parquet")
    assert source.column("key") == [record["key"] for record in source] == ["a", "k/1"]


def test_more_files_than_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr("contrastive_jax.data.parquet._KEPT_OPEN", 3)
    for number in range(20):
        pq.write_table(pa.table({"n": [number]}), tmp_path / f"{number:02d}.parquet")
    source, before = Parquet(str(tmp_path), cache="0"), len(os.listdir("/proc/self/fd"))
    assert [source[n]["n"] for n in (*range(20), 0)] == [*range(20), 0]
    assert len(os.listdir("/proc/self/fd")) <= before + 3


@pytest.mark.parametrize("cache", ["x", "-1", "1.5"])
def test_a_cache_that_is_no_number(pattern, cache):
    with pytest.raises(InputError, match=f"option cache='{cache}': give a whole number of MiB"):
        Parquet(pattern, cache=cache)


def _texts(source, queue):
    queue.put([record["text"] for record in source])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_and_threads_read_the_same(pattern, method):
    source = Parquet(pattern)
    expected = [record["text"] for record in source]
    assert len(pickle.dumps(source)) < 500
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_texts, args=(source, queue))
    process.start()
    assert queue.get(timeout=60) == expected
    process.join()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append([record["text"] for record in source])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_real_sets(data_folder):
    source = Parquet(f"{data_folder}/cifar10/test.parquet")
    assert len(source) == 10_000
    record = source[9_999]
    assert record["image"].startswith(b"\xff\xd8")
    assert source.column("label")[9_999] == record["label"]
    assert source.column("label_name")[9_999] == record["label_name"]
    assert len(Parquet(f"{data_folder}/omniglot/{{background,evaluation}}.parquet")) == 32_460
    with pytest.raises(InputError, match="all files need one schema"):
        Parquet(f"{data_folder}/sts")


def test_times_finer_than_pythons_break_no_record(tmp_path):
    """Those that nobody reads least of all; the rest of a nanosecond is cut off."""
    at = pa.array([1704067200123456789, None], pa.timestamp("ns"))
    nested = pa.array([[{"at": 1001}], []], pa.list_(pa.struct([("at", pa.duration("ns"))])))
    table = pa.table(
        {"text": ["a", "b"], "at": at, "nested": nested, "of_day": pa.array([1999, 0], pa.time64("ns"))}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    source = Parquet(str(tmp_path / "a.parquet"))
    assert source[0]["text"] == "a"
    assert source[0]["at"] == datetime.datetime(2024, 1, 1, 0, 0, 0, 123456)
    assert source[0]["nested"] == [{"at": datetime.timedelta(microseconds=1)}]
    assert source[0]["of_day"] == datetime.time(0, 0, 0, 1)
    assert source.column("at")[0] == source[0]["at"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.list_(pa.string()), pa.large_list(pa.large_string())),
        (pa.string(), pa.null()),
        (
            pa.struct([("a", pa.string()), ("b", pa.null())]),
            pa.struct([("a", pa.large_string()), ("b", pa.int64())]),
        ),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), pa.list_(pa.string())),
    ],
)
def test_columns_of_one_meaning_are_of_one_schema(tmp_path, one, other):
    for name, kind in (("a", one), ("b", other)):
        pq.write_table(
            pa.table({"x": pa.array([None, None], kind), "n": [0, 1]}), tmp_path / f"{name}.parquet"
        )
    assert len(Parquet(str(tmp_path))) == 4


def test_columns_of_two_meanings_are_refused(tmp_path):
    for name, kind in (("a", pa.list_(pa.string())), ("b", pa.list_(pa.int64()))):
        pq.write_table(pa.table({"x": pa.array([None], kind)}), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"column 'x' is list<item: int64>.*list<item: string>"):
        Parquet(str(tmp_path))


def test_a_class_has_its_name_beside_a_list_of_objects(tmp_path):
    """As `datasets` of old noted a list: in brackets; and whatever else a feature may be."""
    label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    features = {
        "captions": [{"lang": {"dtype": "string"}}],
        "odd": None,
        "worse": "x",
        "bad": {"_type": "ClassLabel"},
    }
    noted = json.dumps({"info": {"features": {**features, "label": label}}})
    table = pa.table({"label": [1, 0], "captions": [[{"lang": "en"}], []]})
    pq.write_table(table.replace_schema_metadata({"huggingface": noted}), tmp_path / "a.parquet")
    source = Parquet(str(tmp_path / "a.parquet"))
    assert [source[n]["label_name"] for n in range(2)] == ["dog", "cat"]
