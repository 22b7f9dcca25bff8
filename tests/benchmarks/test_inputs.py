"""`bench input`: what is made up, how processor time is counted, and the figures, with a stand-in peer."""

import io
import os
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.benchmarks import inputs
from contrastive_jax.benchmarks.pictures import write_tars
from contrastive_jax.benchmarks.processor_time import tree_seconds
from contrastive_jax.data.sources import open_source

STAND_IN = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    {behaviour}
    if request["do"] == "start":
        assert json.load(open(request["tokenizer"]))["model"]["vocab"]
        answer = {{"versions": {{"torch": "0"}}, "note": f"{{len(request['tars'])}} tars"}}
    elif "batches" in request:
        answer = {{}}
    else:
        answer = {{"examples": 50, "tokens": 700 * (request["what"] == "tokens"), "seconds": 0.5}}
    print(json.dumps(answer), flush=True)
"""
SETTING = inputs.Setting(batch=8, workers=0, resolution=16, length=12, runs=1, seconds=0.2)


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    return write_tars(tmp_path_factory.mktemp("tars"), 300, (64, 48))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(inputs, "_rest", lambda contender: None)


def test_pictures_are_made_up_alike_and_read_as_a_source(tars, tmp_path):
    source = open_source(f"webdataset:{tars}")
    assert len(source) == 300
    one, again = source[5], source[261]
    picture = np.asarray(Image.open(io.BytesIO(one["image"])))
    assert picture.shape == (48, 64, 3)
    assert picture.std() > 20
    assert one["image"] == again["image"]  # of 256 kinds
    assert one["text"] != again["text"]
    (tmp_path / "more").mkdir()
    write_tars(tmp_path / "more", 300, (64, 48))
    with tarfile.open(tars.replace("*", "00000")) as one, tarfile.open(tmp_path / "more/00000.tar") as other:
        assert one.getnames() == other.getnames()
        assert all(one.extractfile(n).read() == other.extractfile(n).read() for n in one.getnames()[:8])


def test_processor_time_is_that_of_a_process_and_its_descendants():
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    before = tree_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", burn], **pipes) as child:
        child.stdout.readline()
        alone = tree_seconds(child.pid)
        both, without = tree_seconds(os.getpid()), tree_seconds(os.getpid(), {child.pid})
        child.stdin.close()
    assert 0.28 <= alone < 5
    assert both - before > 0.25
    assert both - without == pytest.approx(alone, abs=0.1)
    assert tree_seconds(child.pid) is None


def measured(pattern, **keywords):
    source = open_source(f"webdataset:{pattern}")
    return inputs.measure(source, inputs.standard_views(source, SETTING), SETTING, **keywords)


def test_captions_that_are_missing_or_no_text_train_no_tokenizer(tmp_path):
    lines = ['{"text": "one two"}', '{"text": null}', '{"n": 1}', '{"text": "\\ud83d"}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    views = inputs.standard_views(open_source(f"jsonl:{tmp_path}/x.jsonl"), SETTING)
    assert list(views) == ["tokens"]


def test_figures_alone(tars):
    began = time.perf_counter()
    found = measured(tars)
    taken = time.perf_counter() - began
    assert found["against"] == {}
    for unit, least in (("pictures", 8), ("tokens", 8 * 3)):
        assert found[f"{unit}_per_second"] > least / taken
        assert found[f"{unit}_per_core_second"] > least / taken


def test_figures_beside_a_peer(tars, tmp_path, monkeypatch):
    (tmp_path / "peer.py").write_text(STAND_IN.format(behaviour="pass"))
    monkeypatch.setattr(inputs, "PROGRAM", tmp_path / "peer.py")
    found = measured(tars, tars=[tars], python=sys.executable)
    peer = found["against"]["webdataset"]
    assert peer["pictures_per_second"] == 100
    assert peer["tokens_per_second"] == 1400
    assert peer["versions"] == {"torch": "0"}
    assert peer["note"] == "1 tars"
    for unit in ("pictures", "tokens"):
        ours = found[f"{unit}_per_second"]
        assert peer[f"{unit}_ratio_per_second"] == ours / peer[f"{unit}_per_second"]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ("raise ImportError('no webdataset')", "no webdataset"),
        ("if 'seconds' in request: print(json.dumps({'error': 'torn'}), flush=True); continue", "torn"),
    ],
)
def test_a_peer_that_fails_costs_no_figure(tars, tmp_path, monkeypatch, behaviour, error):
    (tmp_path / "peer.py").write_text(STAND_IN.format(behaviour=behaviour))
    monkeypatch.setattr(inputs, "PROGRAM", tmp_path / "peer.py")
    found = measured(tars, tars=[tars], python=sys.executable)
    assert found["pictures_per_second"] > 0
    assert found["tokens_per_second"] > 0
    assert error in found["against"]["webdataset"]["error"]
