import json
import os
import pty
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.errors import InputError
from contrastive_jax.training.writers import MetricsFile, Progress, TensorBoard, _records


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_hold_the_very_numbers_and_null_for_what_json_lacks(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    loss = np.float32(0.1)
    metrics.append(1, {"loss": jnp.float32(0.1), "R@5": 0.25, "count": np.int64(3)})
    metrics.append(2, {"loss": float("nan"), "other": jnp.inf, "name": "é"})
    assert path.read_text().startswith('{"step": 1, ')
    assert lines(path) == [
        {"step": 1, "loss": float(loss), "R@5": 0.25, "count": 3},
        {"step": 2, "loss": None, "other": None, "name": "é"},
    ]
    for wrong, error in [
        ({"step": 2}, ValueError),
        ({"x": [1]}, TypeError),
        ({"x": jnp.ones(2)}, ValueError),
    ]:
        with pytest.raises(error):
            metrics.append(3, wrong)
    assert len(lines(path)) == 2


def test_amend_adds_to_the_last_line_of_the_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    for step in (1, 2, 2, 3):
        metrics.append(step, {"loss": step / 10})
    metrics.amend(2, {"R@1": 0.5})
    metrics.amend(7, {"R@1": 0.75})
    assert [line.get("R@1") for line in lines(path)] == [None, None, 0.5, None, 0.75]
    assert [line["step"] for line in lines(path)] == [1, 2, 2, 3, 7]
    assert path.read_text().count('{"step"') == 5


@pytest.mark.parametrize("torn", ["", '{"step": 4, "lo', '{"step": 4}'])
def test_resuming_drops_later_lines_and_a_torn_one(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.truncate_after(0)
    assert not path.exists()
    for step in (1, 2, 3):
        metrics.append(step, {"loss": step / 3})
    kept = path.read_text().splitlines(keepends=True)[:2]
    with open(path, "a") as file:
        file.write(torn)
    if torn:
        with pytest.raises(ValueError, match="truncate_after"):
            metrics.append(4, {})
    metrics.truncate_after(2)
    assert path.read_text() == "".join(kept)


def test_damage_before_the_last_line_is_told(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match="line 2"):
        MetricsFile(path).truncate_after(3)


def scalars(folder):
    found = []
    for file in sorted(folder.iterdir()):
        for _, event in _records(file.read_bytes()):
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_has_each_step_once_after_a_kill(tmp_path):
    board = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        board.write(step, {"retrieval/text_to_image/R@5": step / 4, "name": "left out"})
    # Killed here: nothing is closed, and the last record is torn.
    (file,) = tmp_path.iterdir()
    with open(file, "ab") as torn:
        torn.write(b"\x20\x00\x00\x00\x00\x00\x00\x00abc")
    for resumed in (1, 2):
        board = TensorBoard(tmp_path, resumed_after=resumed)
        for step in range(resumed + 1, 4):
            board.write(step, {"retrieval/text_to_image/R@5": np.float32(step / 4)})
    board.close()
    tag = "retrieval/text_to_image/R@5"
    assert sorted(scalars(tmp_path)) == [(1, tag, 0.25), (2, tag, 0.5), (3, tag, 0.75)]
    TensorBoard(tmp_path).close()
    assert scalars(tmp_path) == []


def test_progress_is_plain_where_there_is_no_terminal(capsys):
    with Progress(total=100, description="train") as progress:
        for step in range(1, 91):
            progress.update(step, {"loss": 1 / step, "pairs_per_second": 12345.6})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "train: step 1/100, loss 1.0000, 12,346 pairs/s",
        "train: step 90/100, loss 0.0111, 12,346 pairs/s",
    ]


def test_progress_is_a_bar_on_a_terminal():
    code = (
        "from contrastive_jax.training.writers import Progress\n"
        "with Progress(10, 4, 'train') as p:\n"
        "  p.update(10, {'loss': 0.5, 'pairs_per_second': 2000.0})\n"
        "  print('answer')"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.stdout == b"answer\n"
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(r"train .*10/10 loss 0\.5000 2,000 pairs/s 0:00:0", text)
