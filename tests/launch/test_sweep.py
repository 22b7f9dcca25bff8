"""`launch/sweep.sh`: the runs that it starts, and how it ends, with a launcher that notes its arguments."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launchers import LAUNCH

from contrastive_jax.configuration import build, load
from contrastive_jax.training.experiment import Config

LAUNCHER = """#!/bin/bash
echo "$@" >> "$NOTES"
trap 'exit 75' TERM
[[ -z ${WAIT:-} ]] || while true; do sleep 0.05; done
[[ $* == *"$FAIL_AT"* ]] && exit "$CODE"
exit 0
"""


@pytest.fixture
def sweep(stand_in, tmp_path):
    """Starts the sweep with the launcher; (the process, a function that reads the lines that it noted)."""
    notes = tmp_path / "notes"
    environment = {**stand_in("launcher", LAUNCHER), "NOTES": str(notes), "FAIL_AT": "never", "CODE": "0"}
    started = []

    def start(*arguments, **variables):
        started.append(
            subprocess.Popen(
                [LAUNCH / "sweep.sh", *arguments],
                env={**environment, **variables},
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1], lambda: notes.read_text().splitlines() if notes.exists() else []

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_each_run_has_its_own_folder_and_a_config_that_loads(sweep):
    process, lines = sweep("runs/sweep", "launcher", "4")
    assert process.wait(30) == 0
    assert len(lines()) == len(set(lines())) == 6
    folders = set()
    for line in lines():
        first, *arguments = line.split()
        assert first == "4"
        assert arguments[0] == "--config"
        folders.add(arguments[arguments.index("--workdir") + 1])
        pairs = [re.fullmatch(r"--config\.(.+?)=(.+)", text) for text in arguments]
        overrides = [pair.groups() for pair in pairs if pair]
        assert len(overrides) == 2
        build(load(str(LAUNCH.parent / arguments[1]), overrides, Config), Config)
    assert len(folders) == 6
    assert all(folder.startswith("runs/sweep/") for folder in folders)


def test_a_stop_ends_the_sweep_and_a_failure_does_not(sweep):
    process, lines = sweep("runs", "launcher", FAIL_AT="learning_rate=4e-3,scale=10", CODE="75")
    assert process.wait(30) == 75
    assert len(lines()) == 3
    process, lines = sweep("runs", "launcher", FAIL_AT="learning_rate=2e-3,scale=20", CODE="1")
    assert process.wait(30) == 1
    assert len(lines()) == 3 + 6


def test_sigterm_stops_the_run_under_way(sweep):
    process, lines = sweep("runs", "launcher", WAIT="yes")
    end = time.monotonic() + 30
    while not lines():
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    assert len(lines()) == 1


def test_no_folder_is_refused(sweep):
    process, lines = sweep("--config", "c.py")
    assert process.wait(30) == 2
    assert process.stderr.read().count("\n") == 1
    assert not lines()


@pytest.mark.slow
@pytest.mark.command
def test_real_runs_of_a_shortened_sweep(tmp_path):
    """One point of the grid with the small model, twice; the second time there is nothing to do."""
    text = (LAUNCH / "sweep.sh").read_text()
    text = text.replace("configs/glyphs.py", f"{LAUNCH.parent}/configs/glyphs.py:small")
    text = text.replace("(2e-3 4e-3 8e-3)", "(2e-3)").replace("(10 20)", "(10)")
    script = tmp_path / "sweep.sh"
    script.write_text(text)
    command = Path(sys.executable).with_name("contrastive-jax")
    for _ in range(2):
        done = subprocess.run(
            ["bash", script, tmp_path / "runs", command, "train"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "config.json").read_text())["losses"]["clip"]["scale"] == 10
    assert json.loads((run / "result.json").read_text())["step"] == 24
    assert "is finished" in done.stderr
