import io
import json
import logging
import multiprocessing
import os
import pickle
import pickletools
import re
import tarfile
import threading

import pytest
import webdataset

from contrastive_jax.data import indexes
from contrastive_jax.data.faults import Access, StoreFault
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.webdataset import WebDataset
from contrastive_jax.errors import InputError


def write(path, samples):
    """A tar as img2dataset writes it: webdataset's own writer."""
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return str(path)


def shard(number, count=5):
    return [
        {
            "__key__": f"{number:05d}{n:04d}",
            "jpg": bytes([number, n]) * 50,
            "txt": f"é {number} {n}",
            "json": {"caption": f"{n}", "width": 7 * n, "exif": {"iso": n}, "text": "no", "tags": ["a", "b"]},
            "cls": n % 2,
        }
        for n in range(count)
    ]


@pytest.fixture
def pattern(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number:05d}.tar", shard(number))
    return f"{tmp_path}/{{00000..00002}}.tar"


def test_records_are_those_that_were_written(pattern):
    source = WebDataset(pattern)
    assert len(source) == 15
    assert source[7] == {
        "key": "00001/000010002",
        "record": 7,
        "image": bytes([1, 2]) * 50,
        "text": "é 1 2",
        "label": 0,
        "caption": "2",
        "width": 14,
        "exif.iso": 2,
        "tags": ["a", "b"],
    }
    for field in ("key", "record", "text", "label", "caption", "exif.iso", "tags"):
        assert list(source.column(field)) == [record[field] for record in source]
    for field in ("image", "colour"):
        with pytest.raises(KeyError):
            source.column(field)


def test_a_pattern_is_braces_a_glob_or_a_folder(pattern, tmp_path):
    expected = WebDataset(pattern).column("key")
    assert WebDataset(f"{tmp_path}/*.tar").column("key") == expected
    assert WebDataset(str(tmp_path)).column("key") == expected
    assert len(WebDataset(f"{tmp_path}/{{00000,00002}}.tar")) == 10
    with pytest.raises(InputError, match=r"no file .*00003\.tar"):
        WebDataset(f"{tmp_path}/{{00000..00003}}.tar")


def test_the_real_set_as_webdataset_reads_it(data_folder):
    pattern = f"{data_folder}/emoji_noto_multilingual/test-0000.tar"
    source = open_source(f"webdataset:{pattern}")
    theirs = list(webdataset.WebDataset(pattern, shardshuffle=False, empty_check=False))
    assert len(source) == len(theirs) == 389
    for ours, sample in zip(source, theirs):
        assert ours["image"] == sample["png"]
        assert ours["key"] == f"test-0000/{sample['__key__']}"
        assert ours.get("tts.de") == json.loads(sample["json"])["tts"].get("de")


def test_the_index_is_kept_beside_and_made_anew_when_the_tar_changes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", shard(0))
    index = tmp_path / "a.tar.index"
    WebDataset(path)
    assert index.exists()
    with monkeypatch.context() as patched:
        patched.setattr(indexes, "_may_write", lambda _: pytest.fail("the index was not used"))
        assert len(WebDataset(path)) == 5
    write(tmp_path / "a.tar", shard(1, count=8))
    assert WebDataset(path).column("key")[7] == "a/000010007"


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-9] + b"x" + b[-8:]]
)
def test_a_torn_index_is_made_again(tmp_path, damage, caplog):
    path = write(tmp_path / "a.tar", shard(0))
    before = list(WebDataset(path))
    index = tmp_path / "a.tar.index"
    index.write_bytes(damage(index.read_bytes()))
    assert list(WebDataset(path)) == before
    assert "is damaged; making it again" in caplog.text


def test_a_folder_that_is_not_to_be_written_has_its_index_in_the_cache(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    path = write(folder / "a.tar", shard(0))
    folder.chmod(0o555)
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "cache"))
    WebDataset(path)
    folder.chmod(0o755)
    assert [file.name for file in folder.iterdir()] == ["a.tar"]
    assert len(list((tmp_path / "cache" / "indexes").iterdir())) == 1


