"""A run goes on with other numbers of processes and on other meshes, with the losses of one process."""

import json
import signal
import time

import numpy as np
import pytest
from fleet import Processes, lines
from glyphs_unmeasured import GLYPHS
from PIL import Image

pytestmark = pytest.mark.command
LOST = "--config.processes.lost_seconds=10"


def losses(workdir):
    return {line["step"]: (line["loss"], line["gradient_norm"]) for line in lines(workdir)}


@pytest.fixture(scope="module")
def alone(environment, tmp_path_factory):
    """The work directory of one process that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    codes, said = Processes(environment, workdir, 1).end()
    assert codes == [0], said
    return workdir


def stop(part, step, index):
    """Asks one process to stop after a step; all save and say so."""
    part.until_step(step)
    part.running[index].send_signal(signal.SIGTERM)
    codes, said = part.end(timeout=60)
    assert codes == [75] * len(codes), said
    assert "saved in" in said[0]
    return said


def check_equal(several, alone):
    assert [line["step"] for line in lines(several)] == list(range(1, 17))
    for step, wanted in losses(alone).items():
        assert losses(several)[step] == pytest.approx(wanted, rel=1e-5), step
    assert {entry.name for entry in (several / "checkpoints").iterdir()} == {
        entry.name for entry in (alone / "checkpoints").iterdir()
    }


def lose_one(part, index):
    """Kills a process; the others name it and end."""
    part.until_step(5)
    part.running[index].kill()
    codes, said = part.end(timeout=60)
    count = len(codes)
    assert codes == [-signal.SIGKILL if place == index else 1 for place in range(count)], said
    for place in set(range(count)) - {index}:
        assert f"process {place} of {count}: process {index} (" in said[place]
        assert "gave no sign of life for 10 s" in said[place]


@pytest.mark.slow
def test_two_then_four(start, tmp_path, alone):
    """A stop that reaches one of two; four go on, on another mesh."""
    several = tmp_path / "several"
    stop(start(several, 2), 6, 1)
    codes, said = start(several, 4, "--config.mesh.fsdp=2").end()
    assert codes == [0] * 4, said
    assert "resuming from step" in said[0]
    check_equal(several, alone)


def test_one_of_two_is_lost(start, tmp_path):
    lose_one(start(tmp_path / "run", 2, LOST), 1)


@pytest.mark.slow
def test_the_coordinator_goes_last(start, tmp_path):
    """One is killed, and another stands still while process 0 finds out: it names it too, not aborted."""
    part = start(tmp_path / "run", 4, LOST)
    part.until_step(5)
    part.running[1].kill()
    time.sleep(8)  # of the 10 after which process 0 misses it
    part.running[2].send_signal(signal.SIGSTOP)
    time.sleep(6)
    part.running[2].send_signal(signal.SIGCONT)
    codes, said = part.end(timeout=60)
    assert codes == [1, -signal.SIGKILL, 1, 1], said
    for place in (0, 2, 3):
        assert f"process {place} of 4: process 1 (" in said[place]


@pytest.mark.slow
def test_four_two_one_and_four_again(start, tmp_path, alone):
    """One of 4 is killed; 4, then 2, then 1 are asked to stop; 4 train to the end."""
    several = tmp_path / "several"
    lose_one(start(several, 4, LOST), 2)
    for count, axis, size, step in ((4, "fsdp", 2, 7), (2, "fsdp", 2, 10), (1, "data", 1, 12)):
        said = stop(start(several, count, LOST, f"--config.mesh.{axis}={size}"), step, count - 1)
        assert "resuming from step" in said[0]
    codes, said = start(several, 4, LOST, "--config.mesh.tensor=2", "--config.mesh.fsdp=2").end()
    assert codes == [0] * 4, said
    check_equal(several, alone)


@pytest.mark.slow
def test_out_of_core_in_two_processes(start, tmp_path):
    """A stop that comes inside a step is agreed on there, and costs that step alone."""
    alone, several = tmp_path / "alone", tmp_path / "several"
    size = ["--config.mode=out_of_core", "--config.microbatch=4", "--config.steps=4"]
    assert start(alone, 1, *size).end()[0] == [0]
    part = start(several, 2, *size)
    part.until_step(2)
    part.running[0].send_signal(signal.SIGTERM)
    codes, said = part.end(timeout=60)
    assert codes in ([75, 75], [0, 0]), said
    if codes == [75, 75]:
        codes, said = start(several, 2, *size).end()
    assert codes == [0, 0], said
    for step, wanted in losses(alone).items():
        assert losses(several)[step] == pytest.approx(wanted, rel=1e-5), step


@pytest.mark.slow
def test_broken_records_of_all_processes_are_counted(start, tmp_path):
    """...and every process goes on with the same other record."""
    rng = np.random.default_rng(0)
    with open(tmp_path / "captions.jsonl", "w") as file:
        for index in range(48):
            picture = tmp_path / f"{index}.png"
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(picture)
            if index % 5 == 0:
                picture.write_bytes(b"torn")
            file.write(json.dumps({"image": picture.name, "text": f"picture number {index}"}) + "\n")
    config = f"{GLYPHS.parent}/clip.py:small,source=jsonl:{tmp_path}/captions.jsonl"
    found = []
    for count in (1, 2):
        workdir = tmp_path / str(count)
        codes, said = start(
            workdir, count, "--config.steps=3", "--config.data.broken_share=0.5", config=config
        ).end()
        assert codes == [0] * count, said
        found.append([(line["loss"], line["broken"]) for line in lines(workdir)])
    assert sum(broken for _, broken in found[0]) > 0
    assert [broken for _, broken in found[0]] == [broken for _, broken in found[1]]
    assert [loss for loss, _ in found[1]] == pytest.approx([loss for loss, _ in found[0]], rel=1e-5)


@pytest.mark.slow
def test_two_go_on_with_the_order_of_an_old_run(start, tmp_path):
    """Its folder says nothing of an order, and the command does not either."""
    alone, several, first = tmp_path / "alone", tmp_path / "several", "--config.data.order=1"
    assert start(alone, 1, first).end()[0] == [0]
    stop(start(several, 1, first), 5, 0)
    config = json.loads((several / "config.json").read_text())
    assert config["data"].pop("order") == 1
    (several / "config.json").write_text(json.dumps(config))
    codes, said = start(several, 2, "--config.data.order=2").end()
    assert codes == [2, 2]
    assert all("data.order: 2 here, 1 there" in each for each in said)
    codes, said = start(several, 2).end()
    assert codes == [0, 0], said
    check_equal(several, alone)


def test_several_processes_save_by_one_clock(environment, tmp_path):
    """That of the first; every step is late here, and all save the same ones."""
    arguments = "--config.checkpoint.every=0.0001min", "--config.checkpoint.keep=None"
    codes, said = Processes(environment, tmp_path / "run", 2, *arguments).end()
    assert codes == [0, 0], said
    saved = sorted(int(entry.name) for entry in (tmp_path / "run" / "checkpoints").iterdir())
    steps = json.loads((tmp_path / "run" / "config.json").read_text())["steps"]
    assert len(saved) >= steps // 2
    assert saved[-1] == steps
