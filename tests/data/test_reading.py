import multiprocessing
import os
import threading
import time

import pytest

from contrastive_jax.data.lines import JSONLines
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.reading import Ahead, ReaderFailed
from contrastive_jax.data.samplers import Permutation
from contrastive_jax.data.views import Photo


class Numbers:
    """0, 1, ... up to where it hangs, or raises."""

    def __init__(self, hangs_at=None, raises_at=None):
        self.hangs_at, self.raises_at, self.next, self.closed = hangs_at, raises_at, 0, False
        self.released = threading.Event()

    def __next__(self):
        if self.next == self.hangs_at:
            self.released.wait(20)
        if self.next == self.raises_at:
            raise ValueError("broken")
        self.next += 1
        return self.next - 1

    def close(self):
        self.closed = True


def test_elements_in_order_then_the_error_in_its_place():
    numbers = Numbers(raises_at=3)
    ahead = Ahead(numbers, 2)
    assert [ahead.take(5, lambda: None) for _ in range(3)] == [(0, None), (1, None), (2, None)]
    element, error = ahead.take(5, lambda: None)
    assert element is None
    assert str(error) == "broken"
    assert ahead.close(5)
    assert numbers.closed
    assert isinstance(ahead.take(5, lambda: None)[1], StopIteration)


def test_no_more_is_read_than_fits():
    numbers = Numbers()
    ahead = Ahead(numbers, 2)
    ahead.take(5, lambda: None)
    time.sleep(0.2)
    assert numbers.next <= 4  # one taken, two ready, one in hand
    assert ahead.close(5)


def test_the_wait_for_one_that_hangs_ends():
    numbers = Numbers(hangs_at=1)
    ahead = Ahead(numbers, 1)
    ahead.take(5, lambda: None)
    with pytest.raises(TimeoutError):
        ahead.take(0.2, lambda: None)

    def stop():
        raise KeyError("a signal")

    with pytest.raises(KeyError):
        ahead.take(60, stop)
    assert not ahead.close(0.1)
    numbers.released.set()
    assert ahead.close(5)


@pytest.mark.slow
def test_a_record_that_hangs_in_a_worker_is_named(captions):
    """A pipe that nobody writes to; with both workers gone afterwards."""
    picture = captions.parent / "11.png"
    picture.unlink()
    os.mkfifo(picture)
    source = JSONLines(str(captions))
    sampler = Permutation().bind(source, 40, seed=0)
    made = batches(
        source, sampler, {"image": Photo(resolution=8)}, seed=0, steps=5, workers=2, stall_seconds=20
    )
    with pytest.raises(ReaderFailed) as error:
        next(made)
    told = str(error.value)
    assert "no batch for step 1 in 20 s (config.data.stall_seconds): worker 1 of 2 (process " in told
    assert told.endswith("hangs at record 11")
    pid = int(told.split("(process ")[1].split(")")[0])
    begin = time.monotonic()
    while pid in {child.pid for child in multiprocessing.active_children()}:
        assert time.monotonic() - begin < 5
        time.sleep(0.05)
