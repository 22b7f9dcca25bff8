"""Data that breaks under a run: records that cannot be read, readers that hang or die."""

import json
import os
import signal
import socket

import pytest
from PIL import Image
from real_runs import ended, gone, lines, message, steps, until, untimed, workers

from contrastive_jax.data.glyphs import Glyphs

pytestmark = pytest.mark.command
TINY = ("steps=12", "checkpoint.every=4", "encoders.text.depth=1", "logging.tensorboard=False")


@pytest.fixture
def pictures(tmp_path, command, monkeypatch):
    """Makes a folder of 64 captioned pictures, of which some are spoilt, and gives the config for it."""
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", command.environment["CONTRASTIVE_JAX_CACHE"])
    glyphs = Glyphs("held_out", one_per_character=True)
    listing = tmp_path / "captions.jsonl"
    with open(listing, "w") as file:
        for index in range(64):
            Image.fromarray(glyphs[index]["image"]).save(tmp_path / f"{index}.png")
            file.write(json.dumps({"image": f"{index}.png", "text": glyphs[index]["text"]}) + "\n")

    def spoil(*corrupt):
        for index in corrupt:
            (tmp_path / f"{index}.png").write_bytes(b"no picture")
        return dict(config=f"clip.py:small,source=jsonl:{listing}", tiny=TINY)

    return spoil


@pytest.mark.slow
def test_one_corrupt_record_is_counted_and_named(tmp_path, command, pictures):
    _, err = command.run(tmp_path / "run", **pictures(17))
    told = [line for line in err.splitlines() if "another record takes its place" in line]
    assert all("record 17: the picture cannot be decoded" in line for line in told)
    done = lines(tmp_path / "run")
    assert len(done) == 12
    assert sum(line["broken"] for line in done) == len(told) == 3  # 4 batches an epoch: one in each


@pytest.mark.slow
def test_records_that_name_what_is_no_file(tmp_path, command, pictures):
    """A pipe, a device, what is outside: counted, named and replaced, and the run goes on to its end."""
    config = pictures()
    for index in (3, 17):
        (tmp_path / f"{index}.png").unlink()
    os.mkfifo(tmp_path / "17.png")
    (tmp_path / "3.png").symlink_to("/dev/zero")
    listing = tmp_path / "captions.jsonl"
    listing.write_text(listing.read_text().replace('"40.png"', '"/etc/passwd"'))
    _, err = command.run(tmp_path / "run", "data.stall_seconds=60", **config)
    told = [line for line in err.splitlines() if "another record takes its place" in line]
    for words in ("'17.png' is a pipe", "'3.png' is a device", "'/etc/passwd' is an absolute path"):
        assert any(words in line for line in told)
    assert sum(line["broken"] for line in lines(tmp_path / "run")) == len(told)


@pytest.mark.slow
def test_a_source_of_which_a_third_is_corrupt(tmp_path, command, pictures):
    """The run stops and loses nothing of what it has learnt, if it has come to a step at all."""
    workdir = tmp_path / "run"
    _, err = command.run(workdir, code=2, **pictures(*range(0, 64, 3)))
    assert "records cannot be read, more than data.broken_share=0.01 allows" in message(err)
    done = len(lines(workdir))
    assert steps(workdir) == [done] * bool(done)


@pytest.mark.slow
def test_such_a_source_at_a_share_that_allows_it(tmp_path, command, pictures):
    """The same records take the places of the broken ones, whatever the workers, also after a kill."""
    config, straight, killed = pictures(*range(0, 64, 3)), tmp_path / "straight", tmp_path / "killed"
    command.run(straight, "data.broken_share=0.5", **config)
    done = lines(straight)
    assert len(done) == 12
    assert sum(line["broken"] for line in done) >= 0.3 * 12 * 16
    process = command.start(killed, "data.broken_share=0.5", **config)
    until(lambda: 4 in steps(killed), process)
    process.kill()
    process.communicate()
    command.run(killed, "data.broken_share=0.5", "data.workers=2", **config)
    assert untimed(killed) == untimed(straight)


