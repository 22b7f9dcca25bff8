import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from contrastive_jax.distributed.stopping import StopRequest

LOOP = """
import signal, sys, time
from contrastive_jax.distributed.stopping import StopRequest
if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print(stop.requested, flush=True)
    if "linger" in sys.argv:
        time.sleep(60)
assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
sys.exit(75)
"""


@pytest.fixture
def start():
    processes = []

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_one_signal_is_noted_and_the_handlers_come_back(start, number, send):
    process = start()
    send(process.pid, number)
    assert process.wait(10) == 75
    assert process.stdout.read() == signal.Signals(number).name + "\n"


def test_a_lost_connection_is_nothing_to_a_process_that_ignores_it(start):
    process = start("nohup")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 75
    assert process.stdout.read() == "SIGTERM\n"


def test_a_second_interrupt_ends_at_once(start):
    process = start("linger")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "SIGINT\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT


def test_further_terminations_and_the_first_interrupt_after_them_do_not_end_it(start):
    process = start("linger")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "SIGTERM\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None


def test_another_thread_installs_nothing():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
