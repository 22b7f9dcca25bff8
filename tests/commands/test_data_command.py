"""`contrastive-jax data`: inspect, prepare and mine on small sets; kills, signals, wrong input."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from contrastive_jax.data.sources import open_source
from contrastive_jax.training.trained import open_trained


@pytest.fixture
def broken(small, tmp_path):
    """The small set with a torn picture, one that is missing, an empty text, and a key twice."""
    lines = [json.loads(line) for line in (small / "pairs.jsonl").read_text().splitlines()]
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    (tmp_path / "torn.png").write_bytes((small / "pictures" / "3.png").read_bytes()[:200])
    lines[3]["image"], lines[7]["image"] = "torn.png", "gone.png"
    lines[9]["text"], lines[12]["key"] = "", "k11"
    del lines[20]["document"]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"jsonl:{tmp_path}/pairs.jsonl"


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.arrayrecord")}


def test_inspect_says_what_is_there_and_what_is_broken(in_process, broken, tmp_path):
    line = ["data", "inspect", "--source", broken, "--all", "--output", str(tmp_path / "report")]
    code, out, err = in_process(*line, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["records"], found["read"], found["broken"], found["duplicate_keys"]) == (40, 40, 2, 1)
    assert found["duplicate_key_examples"] == ["k11"]
    assert {one["key"]: one["record"] for one in found["broken_records"]} == {"k3": 3, "k7": 7}
    assert "truncated" in found["broken_records"][0]["why"]
    assert found["fields"]["document"]["missing"] == 1
    assert found["fields"]["text"]["empty"] == 1
    assert found["pictures"]["image"] == {
        **{"decoded": 38, "width": [24, 24, 24], "height": [20, 23, 26]},
        **{"formats": {"PNG": 38}, "modes": {"RGB": 38}},
    }
    with Image.open(found["contact_sheet"]) as sheet:
        assert min(sheet.size) > 300
    assert json.loads((tmp_path / "report" / "inspection.json").read_text())["broken"] == 2
    code, out, err = in_process(*line[:4], "--limit", "10")
    assert code == 0, err
    assert "40 records, 10 read" in out
    assert "key twice: k11" in out


def test_a_source_of_which_nothing_can_be_read(in_process, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"image": "none.png"}\n' * 3)
    line = ["data", "inspect", "--source", f"jsonl:{tmp_path}/x.jsonl", "--output", str(tmp_path / "report")]
    code, out, err = in_process(*line, "--json")
    assert code == 0, err
    assert json.loads(out)["broken"] == 3
    assert [file.name for file in (tmp_path / "report").iterdir()] == ["inspection.json"]
    line = ["data", "prepare", *line[2:4], "--output", str(tmp_path / "shards"), "--workers", "0"]
    refused(in_process(*line), "not one record can be read: line 1: cannot read the picture", code=1)


def test_names_that_are_no_unicode_are_escaped(in_process, tmp_path):
    """A key that is half a character, and a picture of it that is broken, pass through all of it."""
    lines = ['{"key": "\\ud83d", "text": "\\ud83d"}', '{"key": "b", "image": "\\ud83d.png"}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    line = ["--source", f"jsonl:{tmp_path}/x.jsonl", "--output", str(tmp_path / "out")]
    for more in ([], ["--json"]):
        code, out, err = in_process("data", "inspect", *line, *more)
        assert code == 0, err
        assert "\\ud83d" in out
    line[-1] = str(tmp_path / "shards")
    for _ in range(2):
        code, out, err = in_process("data", "prepare", *line, "--workers", "0", "--json")
        assert code == 0, err
        assert (json.loads(out)["records"], json.loads(out)["broken"]) == (1, 1)
    assert open_source(f"arrayrecord:{tmp_path}/shards")[0]["key"] == "\ud83d"


def test_prepared_records_read_back_the_same_and_broken_ones_are_left_out(in_process, broken, tmp_path):
    output = tmp_path / "shards"
    line = ["data", "prepare", "--source", broken, "--output", str(output), "--shards", "3"]
    code, out, err = in_process(*line, "--workers", "0", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["records"], answer["broken"], answer["shards"]) == (38, 2, 3)
    assert "left out: record 3: the picture cannot be decoded" in err
    prepared, source = open_source(answer["prepared"]), open_source(broken)
    kept = [n for n in range(40) if n not in (3, 7)]
    assert len(prepared) == 38
    for index, number in enumerate(kept):
        assert {**prepared[index], "record": number, "key": source[number]["key"]} == source[number]
    before = digests(output)
    (output / "records-00001-of-00003.arrayrecord").unlink()
    code, out, err = in_process(*line, "--workers", "0", "--json")
    assert (code, json.loads(out)) == (0, answer)
    assert "2 of 3 shards are there" in err
    assert digests(output) == before
    other = [*line[:2], "--source", "digits:train", *line[4:]]
    refused(in_process(*other), "holds other shards", "source: digits:train here")
    refused(in_process(*line[:-1], "4"), "shards: 4 here, 3 there")
    refused(in_process(*line, "--resize", "8"), "resize: 8 here, None there")
    assert digests(output) == before


def test_pictures_are_made_smaller_and_beam_writes_the_same_shards(in_process, small, tmp_path):
    line = ["data", "prepare", "--source", f"jsonl:{small}/pairs.jsonl", "--shards", "2", "--resize", "12"]
    code, out, err = in_process(*line, "--output", str(tmp_path / "here"), "--workers", "0", "--json")
    assert code == 0, err
    prepared = open_source(json.loads(out)["prepared"])
    assert len(prepared) == 40
    for index in range(5):
        with Image.open(io.BytesIO(prepared[index]["image"])) as image:
            assert min(image.size) == 12
    pytest.importorskip("apache_beam")
    code, out, err = in_process(*line, "--output", str(tmp_path / "beam"), "--runner", "beam", "--json")
    assert code == 0, err
    assert digests(tmp_path / "beam") == digests(tmp_path / "here")
    wrong = [*line, "--output", str(tmp_path / "b"), "--runner", "beam", "--beam-option", "nonsense=1"]
    code, out, err = in_process(*wrong)
    assert (code, out) == (2, "")
    assert "--beam-option nonsense: unknown to Beam" in err


def start(small, output, count):
    """The real command on copies of the small set, with two workers."""
    source = " + ".join([f"jsonl:{small}/pairs.jsonl"] * count)
    program = Path(sys.executable).with_name("contrastive-jax")
    line = ["data", "prepare", "--source", source, "--output", output, "--shards", str(40 * count)]
    line = [program, *line, "--workers", "2", "--json"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.command
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_or_a_signal_costs_unfinished_shards_only(small, tmp_path, number):
    whole, output = tmp_path / "whole", tmp_path / "killed"
    assert start(small, whole, 8).wait(300) == 0
    running = start(small, output, 8)
    deadline = time.monotonic() + 120
    while len(list(output.glob("*.arrayrecord"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(running.pid, number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == (75 if number == signal.SIGTERM else -number)
    assert out == ""
    time.sleep(2)  # workers go with their parent
    kept = {p.name: p.stat().st_mtime_ns for p in output.glob("*.arrayrecord")}
    assert 20 <= len(kept) < 320
    again = start(small, output, 8)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert json.loads(out)["records"] == 320
    redone = [name for name in kept if (output / name).stat().st_mtime_ns != kept[name]]
    assert len(redone) <= 2  # those between their rename and their summary
    assert digests(output) == digests(whole)
    assert not list(output.glob(".*.partial"))


def test_mined_negatives_are_brute_forces_and_a_config_can_read_them(
    in_process, small, tmp_path, opened_once
):
    output = tmp_path / "mined.jsonl"
    line = ["data", "mine", "--workdir", f"{small}/run", "--source", f"jsonl:{small}/pairs.jsonl"]
    line += ["--queries", "text", "--documents", "document", "--output", str(output), "--batch", "8"]
    code, out, err = in_process(*line, "--negatives", "3", "--ranks", "1:20", "--margin", "0.001", "--json")
    assert code == 0, err
    answer = json.loads(out)
    source, trained = open_source(f"jsonl:{small}/pairs.jsonl"), open_trained(small / "run")
    import jax

    with jax.set_mesh(trained.experiment.mesh):
        embed = trained.embedder(8)
        scores = embed("text", source) @ embed("document", source).T
    texts = [record["text"] for record in map(source.__getitem__, range(40))]
    mined = open_source(f"jsonl:{output}")
    for n in range(40):
        order = [m for m in np.argsort(-scores[n], kind="stable") if texts[m] != texts[n]][1:20]
        wanted = [m for m in order if scores[n, m] <= scores[n, n] - 0.001][:3]
        assert mined[n]["negatives"] == [source[m]["document"] for m in wanted]
        np.testing.assert_allclose(mined[n]["negative_scores"], scores[n, wanted], atol=1e-5)
        assert (mined[n]["text"], mined[n]["document"]) == (texts[n], source[n]["document"])
    assert answer["negatives"] == sum(len(mined[n]["negatives"]) for n in range(40))
    assert 0 < answer["with_negatives"] == len(open_source(answer["mined"]))
    view = trained.views["document"]
    hard = type(view)(field="negatives", length=16).bind(view.tokenizer)
    first = next(n for n in range(40) if mined[n]["negatives"])
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(
        hard(mined[first], rng, False), view({"document": mined[first]["negatives"][0]}, rng, False)
    )


INSPECT, PREPARE = ["data", "inspect"], ["data", "prepare", "--output", "{new}"]
BALANCE = ["data", "balance", "--output", "{tmp}/k", "--source", "{pairs}"]
ENTRIES = [*BALANCE, "--metadata", "{small}/pairs.jsonl"]
MINE = ["data", "mine", "--workdir", "{small}/run", "--source", "{pairs}", "--output", "{tmp}/m.jsonl"]
NAMED = ["--queries", "text", "--documents", "document"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["data"], ["required: noun"]),
        (["data", "inspct"], ["'inspct'", "inspect"]),
        (INSPECT, ["required: --source"]),
        ([*INSPECT, "--sorce", "x"], ["'--sorce': did you mean --source?"]),
        ([*INSPECT, "--source", "jsnl:x"], ["unknown kind 'jsnl'; did you mean jsonl?"]),
        ([*INSPECT, "--source", "jsonl:/nowhere"], ["/nowhere"]),
        ([*INSPECT, "--source", "x", "--limt", "3"], ["did you mean --limit?"]),
        ([*INSPECT, "--source", "x", "--limit", "0"], ["'0': give a whole number from 1"]),
        ([*INSPECT, "--source", "x", "--limit", "3", "--all"], ["--all: not allowed with argument --limit"]),
        (
            [*INSPECT, "--source", "{pairs}", "--output", "/dev/null/x"],
            ["--output /dev/null/x cannot be used"],
        ),
        ([*PREPARE, "--source", "{pairs}", "--shrads", "3"], ["did you mean --shards?"]),
        ([*PREPARE, "--source", "{pairs}", "--shards", "41"], ["--shards 41", "has 40 records"]),
        ([*PREPARE, "--source", "{pairs}", "--worker", "3"], ["did you mean --workers?"]),
        ([*PREPARE, "--source", "{pairs}", "--resize", "x"], ["--resize: 'x': give a whole number"]),
        ([*PREPARE, "--source", "{pairs}", "--runner", "spark"], ["invalid choice: 'spark'"]),
        ([*PREPARE, "--source", "{pairs}", "--beam-option", "a=1"], ["give --runner beam with it"]),
        (
            [*PREPARE[:3], "{small}", "--source", "{pairs}"],
            ["holds other files", "give a new or empty folder"],
        ),
        ([*PREPARE[:3], "/dev/null/x", "--source", "{pairs}"], ["--output /dev/null/x cannot be used"]),
        ([*BALANCE, "--cap", "5"], ["required: --metadata"]),
        ([*ENTRIES, "--cap", "0"], ["--cap: '0': give a number over 0"]),
        ([*ENTRIES, "--cap", "nan"], ["--cap: 'nan': give a number over 0"]),
        (
            [*ENTRIES, "--cap", "5", "--field", "txt"],
            ["--field txt: jsonl:", "has no field 'txt'; did you mean text?"],
        ),
        ([*ENTRIES, "--cap", "5", "--seed", "-1"], ["--seed: '-1'"]),
        ([*ENTRIES, "--cap", "5"], ["not one of its entries is in jsonl:"]),
        ([*ENTRIES, "--cap", "5", "--output", "/dev/null/x"], ["there is no folder /dev/null"]),
        ([*ENTRIES, "--cap", "5", "--source", "{pairs} + {pairs}"], ["balance one source at a time"]),
        ([*ENTRIES, "--cap", "5", "--source", "{pairs}?exchange=text:0.5"], ["without exchange="]),
        (
            [*BALANCE, "--cap", "5", "--metadata", "/nowhere"],
            ["--metadata /nowhere: cannot be read (No such"],
        ),
        (
            [*BALANCE, "--cap", "5", "--metadata", "/dev/null"],
            ["--metadata", "is a device, and no regular file"],
        ),
        ([*MINE, "--quries", "text"], ["did you mean --queries?"]),
        ([*MINE, *NAMED, "--ranks", "5"], ["--ranks 5: give two places A:B"]),
        ([*MINE, *NAMED, "--ranks", "5:5"], ["--ranks 5:5: give two places"]),
        ([*MINE, *NAMED, "--margin", "x"], ["--margin x: give how much less"]),
        ([*MINE, *NAMED, "--margin", "95%,90%"], ["--margin 95%,90%"]),
        ([*MINE, *NAMED, "--negatives", "0"], ["--negatives: '0'"]),
        ([*MINE, "--queries", "txt"], ["--queries txt: branch 'txt' is unknown; did you mean text?"]),
        ([*MINE, "--queries", "text", "--documents", "image"], ["--documents image: it reads pictures"]),
        ([*MINE, "--queries", "text", "--documents", "text"], ["both read the field 'text'"]),
        ([*MINE, *NAMED, "--corpus-field", "text"], ["give --corpus with it"]),
        ([*MINE, *NAMED, "--corpus", "{pairs}", "--corpus-field", "txt"], ["has no field 'txt'"]),
        ([*MINE, "--config.steps=3"], ["data mine takes the config of the work directory"]),
    ],
    ids=lambda value: " ".join(value[-2:]),
)
def test_wrong_input_is_refused_in_one_line(in_process, small, tmp_path, line, words, opened_once):
    places = {"small": small, "pairs": f"jsonl:{small}/pairs.jsonl", "new": tmp_path / "new", "tmp": tmp_path}
    refused(in_process(*(text.format(**places) for text in line)), *words)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_left_alone(in_process, small, tmp_path):
    import fcntl

    with open(tmp_path / ".lock", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        line = ["data", "prepare", "--source", f"jsonl:{small}/pairs.jsonl", "--output", str(tmp_path)]
        refused(in_process(*line), "is in use by another process", code=1)


def test_a_disk_that_takes_no_more_is_a_fault(in_process, broken, little_room, tmp_path):
    with little_room(2000):
        result = in_process(*INSPECT, "--source", broken, "--output", str(tmp_path / "o"))
    refused(result, "cannot be used (File too large)", code=1)


def test_inspecting_the_emoji(in_process, data_folder):
    tars = f"webdataset:{data_folder}/emoji_noto_multilingual/test-*.tar"
    code, out, err = in_process("data", "inspect", "--source", tars, "--limit", "20", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["records"], found["broken"], found["duplicate_keys"]) == (389, 0, 0)
    assert found["pictures"]["image"]["width"] == [64, 64, 64]
