import logging
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from contrastive_jax.data.examples import evaluate_view
from contrastive_jax.data.glyphs import Glyphs
from contrastive_jax.data.lines import JSONLines
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.samplers import Groups, Permutation
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.data.views import Glyph, Photo, Text
from contrastive_jax.errors import InputError

FIELDS = ("character", "picture", "picture:1")
CHANGES = dict(
    **dict(jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=0.5, solarise=0.2, cutout=0.3),
    **dict(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.3)),
)


@pytest.fixture(scope="module")
def read():
    source = Glyphs("train")
    views = {
        "a": Glyph(scale=0.1),
        "b": Glyph(member=1),
        "c": Photo(resolution=24, crop=(0.3, 1), ratio=(0.7, 1.4), flip=0.5, randaugment=(2, 9), **CHANGES),
        "text": Text(length=12, span=(0.5, 1), word_dropout=0.1, prompts=("{} a", "b {}")).bind(
            BytePairs(vocabulary=400).train(source.column("text"))
        ),
    }
    sampler = Groups(members=2).bind(source, 24, seed=3)

    def run(**keywords):
        with batches(source, sampler, views, **{"fields": FIELDS, "seed": 3, "steps": 6} | keywords) as made:
            return list(made)

    return run


@pytest.fixture(scope="module")
def plain(read):
    return read()


def equal(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_a_batch_holds_what_was_declared(plain):
    assert len(plain) == 6
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), plain[0])
    assert shapes == {
        "views": {
            "a": ((24, 32, 32, 1), "uint8"),
            "b": ((24, 32, 32, 1), "uint8"),
            "c": ((24, 24, 24, 3), "float32"),
            "text": ((24, 12), "int32"),
        },
        "fields": dict.fromkeys(FIELDS, ((24,), "int32")),
        "broken": ((), "int32"),
    }
    assert all(batch["broken"] == 0 for batch in plain)


def test_views_and_fields_are_of_the_members_drawn():
    source = Glyphs("all")
    views = {"one": Glyph(shift=0), "two": Glyph(shift=0, member=1)}
    sampler = Groups(members=2).bind(source, 16, seed=0)
    with batches(source, sampler, views, fields=FIELDS, seed=0, start=4, steps=5) as made:
        (batch,) = made
    for row, (one, two) in enumerate(sampler(4)):
        assert np.array_equal(batch["views"]["one"][row, :, :, 0], source[one]["image"])
        assert np.array_equal(batch["views"]["two"][row, :, :, 0], source[two]["image"])
        assert batch["fields"]["character"][row] == source[one]["character"] == source[two]["character"]
        assert batch["fields"]["picture"][row] == source[one]["picture"]
        assert batch["fields"]["picture:1"][row] == source[two]["picture"]


def test_a_resumed_run_reads_the_same(read, plain):
    assert equal(read(start=4), plain[4:])


def test_rows_of_a_process_are_those_of_the_whole_batch(read, plain):
    part = read(rows=slice(8, 16), steps=2)
    assert equal(part[1]["views"], jax.tree.map(lambda leaf: leaf[8:16], plain[1]["views"]))
    assert equal(part[1]["fields"], jax.tree.map(lambda leaf: leaf[8:16], plain[1]["fields"]))