def test_a_torn_tar_gives_what_is_whole_and_says_so(pattern, tmp_path, caplog):
    path = tmp_path / "00001.tar"
    path.write_bytes(path.read_bytes()[:20000])
    with caplog.at_level(logging.WARNING):
        source = WebDataset(pattern)
    assert len(source) == 10 + 2
    assert [record["key"][:5] for record in source] == ["00000"] * 5 + ["00001"] * 2 + ["00002"] * 5
    assert re.search(r"00001\.tar is torn: it breaks off at byte \d+ of 20000; 2 samples before", caplog.text)


def test_a_pickle_in_a_tar_is_never_opened(tmp_path, caplog):
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/sprung",)

    bomb = pickle.dumps(Trap())
    assert "system" in "".join(str(argument) for _, argument, _ in pickletools.genops(bomb))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in [
            ("1.jpg", b"x"),
            ("1.pyd", bomb),
            ("1.pickle", bomb),
            ("2.pth", bomb),
            ("2.jpg", b""),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    records = list(WebDataset(str(tmp_path / "a.tar")))
    assert [sorted(record) for record in records] == [["image", "key", "record"]] * 2
    assert not (tmp_path / "sprung").exists()
    assert "3 pickled files are left out" in caplog.text


def test_damaged_members_are_broken_records(tmp_path):
    samples = [{"__key__": "a", "json": b"{", "jpg": b"x"}, {"__key__": "b", "json": b"[1]"}]
    samples += [
        {"__key__": "c", "txt": b"\xff\xfe"},
        {"__key__": "d", "cls": b"one"},
        {"__key__": "e", "xyz": b"?"},
    ]
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for sample in samples:
            for kind in sorted(set(sample) - {"__key__"}):
                entry = tarfile.TarInfo(f"{sample['__key__']}.{kind}")
                entry.size = len(sample[kind])
                archive.addfile(entry, io.BytesIO(sample[kind]))
    source = WebDataset(str(tmp_path / "t.tar"))
    for index, name in enumerate(["t/a.json", "t/b.json", "t/c.txt", "t/d.cls"]):
        with pytest.raises(BrokenRecord, match=f"{name}: damaged"):
            source[index]
    assert source[4] == {"key": "t/e", "record": 4, "xyz": b"?"}  # a wrong ending stays what it is
    with pytest.raises(IndexError):
        source[5]


def test_a_tar_that_shrinks_under_the_source_is_a_fault(tmp_path):
    path = write(tmp_path / "a.tar", shard(0))
    source = WebDataset(path, Access(retry_seconds=0))
    os.truncate(path, 9000)
    assert source[0]["text"] == "é 0 0"
    with pytest.raises(StoreFault, match=r"a\.tar cannot be read \(it .*has changed"):
        source[4]


def _texts(source, queue):
    queue.put([record["text"] for record in source])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(pattern, method):
    source = WebDataset(pattern)
    expected = [record["text"] for record in source]
    assert len(pickle.dumps(source)) < 500
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=_texts, args=(source, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=60) for _ in processes] == [expected] * 2
    for process in processes:
        process.join()


def test_threads_read_the_same(pattern):
    source = WebDataset(pattern)
    expected, found = list(source), []
    threads = [threading.Thread(target=lambda: found.append(list(source) == expected)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_more_files_than_stay_open(tmp_path):
    for number in range(300):
        write(tmp_path / f"{number:05d}.tar", shard(number % 250, count=1))
    source = WebDataset(str(tmp_path))
    assert [record["text"] for record in source] == [f"é {number % 250} 0" for number in range(300)]
    assert len(os.listdir("/proc/self/fd")) < 300


def test_a_sparse_member_is_a_broken_record(tmp_path):
    path = tmp_path / "t.tar"
    info = tarfile.TarInfo("a.jpg")
    info.size = 8 << 40
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(info.size + 2048)
    source = WebDataset(str(path))
    with pytest.raises(BrokenRecord, match=r"t/a: cannot be read .it is 8,796,093,022,208 bytes"):
        source[0]


def test_an_index_that_is_no_file_or_too_large_is_made_again(tmp_path, monkeypatch, caplog):
    path = write(tmp_path / "t.tar", shard(0))
    expected = list(WebDataset(path))
    index = tmp_path / "t.tar.index"
    index.unlink()
    os.mkfifo(index)
    assert list(WebDataset(path)) == expected
    index.unlink(missing_ok=True)
    with index.open("wb") as file:
        file.truncate(1 << 40)
    assert list(WebDataset(path)) == expected
    assert "making it again" in caplog.text
