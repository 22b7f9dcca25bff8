"""Libraries in processes of their own: the protocol with a stand-in, and the libraries that are here."""

import os
import sys

import pytest

from contrastive_jax.benchmarks import children
from contrastive_jax.benchmarks.children import Child, PeerError, missing_modules
from contrastive_jax.benchmarks.peers import PEERS, gradient_errors
from contrastive_jax.benchmarks.problem import Problem

STAND_IN = """
import json, os, sys
import numpy as np
print("no answer, but a warning", file=sys.stderr)
for line in sys.stdin:
    request = json.loads(line)
    {behaviour}
    if request["do"] == "start":
        q, k = (np.load(request[side]) for side in ("rows", "columns"))
        answer = {{"peak_bytes": int(q.nbytes), "versions": {{"peer": request["peer"]}}}}
    elif request["do"] == "run":
        answer = {{"seconds": 0.5}}
    else:
        np.savez(request["out"], rows=np.load(request["rows"]), columns=np.load(request["columns"]))
        answer = {{"value": 1.0, "scale": None, "bias": None}}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    def install(behaviour="pass"):
        file = tmp_path / "peer.py"
        file.write_text(STAND_IN.format(behaviour=behaviour))
        monkeypatch.setattr(children, "_PROGRAM", file)

    return install


def test_one_request_after_another(stand_in):
    stand_in()
    problem = Problem(20, 4)
    child = Child("open_clip", problem)
    assert child.started == {"peak_bytes": 20 * 4 * 4, "versions": {"peer": "open_clip"}}
    assert [child.run(), child.run()] == [0.5, 0.5]
    found = child.gradients(problem.at_most(8))
    assert (found.rows == problem.at_most(8).embeddings()[0]).all()
    assert (found.value, found.scale) == (1.0, None)
    folder = child._folder.name
    child.close()
    assert not os.path.exists(folder)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("raise ImportError('no such\\\\nthing')", "thing"),
        ("os.kill(os.getpid(), 9)", "killed"),
        ("sys.exit(3)", "no answer, but a warning"),
        ("print(json.dumps({'error': 'out of memory'}), flush=True); continue", "^out of memory$"),
    ],
)
def test_a_child_that_fails_says_why(stand_in, behaviour, words):
    stand_in(behaviour)
    with pytest.raises(PeerError, match=words):
        Child("open_clip", Problem(4, 2))


def test_modules_that_are_missing():
    assert missing_modules(sys.executable, ["json", "no_such_module"]) == {"no_such_module"}


@pytest.mark.parametrize(
    ("name", "loss"),
    [("open_clip", "softmax"), ("open_clip", "sigmoid"), ("sentence-transformers", "softmax")],
)
def test_a_library_that_is_here(name, loss):
    python = os.environ.get("CONTRASTIVE_JAX_PEER_PYTHON", sys.executable)
    missing = missing_modules(python, ["torch", PEERS[name].module])
    if missing:
        pytest.skip(f"{python} has no {', '.join(sorted(missing))} (set CONTRASTIVE_JAX_PEER_PYTHON)")
    problem = Problem(600, 16, loss, scale=20.0)
    child = Child(name, problem, python)
    try:
        assert child.started["peak_bytes"] > 600 * 600 * 4
        assert child.run() > 0
        errors = gradient_errors(PEERS[name], child, problem)
        assert max(errors["gradient_error"], errors["value_error"]) < 1e-5
        assert errors.get("scale_gradient_error", 0) < 1e-3
        assert ("scale_gradient_error" in errors) == (name == "open_clip")
    finally:
        child.close()
