"""One process's step never ends: all end with exit code 1 and name it. What is no step may take long."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.command
HANGING = Path(__file__).with_name("glyphs_hanging.py")
STALLED = "--config.processes.stalled_seconds=5"


def end(start, workdir, count, hangs, *arguments):
    variables = {"HANGS": hangs}
    return start(workdir, count, STALLED, *arguments, config=HANGING, variables=variables).end(500)


def test_a_step_that_hangs(start, tmp_path):
    codes, said = end(start, tmp_path / "run", 2, "1:step:4")
    assert codes == [1, 1], said
    for place, text in enumerate(said):
        (line,) = [line for line in text.splitlines() if "has been" in line]
        assert line.startswith(f"contrastive-jax: process {place} of 2: process 1 (")
        assert ") of 2 has been at step 4 for " in line
        assert "(glyphs_hanging.py:" in line
        assert " in sleep_for_ever), the others wait for it; run the same command again" in line
        assert "Traceback" not in text


@pytest.mark.slow
def test_the_step_of_process_0_hangs(start, tmp_path):
    codes, said = end(start, tmp_path / "run", 3, "0:step:4", "--config.batch_size=33")
    assert codes == [1] * 3, said
    assert all("process 0 (" in text and "has been at step 4 for " in text for text in said)


@pytest.mark.slow
def test_code_that_keeps_the_interpreter(start, tmp_path):
    """It cannot say anything itself but where it is."""
    codes, said = end(start, tmp_path / "run", 2, "1:lock:4", "--config.processes.lost_seconds=10")
    assert codes == [1, 1], said
    assert "process 0 of 2: process 1 (" in said[0]
    assert "in keep_the_lock" in said[1]


@pytest.mark.slow
@pytest.mark.parametrize("hangs", ["1:compile:0", "0:checkpoint:8", "1:evaluation:8"])
def test_what_takes_long_and_is_no_step(start, tmp_path, hangs):
    codes, said = end(start, tmp_path / "run", 2, hangs, "--config.steps=12")
    assert codes == [0, 0], said


@pytest.mark.slow
def test_what_one_process_cannot_embed_for_the_report(start, tmp_path):
    """The others would wait for it without end: what is done together is no matter of drawing."""
    config = HANGING.with_name("glyphs_unreported.py")
    codes, said = start(tmp_path / "run", 2, "--config.steps=4", config=config).end()
    assert codes == [1, 1], said
    assert said[0].endswith("contrastive-jax: the store does not answer\n")
    assert "process 0 of 2 ended: the store does not answer" in said[1]
    assert "Traceback" not in "".join(said)
