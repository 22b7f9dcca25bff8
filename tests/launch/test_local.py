"""`launch/local.sh`: how it starts, stops and ends processes; then a real run."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from launchers import LAUNCH, environment, losses, train_arguments, wait_until

# Notes its arguments, says that it listens, and ends as the environment says.
PROGRAM = """#!/bin/bash
index="${@: -1}"
echo "$@" > "$NOTES/arguments.$index"
trap 'echo TERM >> "$NOTES/signals.$index"; [[ $ON_TERM == ignore ]] || exit "$ON_TERM"' TERM
: > "$NOTES/listens.$index"
[[ $index == 1 && -n ${SECOND_ENDS:-} ]] && exit "$SECOND_ENDS"
[[ -n ${ALL_END:-} ]] && exit "$ALL_END"
while true; do sleep 0.05; done
"""


@pytest.fixture
def launch(stand_in, tmp_path):
    """Starts local.sh with two stand-ins that listen: the process."""
    environment = {**stand_in("contrastive-jax", PROGRAM), "NOTES": str(tmp_path), "ON_TERM": "75"}
    started = []

    def start(*arguments, **variables):
        started.append(
            subprocess.Popen(
                [LAUNCH / "local.sh", *arguments],
                env={**environment, **variables},
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(*files):
    end = time.monotonic() + 30
    while not all(file.exists() for file in files):
        assert time.monotonic() < end, f"no {files}"
        time.sleep(0.02)


def test_each_process_is_told_its_place(launch, tmp_path):
    assert launch("2", "--config", "c.py:x", "--workdir", "a folder", ALL_END="0").wait(30) == 0
    first, second = ((tmp_path / f"arguments.{index}").read_text().split() for index in (0, 1))
    assert first[:7] == ["train", "--config", "c.py:x", "--workdir", "a", "folder", "--coordinator"]
    host, port = first[7].split(":")
    assert host == "127.0.0.1"
    assert 1024 < int(port) < 32768
    assert first[8:] == ["--processes", "2", "--process-id", "0"]
    assert second == [*first[:-1], "1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_every_process_with_75(launch, tmp_path, number):
    process = launch("2")
    wait_for(tmp_path / "listens.0", tmp_path / "listens.1")
    process.send_signal(number)
    assert process.wait(30) == 75
    assert [(tmp_path / f"signals.{index}").read_text() for index in (0, 1)] == ["TERM\n"] * 2


def test_a_second_interrupt_ends_processes_that_do_not_listen(launch, tmp_path):
    process = launch("2", ON_TERM="ignore")
    wait_for(tmp_path / "listens.0", tmp_path / "listens.1")
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "signals.0", tmp_path / "signals.1")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 137


def test_when_one_fails_the_others_are_given_time_and_then_killed(launch, tmp_path):
    process = launch("2", SECOND_ENDS="3", GRACE_SECONDS="2", ON_TERM="ignore")
    wait_for(tmp_path / "listens.0")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "exit code 3; the others have 2 s" in err
    assert not (tmp_path / "signals.0").exists()


def test_one_that_is_done_before_the_other_is_no_failure(launch, tmp_path):
    process = launch("2", SECOND_ENDS="0", GRACE_SECONDS="0", ON_TERM="0")
    wait_for(tmp_path / "listens.0", tmp_path / "listens.1")
    time.sleep(0.5)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize("wrong", [(), ("0",), ("two",), ("--config", "c.py")])
def test_no_number_of_processes_is_refused(launch, wrong):
    process = launch(*wrong)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert "give the number of processes" in err


def test_a_missing_command_is_named(launch):
    process = launch("2", CONTRASTIVE_JAX="no-such-program")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "no command no-such-program" in err


@pytest.mark.slow
@pytest.mark.command
def test_a_real_run_stops_with_75_and_goes_on_as_if_it_had_not(tmp_path):
    def start(name):
        return subprocess.Popen(
            [LAUNCH / "local.sh", "2", *train_arguments(tmp_path / name, steps=60)],
            env=environment(tmp_path),
            stderr=subprocess.PIPE,
            text=True,
        )

    process = start("run")
    wait_until(lambda: len(losses(tmp_path / "run")) > 4, lambda: process.poll() is None)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    done = len(losses(tmp_path / "run"))
    assert done < 60
    assert (tmp_path / "run" / "checkpoints" / str(done)).is_dir()
    for name in ("run", "undisturbed"):
        process = start(name)
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 61))
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.command
def test_open_mpi_needs_no_launcher(tmp_path):
    if not shutil.which("mpirun"):
        pytest.skip("no mpirun: apt-get install openmpi-bin (Debian)")
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    command += ["--mca", "odls_base_sigkill_timeout", "5", "--mca", "orte_abort_on_non_zero_status", "0"]
    command += ["contrastive-jax", "train", *train_arguments(tmp_path / "run", steps=20)]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Gloo] Rank 1" in done.stdout + done.stderr
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 21))