@pytest.mark.slow
def test_data_that_change_while_the_run_is_down(tmp_path, command, pictures):
    """Lines that are gone, more of them, or others of the same length: refused, until they are put back."""
    config, straight, killed = pictures(), tmp_path / "straight", tmp_path / "killed"
    command.run(straight, **config)
    process = command.start(killed, **config)
    until(lambda: 4 in steps(killed), process)
    process.kill()
    process.communicate()
    listing = tmp_path / "captions.jsonl"
    text = listing.read_text()
    for other, words in {
        text[: text.rindex("{")]: "63 records now, 64 then; captions.jsonl: ",
        text + text.splitlines()[0]: "65 records now, 64 then; captions.jsonl: ",
        text.replace('"1.png"', '"2.png"'): "captions.jsonl has the same size and another content",
    }.items():
        listing.write_text(other)
        done = steps(killed)
        _, err = command.run(killed, code=2, **config)
        assert "config.data.source: the data are not those that" in message(err)
        assert words in message(err)
        assert steps(killed) == done
    listing.write_text(text)
    command.run(killed, **config)
    assert untimed(killed) == untimed(straight)


@pytest.mark.slow
def test_an_evaluation_that_fails_and_a_picture_that_cannot_be_drawn(tmp_path, command, pictures):
    """The step is saved before the run ends, and once the record is mended it goes on from there."""
    config, workdir = pictures(17), tmp_path / "run"
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text((tmp_path / "captions.jsonl").read_text())
    config["config"] += f",held_out=jsonl:{held_out}"
    config["tiny"] += ("evaluation.every=6", "evaluation.batch_size=32", "data.broken_share=0.5")
    _, err = command.run(workdir, code=2, **config)
    assert "evaluation after step 6: " in message(err)
    assert "record 17" in message(err)
    assert steps(workdir) == [4, 6]
    held_out.write_text(held_out.read_text().replace('"17.png"', '"18.png"'))
    (workdir / "report").write_text("no folder")
    _, err = command.run(workdir, **config)
    assert "resuming from step 6" in err
    for name in ("curves", "retrieval"):
        assert f"report/{name}.png is not drawn: FileExistsError" in err
    figures = [[name for name in line if name.startswith("retrieval/")] for line in lines(workdir)]
    assert [step for step, names in enumerate(figures, 1) if names] == [6, 12]


@pytest.mark.slow
def test_a_record_that_never_comes(tmp_path, command, pictures):
    """A picture at a server that takes the call and never answers, as a dead network drive does."""
    config, workdir = pictures(), tmp_path / "run"
    silent = socket.create_server(("127.0.0.1", 0))
    listing = tmp_path / "captions.jsonl"
    address = f"http://127.0.0.1:{silent.getsockname()[1]}/17.png"
    listing.write_text(listing.read_text().replace('"17.png"', f'"{address}"'))
    source = f"data.source=jsonl:{listing}?allow=http"
    _, err = command.run(workdir, source, "data.stall_seconds=3", "data.prefetch=1", code=1, **config)
    silent.close()
    told = message(err)
    done = len(lines(workdir))
    assert f"no batch for step {done + 1} in 3 s (config.data.stall_seconds): " in told
    assert told.endswith("its reader hangs at record 17")
    assert steps(workdir) == ([done] if done else [])


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was ended by SIGKILL (is the memory full?) before it had the batch for step"),
        pytest.param(signal.SIGSTOP, "does not answer", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_dies_or_stops(tmp_path, command, number, words):
    workdir = tmp_path / "run"
    options = ("steps=600", "checkpoint.every=1000", "data.workers=2", "data.stall_seconds=25")
    process = command.start(workdir, *options)
    until(lambda: len(lines(workdir)) >= 5, process)
    victim = min(workers(process))
    os.kill(victim, number)
    _, err = ended(process, code=1)
    told = message(err, last=False)  # Python tells of the shared memory that a killed process leaves
    assert "source glyphs: " in told
    assert "of 2" in told
    assert words in told
    if number == signal.SIGSTOP:
        assert f"process {victim}" in told
    assert gone(process.pid)
    assert 5 <= len(lines(workdir)) < 600
    assert steps(workdir) == [len(lines(workdir))]  # not a step is lost
