"""The fuzzer's past findings, which stay mended, and its judge."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = sorted((HERE / "corpus").glob("*.json"))

# The cases run in forks of a process that has started no device, which this one may have.
CHILD = """
import json, sys, tempfile
from pathlib import Path
sys.path.insert(0, {here!r})
import run, server, targets
server.prepare()
with tempfile.TemporaryDirectory() as folder:
    seeds = targets.make_seeds(Path(folder) / "seeds")
    for file in sys.argv[1:]:
        got = run.ended(json.loads(Path(file).read_text()), seeds)
        print(json.dumps([server.verdict(got), got.code, got.err[-3000:]]), flush=True)
"""


@pytest.fixture(scope="module")
def ended():
    """{file: [what is wrong, exit code, standard error]} of all cases."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "XLA_FLAGS": ""}
    line = [sys.executable, "-c", CHILD.format(here=str(HERE)), *map(str, CORPUS)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(CORPUS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_what_was_found_stays_mended(ended, file):
    wrong, code, err = ended[file]
    assert not wrong, err
    assert code in (0, 1, 2)


JUDGED = {
    "print('x')": "",
    "sys.stderr.write('a warning\\n')": "",
    "sys.stderr.write('contrastive-jax: no\\n'); sys.exit(2)": "",
    "sys.exit(2)": "exit code 2 with 0 lines of refusal",
    "sys.stderr.write('contrastive-jax: no\\n' * 2); sys.exit(2)": "exit code 2 with 2 lines of refusal",
    "sys.stderr.write('contrastive-jax: ' + 'x' * 3000 + '\\n'); sys.exit(2)": "a refusal of more than 2000",
    "1 / 0": "traceback: ?: ZeroDivisionError",
    "sys.exit(3)": "exit code 3",
    "os.abort()": "killed by SIGABRT",
    "time.sleep(60)": "it took too long",
    "kept = bytearray(300 << 20); time.sleep(60)": "it took more than 200 MiB",
}


@pytest.mark.parametrize("code", JUDGED)
def test_the_judge_sees_every_bad_end(code):
    sys.path.insert(0, str(HERE))
    try:
        import server
    finally:
        sys.path.remove(str(HERE))
    # A plain process stands for the fork: what is judged is how it ended.
    most = (200 << 20) if "bytearray" in code else server.MOST_BYTES
    line = [sys.executable, "-c", f"import os, sys, time\n{code}"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    status, killed = server._watched(process.pid, time.monotonic() + 3, most)
    process.returncode = os.waitstatus_to_exitcode(status)
    err = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    verdict = server.verdict(server.Ended(process.returncode, "", err, killed))
    assert verdict.startswith(JUDGED[code]), verdict
    assert bool(verdict) == bool(JUDGED[code])
    assert process.returncode != -signal.SIGKILL or killed