def test_pieces_are_the_batch_and_come_again(read, plain):
    """Pieces of any rows in any order; the second reading is the first; a resumed run starts with a piece."""
    rows = np.random.default_rng(0).permutation(24).reshape(4, 6)
    pieces = read(rows=rows, readings=2, start=3, steps=5)
    assert len(pieces) == 2 * 2 * 4
    for number, piece in enumerate(pieces):
        batch, of = plain[3 + number // 8], rows[number % 4]
        for part in ("views", "fields"):
            assert equal(piece[part], jax.tree.map(lambda leaf, of=of: leaf[of], batch[part]))


def test_workers_change_nothing(read, plain):
    assert equal(read(workers=2), plain)


def test_steps_rows_views_and_seeds_draw_differently(plain, read):
    assert not equal(plain[0]["views"], plain[1]["views"])
    assert not equal(plain[0]["views"], read(seed=4, steps=1)[0]["views"])


def test_evaluation_is_in_order_and_without_randomness():
    source = Glyphs("held_out", one_per_character=True)
    array = evaluate_view(source, Glyph(shift=5), [4, 2, 4])
    assert array.shape == (3, 32, 32, 1)
    assert np.array_equal(array[1, :, :, 0], source[2]["image"])
    assert np.array_equal(array[0], array[2])
    assert evaluate_view(source, Glyph(), []).shape == (0, 32, 32, 1)


def test_broken_records_are_counted_named_and_replaced(captions, caplog):
    source = JSONLines(str(captions))
    sampler = Permutation().bind(source, 10, seed=0)
    views = {"image": Photo(resolution=8)}
    with (
        caplog.at_level(logging.WARNING),
        batches(source, sampler, views, fields=("record",), seed=0, steps=8) as made,
    ):
        seen = list(made)
    assert sum(batch["broken"] for batch in seen) >= 4
    records = np.stack([batch["fields"]["record"] for batch in seen])
    whole = np.stack([sampler(step)[:, 0] for step in range(9)])
    bad = np.isin(whole, [7, 30])
    assert not np.isin(records, [7, 30]).any()
    assert np.array_equal(records[~bad[:8]], whole[:8][~bad[:8]])
    assert bad[:8].sum() == 4
    for step, row in np.argwhere(bad[:8]):
        if not bad[step + 1, row]:
            assert records[step, row] == whole[step + 1, row]
    messages = [record.getMessage() for record in caplog.records]
    assert any("record 30: line 31: not JSON" in message for message in messages)
    assert any("record 7: the picture cannot be decoded" in message for message in messages)
    # Colours tell that picture and record belong together.
    assert (seen[0]["views"]["image"][:, 0, 0, 0] == seen[0]["fields"]["record"]).all()


def test_a_second_reading_meets_the_same_broken_records(captions, caplog):
    source = JSONLines(str(captions))
    sampler = Permutation().bind(source, 40, seed=0)
    rows = np.arange(40).reshape(4, 10)
    views = {"image": Photo(resolution=8)}
    with caplog.at_level(logging.WARNING):
        options = {"fields": ("record",), "seed": 0, "rows": rows, "readings": 2, "broken_share": 0.0025}
        with batches(source, sampler, views, steps=1, **options) as made:
            seen = list(made)  # two of the 1,000 that are granted, and not four
    assert len(caplog.records) == 2
    assert sum(piece["broken"] for piece in seen[:4]) == 2
    assert equal(seen[:4], seen[4:])
    records = np.concatenate([piece["fields"]["record"] for piece in seen[:4]])
    assert np.isin(sampler(0), [7, 30]).sum() == 2
    assert not np.isin(records, [7, 30]).any()


def test_too_many_broken_records_stop_the_run(captions):
    source = JSONLines(str(captions))
    sampler = Permutation().bind(source, 40, seed=0)
    made = batches(source, sampler, {"image": Photo(resolution=8)}, seed=0, steps=50, broken_share=0.01)
    # Two of every forty: 12 is the first sum above a hundredth of the 1,000 that are always granted.
    with pytest.raises(
        InputError, match=r"12 of 240 records cannot be read, more than data.broken_share=0.01"
    ):
        for _ in made:
            pass


def test_a_source_that_is_all_broken_stops_at_once(captions):
    for number in range(40):
        (captions.parent / f"{number}.png").unlink()
    source = JSONLines(str(captions))
    sampler = Permutation().bind(source, 4, seed=0)
    with pytest.raises(InputError, match="cannot be read, one after another"):
        next(batches(source, sampler, {"image": Photo(resolution=8)}, seed=0, steps=5, broken_share=0.5))
    with pytest.raises(BrokenRecord, match="record 3: line 4: cannot read"):
        evaluate_view(source, Photo(resolution=8), [3])


def test_wrong_fields_and_members_are_named():
    source = Glyphs("train")
    sampler = Permutation().bind(source, 4, seed=0)
    with pytest.raises(InputError, match="view 'b': member=1, but the sampler draws 1"):
        batches(source, sampler, {"b": Glyph(member=1)}, seed=0, steps=1)
    for field in ("colour", "picture:1", "image"):
        with pytest.raises(InputError, match=f"batch field '{field}'"):
            next(batches(source, sampler, {"a": Glyph()}, fields=(field,), seed=0, steps=1))


def test_equal_texts_are_equal_labels():
    source = Glyphs("train")
    sampler = Permutation().bind(source, 64, seed=0)
    fields = next(batches(source, sampler, {"a": Glyph()}, fields=("script", "record"), seed=0, steps=1))[
        "fields"
    ]
    scripts = np.array([source[int(number)]["script"] for number in fields["record"]])
    same = fields["script"][:, None] == fields["script"][None, :]
    assert np.array_equal(same, scripts[:, None] == scripts[None, :])
    assert (fields["script"] >= 0).all()
    assert 1 < len(set(scripts)) < 64


def test_close_ends_the_threads():
    source = Glyphs("train")
    made = batches(source, Permutation().bind(source, 64, seed=0), {"a": Glyph()}, seed=0, steps=500)
    next(made)
    begin = time.monotonic()
    made.close()
    while any("grain" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() - begin < 2
        time.sleep(0.01)


PROGRAM = """
import os, signal, sys, time
from contrastive_jax.data import glyphs, pipeline, samplers, views

if __name__ == "__main__":
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append("SIGTERM"))
    source = glyphs.Glyphs("held_out")
    sampler = samplers.Permutation().bind(source, 16, seed=0)
    made = pipeline.batches(source, sampler, {"a": views.Glyph()}, seed=0, steps=40, workers=2)
    print("starting", flush=True)
    next(made)
    print("reading", flush=True)
    sys.stdin.readline()
    count = 1 + sum(1 for _ in made)
    made.close()
    print(count, stopped, flush=True)
"""


def members(group):
    """Processes of a group that still run."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.add(int(entry))
    return found


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "starting\n"
    yield process
    for member in members(process.pid):
        os.kill(member, signal.SIGKILL)
    process.communicate()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="counts processes in /proc")
def test_a_signal_to_the_whole_group_does_not_end_the_workers(program):
    # While the workers come up, and again when they read.
    time.sleep(0.4)
    os.killpg(program.pid, signal.SIGTERM)
    assert program.stdout.readline() == "reading\n"
    os.killpg(program.pid, signal.SIGTERM)
    output, _ = program.communicate("go\n", timeout=20)
    count, stopped = output.split(maxsplit=1)
    assert int(count) == 40
    assert "SIGTERM" in stopped
    assert program.returncode == 0


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="counts processes in /proc")
def test_workers_end_with_a_killed_parent(program):
    assert program.stdout.readline() == "reading\n"
    assert len(members(program.pid)) >= 3
    program.kill()
    begin = time.monotonic()
    while members(program.pid):
        assert time.monotonic() - begin < 5
        time.sleep(0.05)
