"""Runs in a bucket of a real server, killed at any moment: the same lines as those of a run on a disk."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from real_runs import CONFIGS, Command, ended, message, until, untimed

from contrastive_jax.training.manifest import MANIFEST

PAUSE = 0.1  # between two questions to the server, which is a thread of this process
pytestmark = [pytest.mark.slow, pytest.mark.command]


STARTED = """
import runpy

def get_config(arg):
    config = runpy.run_path("{base}")["get_config"]("small")
    config.init_from = dict(image=dict(path="{run}"))
    return config
"""


@pytest.fixture(scope="module")
def in_bucket(command, store):
    return Command({**command.environment, **store})


def step_folder(run, step):
    return run / "checkpoints" / str(step)


def seen(run) -> list[int]:
    entries = (run / "checkpoints").iterdir()
    return sorted(int(entry.name) for entry in entries if (entry / MANIFEST).exists())


MOMENTS = {
    "the tokenizer": lambda run: (run / "config.json").exists(),
    "the first object of a checkpoint": lambda run: step_folder(run, 4).files(),
    "a checkpoint that cannot be seen yet": lambda run: (step_folder(run, 8) / "metadata.json").exists(),
    "a checkpoint that can": lambda run: (step_folder(run, 12) / MANIFEST).exists(),
    "the pictures": lambda run: (run / "report" / "curves.png").exists(),
}


def test_killed_again_and_again(in_bucket, undisturbed, run_in_bucket):
    for moment, reached in MOMENTS.items():
        process = in_bucket.start(run_in_bucket)
        until(lambda reached=reached: reached(run_in_bucket), process, pause=PAUSE)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert (run_in_bucket / ".lock").exists(), moment
    in_bucket.run(run_in_bucket)
    assert untimed(run_in_bucket) == untimed(undisturbed)
    assert seen(run_in_bucket) == [20, 24]
    assert sorted(path.name for path in (run_in_bucket / "checkpoints").iterdir()) == ["20", "24"]
    assert not (run_in_bucket / ".lock").exists()
    result, expected = (json.loads((run / "result.json").read_text()) for run in (run_in_bucket, undisturbed))
    assert result == expected
    names = {name.rpartition("/")[2].partition(".")[0] for name in run_in_bucket.files()}
    assert {"curves", "retrieval", "tokenizer", "events", "config", "metrics"} <= names


def test_a_signal_a_second_run_and_reading(in_bucket, undisturbed, run_in_bucket, tmp_path):
    process = in_bucket.start(run_in_bucket, "steps=2000", "evaluation.every=2000", "checkpoint.every=10")
    until(lambda: seen(run_in_bucket), process, pause=PAUSE)
    _, err = in_bucket.run(run_in_bucket, "steps=2000", code=1)
    assert "is in use by another process" in message(err)
    process.send_signal(signal.SIGTERM)
    _, err = ended(process, code=75)
    assert f"saved in {run_in_bucket}" in err
    at = seen(run_in_bucket)[-1]
    assert not (run_in_bucket / ".lock").exists()
    found = reading(in_bucket, "eval", "--workdir", run_in_bucket, "--evaluator", "scripts")
    assert found["step"] == at
    (tmp_path / "config.py").write_text(STARTED.format(base=CONFIGS / "glyphs.py", run=run_in_bucket))
    config = os.path.relpath(tmp_path / "config.py", CONFIGS)
    _, err = in_bucket.run(tmp_path / "other", "steps=1", "evaluation.every=1", config=config)
    assert f"from {run_in_bucket}, step {at}" in err
    assert not list(tmp_path.parent.rglob("s3:"))


def reading(command, *arguments):
    program = Path(sys.executable).with_name("contrastive-jax")
    line = [program, *map(str, arguments), "--json"]
    done = subprocess.run(line, env=command.environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def two(command, workdir, *overrides):
    """Two processes of one run, each with a device."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    return [
        command.start(
            workdir, *overrides, more=["--coordinator", place, "--processes", "2", "--process-id", str(index)]
        )
        for index in range(2)
    ]


def test_two_processes_one_of_them_killed(in_bucket, run_in_bucket, tmp_path):
    for process in two(in_bucket, tmp_path / "run"):
        ended(process)
    first, second = two(in_bucket, run_in_bucket, "processes.lost_seconds=10")
    until(lambda: step_folder(run_in_bucket, 12).files(), first, pause=PAUSE)
    second.kill()
    second.communicate()
    _, err = ended(first, code=1)
    assert "gave no sign of life" in message(err)
    for process in two(in_bucket, run_in_bucket):
        ended(process)
    assert untimed(run_in_bucket) == untimed(tmp_path / "run")


def test_what_is_wrong_with_a_bucket(in_bucket, run_in_bucket, tmp_path):
    _, err = in_bucket.run("s3://nosuchbucket/run", code=2)
    assert "--workdir s3://nosuchbucket/run cannot be used: The specified bucket does not exist" in message(
        err
    )
    dead = Command({**in_bucket.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    _, err = dead.run(run_in_bucket, code=1)
    assert "EndpointConnectionError" in message(err)
    without = {k: v for k, v in in_bucket.environment.items() if not k.startswith("AWS_")}
    nobody = Command({**without, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)})
    _, err = nobody.run(run_in_bucket, code=1)
    assert f"{run_in_bucket}/config.json: NoCredentialsError" in message(err)
    assert not run_in_bucket.exists()
