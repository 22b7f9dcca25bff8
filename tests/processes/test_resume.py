"""A run goes on with other numbers of processes and on other meshes, with the losses of one process."""

import json
import signal

import numpy as np
import pytest
from fleet import lines
from glyphs_unmeasured import GLYPHS
from PIL import Image

pytestmark = pytest.mark.command
LOST = "--config.processes.lost_seconds=10"


def losses(workdir):
    return {line["step"]: (line["loss"], line["gradient_norm"]) for line in lines(workdir)}


def test_four_two_one_and_four_again(start, tmp_path):
    """One of 4 is killed; 4, then 2, then 1 are asked to stop; 4 train to the end."""
    alone, several = tmp_path / "alone", tmp_path / "several"
    assert start(alone, 1).end()[0] == [0]

    first = start(several, 4, LOST)
    first.until_step(5)
    first.running[2].kill()
    codes, said = first.end(timeout=60)
    assert codes == [1, 1, -signal.SIGKILL, 1]
    for index in (0, 1, 3):
        assert f"process {index} of 4: process 2 (" in said[index]
        assert "gave no sign of life for 10 s" in said[index]

    stopped = []
    for count, mesh, step in ((4, "fsdp=2", 7), (2, "fsdp=2", 10), (1, "data=1", 12)):
        axis, _, size = mesh.partition("=")
        part = start(several, count, LOST, f"--config.mesh.{axis}={size}")
        part.until_step(step)
        part.running[count - 1].send_signal(signal.SIGTERM)
        codes, said = part.end(timeout=60)
        assert codes == [75] * count, said
        assert "resuming from step" in said[0]
        assert "saved in" in said[0]
        stopped.append(lines(several)[-1]["step"])
    assert stopped == sorted(stopped)
    codes, said = start(several, 4, LOST, "--config.mesh.tensor=2", "--config.mesh.fsdp=2").end()
    assert codes == [0] * 4, said

    assert [line["step"] for line in lines(several)] == list(range(1, 17))
    for step, wanted in losses(alone).items():
        assert losses(several)[step] == pytest.approx(wanted, rel=1e-5), step
    assert {entry.name for entry in (several / "checkpoints").iterdir()} == {
        entry.name for entry in (alone / "checkpoints").iterdir()
    }


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
