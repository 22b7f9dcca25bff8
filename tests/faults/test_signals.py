"""SIGTERM: the run saves what it has learnt, exits with 75, and leaves nothing running."""

import os
import signal
import time

import pytest
from real_runs import ended, evaluating, gone, lines, steps, until, untimed, workers

pytestmark = [
    pytest.mark.command,
    pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc"),
]
SECONDS = 60  # docs/resuming.md states what it is made of; this is for a machine that is busy otherwise


def save_under_way(workdir, step):
    folder = workdir / "checkpoints"
    return (folder / f".{step}.partial").exists() or (folder / str(step)).exists()


def test_between_two_steps_and_in_an_evaluation(tmp_path, command, undisturbed):
    """To the group, whose workers get it too, and to the process; they are there until the save."""
    workdir, options = tmp_path / "run", ("data.workers=2", "checkpoint.every=100")
    process = command.start(workdir, *options)
    until(lambda: len(lines(workdir)) >= 5, process)
    assert len(workers(process)) == 2
    stop(process, workdir, lambda: os.killpg(process.pid, signal.SIGHUP), "SIGHUP")
    done = len(lines(workdir))
    assert 5 <= done < 12
    assert steps(workdir) == [done]  # not a step is lost

    process = command.start(workdir, *options)
    until(lambda: evaluating(workdir, 12), process)
    stop(process, workdir, lambda: process.send_signal(signal.SIGTERM))
    assert evaluating(workdir, 12)  # given up, to be done again
    assert steps(workdir) == [done, 12]
    command.run(workdir)
    assert untimed(workdir) == untimed(undisturbed)


def stop(process, workdir, send, name="SIGTERM"):
    """Sends the signal, and looks for the workers at the moment when the save begins."""
    began, alive = time.monotonic(), []
    send()

    def saving():
        if save_under_way(workdir, len(lines(workdir))):
            alive.append(len(workers(process)))
        return alive

    until(saving, process, pause=0)
    _, err = ended(process, code=75)
    assert time.monotonic() - began < SECONDS
    assert alive == [2]
    assert f"{name}: saved" in err
    assert gone(process.pid)


@pytest.mark.slow
def test_while_a_batch_does_not_come(tmp_path, command):
    """A worker that is stopped holds the run up; the signal ends the wait, and the state is saved."""
    workdir = tmp_path / "run"
    process = command.start(workdir, "data.workers=2", "steps=400", "checkpoint.every=1000")
    until(lambda: len(lines(workdir)) >= 3, process)
    os.kill(min(workers(process)), signal.SIGSTOP)
    seen = [-1, 0]

    def stalled():
        time.sleep(2)
        seen.append(len(lines(workdir)))
        return seen[-1] == seen[-2]

    until(stalled, process)
    process.send_signal(signal.SIGTERM)
    _, err = ended(process, code=75, timeout=SECONDS)
    assert "SIGTERM: saved" in err
    assert steps(workdir) == [len(lines(workdir))]
    assert gone(process.pid)


@pytest.mark.slow
def test_in_the_middle_of_a_step_out_of_core(tmp_path, command):
    """The step that is under way is given up: the state before it is saved, at once."""
    huge = ("mode=out_of_core", "batch_size=4096", "microbatch=2", "steps=3", "data.sampler.repeat=True")
    process = command.start(tmp_path / "run", *huge)
    until(lambda: lines(tmp_path / "run"), process)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = ended(process, code=75, timeout=5)
    assert "SIGTERM: saved" in err
    assert steps(tmp_path / "run") == [1]
    assert len(lines(tmp_path / "run")) == 1
