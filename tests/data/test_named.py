"""What the records of a source may name: each fault caused for real."""

import base64
import gzip
import http.server
import json
import os
import pickle
import tarfile
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastive_jax.data import remote
from contrastive_jax.data.faults import Access, StoreFault
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError


class _Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        name, _, rest = self.path.lstrip("/").partition("/")
        if name == "status":
            return self.send_error(int(rest))
        if name == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            return self.end_headers()
        self.send_response(200)
        if name == "short":
            self.send_header("Content-Length", "100")
        self.end_headers()
        try:
            self.wfile.write(b"picture")
            while name in ("endless", "slow"):
                self.wfile.write(b"x" if name == "slow" else b"x" * 65536)
                time.sleep(0.05 if name == "slow" else 0)
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    server.daemon_threads = True
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.shutdown()
    server.server_close()


def listing(folder, *names, kind="jsonl"):
    """A file whose records name these pictures."""
    if kind == "parquet":
        schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
        rows = [{"image": {"bytes": None, "path": name}} for name in names]
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "list.parquet")
    elif kind == "csv":
        (folder / "list.csv").write_text("image\n" + "".join(f'"{name}"\n' for name in names))
    else:
        lines = (json.dumps({"image": name}) + "\n" for name in names)
        (folder / "list.jsonl").write_text("".join(lines))
    return f"{kind}:{folder}/list.{kind}"


def why(source, index=0):
    with pytest.raises(BrokenRecord) as error:
        source[index]
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_names_that_leave_the_folder_or_are_no_files(tmp_path, kind, web):
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "out.png").symlink_to("../secret.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    (folder / "inner").mkdir()
    reference = {"version": 1, "gen": [{"key": "{{ 1 }}", "url": "x", "dimensions": {"i": {"stop": 1}}}]}
    (folder / "r.json").write_text(json.dumps(reference))
    bad = {
        "/etc/passwd": "absolute path",
        "/dev/zero": "absolute path",
        "../secret.png": "leaves the folder",
        "inner/../../secret.png": "leaves the folder",
        "out.png": "link that leaves the folder",
        "zero.png": "is a device",
        "pipe.png": "is a pipe",
        "inner": "is a folder",
        "none.png": "No such file",
        "x" * 5000: "File name too long",
        "out.png/x.png": "Not a directory",
        "file:///etc/passwd": "is an address",
        f"{web.address}/x.png": "allow=http",
        f"reference://x::file://{folder}/r.json": "is an address",
        f"simplecache::{web.address}/x.png": "is an address",
        f"zip://x.png::{web.address}/x.zip": "is an address",
        "data:image/png": "no comma",
        "data:;base64,%%%": "no base64",
    }
    source, asked = open_source(listing(folder, *bad, kind=kind)), len(web.asked)
    for index, words in enumerate(bad.values()):
        assert words in why(source, index)
    assert len(web.asked) == asked


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_bytes_in_the_record_itself(tmp_path, kind):
    encoded = base64.b64encode(b"\0picture\xff").decode()
    good = [f"data:image/png;base64,{encoded}", f"DATA:;base64,{encoded.rstrip('=')}", "data:,%00picture%ff"]
    spec = listing(tmp_path, *good, kind=kind)
    assert [record["image"] for record in open_source(spec)] == [b"\0picture\xff"] * 3
    bounded = open_source(spec, Access(file_bytes=8))
    for index in range(3):
        assert "more than 8 bytes" in why(bounded, index)


def test_a_file_has_a_limit(tmp_path):
    (tmp_path / "nine.png").write_bytes(b"123456789")
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(1 << 40)
    spec = listing(tmp_path, "nine.png", "sparse.png")
    source = pickle.loads(pickle.dumps(open_source(spec, Access(file_bytes=8))))
    assert "'nine.png' has more than 8 bytes" in why(source)
    source = open_source(spec)
    assert source[0]["image"] == b"123456789"
    assert "'sparse.png' has more than 268435456 bytes" in why(source, 1)


def test_links_that_are_allowed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.png").write_bytes(b"picture")
    for name, to in {"b.png": "../b.png", "zero.png": "/dev/zero", "gone.png": "nowhere"}.items():
        (tmp_path / "a" / name).symlink_to(to)
    spec, folder = listing(tmp_path / "a", "b.png", "zero.png"), f"folder:{tmp_path}/a"
    assert "leaves the folder" in why(open_source(spec))
    assert open_source(folder).column("key") == ["b.png", "gone.png", "zero.png"]
    assert "leaves the folder" in why(open_source(folder), 0)
    assert "No such file" in why(open_source(folder), 1)  # it led nowhere when the folder was listed
    for source in (open_source(f"{spec}?allow=links"), open_source(f"{folder}?allow=links")):
        assert source[0]["image"] == b"picture"
        assert "is a device" in why(source, len(source) - 1)


def test_addresses_that_are_allowed(tmp_path, web):
    names = [f"{web.address}/{name}" for name in ("x.png", "status/404", "endless", "to//x.png")]
    names += [f"{web.address}/to/{to}" for to in ("file:///etc/passwd", "https://127.0.0.1:1/x", "x")]
    spec = listing(tmp_path, *names)
    source = open_source(f"{spec}?allow=http", Access(file_bytes=1 << 20, retry_seconds=0))
    assert source[0]["image"] == b"picture"
    assert "answers 404" in why(source, 1)
    assert "more than 1048576 bytes" in why(source, 2)
    assert source[3]["image"] == b"picture"
    assert "is not allow" in why(source, 4)
    assert "which is not allowed" in why(source, 5)
    assert "answers 302" in why(source, 6)  # to itself
    asked = len(web.asked)
    assert "allow=http" in why(open_source(f"{spec}?allow=https,s3"))
    assert len(web.asked) == asked


def test_a_server_that_fails_is_no_broken_record(tmp_path, web, monkeypatch):
    monkeypatch.setattr(remote, "_FETCH_SECONDS", 0.3)
    names = [f"{web.address}/{name}" for name in ("status/503", "status/403", "short", "slow")]
    spec = listing(tmp_path, *names, "http://127.0.0.1:1/x.png")
    source = open_source(f"{spec}?allow=http", Access(retry_seconds=0))
    reasons = "answers 503", "answers 403", "7 bytes came of 100", "bytes came in 0.3 s", "refused"
    for index, words in enumerate(reasons):
        with pytest.raises(StoreFault, match=words):
            source[index]


def test_a_listing_on_a_web_server(tmp_path):
    """Names below the folder of the file are fetched from the same server and from no other."""

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a b.png").write_bytes(b"picture")
    (tmp_path / "secret.png").write_bytes(b"secret")
    names = ["a b.png", "%2e%2e/secret.png", "../secret.png", "none.png"]
    listing(tmp_path / "s", *names)
    packed = gzip.compress((tmp_path / "s" / "list.jsonl").read_bytes())
    (tmp_path / "s" / "list.jsonl.gz").write_bytes(packed)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_source(f"jsonl:http://127.0.0.1:{server.server_address[1]}/s/list.jsonl.gz")
        assert source[0]["image"] == b"picture"
        for index, words in ((1, "leaves the folder"), (2, "leaves the folder"), (3, "answers 404")):
            assert words in why(source, index)
        server.shutdown()


@pytest.mark.parametrize("text", ["file", "reference", "https,zip", "all"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder"])
def test_what_cannot_be_allowed(tmp_path, text, kind):
    with pytest.raises(InputError, match="is no store to allow"):
        open_source(f"{kind}:{tmp_path}/x?allow={text}")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "webdataset", "arrayrecord"])
def test_a_pattern_that_is_no_regular_file(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for path, words in {
        "/dev/zero": "is a device",
        f"{tmp_path}/pipe": "is a pipe",
        f"{tmp_path}/p*": "is a pipe",
        f"{tmp_path}/device": "is a device",
    }.items():
        with pytest.raises(InputError, match=words):
            open_source(f"{kind}:{path}")


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "webdataset", "folder"])
@pytest.mark.parametrize(
    "address",
    [
        "reference://x::file:///tmp/r.json",
        "simplecache::s3://bucket/x",
        "zip://x::http://127.0.0.1:1/x.zip",
        "s3://bucket/x::http://127.0.0.1:1/x",
        "reference:///tmp/r.json",
        "file:///etc/passwd",
        "github://o:r@main/x",
        "python://x",
    ],
)
def test_patterns_that_are_no_store(kind, address):
    with pytest.raises(InputError, match=r"chains protocols|none of the stores|no such folder|'::'"):
        open_source(f"{kind}:{address}")


def test_a_list_of_keys_and_an_index_that_are_pipes(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n')
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(InputError, match="is a pipe"):
        open_source(f"jsonl:{tmp_path}/x.jsonl?keys={tmp_path}/keys")
    with pytest.raises(InputError, match="is a pipe"):
        open_source(f"jsonl:{tmp_path}/x.jsonl?balance=n:2:{tmp_path}/keys")


def test_the_index_of_a_tar_that_is_a_pipe(tmp_path, caplog):
    (tmp_path / "1.txt").write_text("one")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "1.txt", "1.txt")
    os.mkfifo(tmp_path / "a.tar.index")
    source = open_source(f"webdataset:{tmp_path}/a.tar")
    assert source[0]["text"] == "one"
    assert "is a pipe" in caplog.text
