"""How processes find each other: here in threads, with real connections."""

import contextlib
import logging
import socket
import threading
import time

import pytest

from contrastive_jax.distributed.lobby import meet
from contrastive_jax.distributed.place import Place
from contrastive_jax.errors import CommandError, InputError


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def come(port, *places, seconds=20.0, host="localhost"):
    """What came of each of some (index, count) that come at once: None, or what it raised."""
    ends = {}

    def one(number, index, count):
        try:
            meet(Place(f"{host}:{port}", count, index), seconds)
            ends[number] = None
        except (CommandError, InputError) as error:
            ends[number] = error

    threads = [threading.Thread(target=one, args=(number, *place)) for number, place in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ends[number] for number in range(len(places))]


@contextlib.contextmanager
def held(port, seconds):
    """Another process's server at the port, which goes after a while."""
    server = socket.create_server(("127.0.0.1", port))
    timer = threading.Timer(seconds, server.close)
    timer.start()
    yield
    timer.join()
    server.close()


def test_all_come_in_any_order(port):
    assert come(port, (2, 4), (0, 4), (3, 4), (1, 4)) == [None] * 4


def test_who_is_missing_is_named_by_all_that_have_come(port):
    found = come(port, (0, 4), (2, 4), seconds=1.5)
    assert [type(error) for error in found] == [CommandError] * 2
    for error in found:
        assert "not all processes have come within 2 s: processes 1, 3 of 4 are missing" in str(error)
        assert "raise config.processes.connect_seconds" in str(error)


@pytest.mark.parametrize(
    ("host", "reason"), [("localhost", "Connection refused"), ("no-such-host.invalid", "")]
)
def test_without_process_0(port, host, reason):
    """A name may come late, where pods start: it is asked for again until the time is over."""
    begun = time.monotonic()
    (error,) = come(port, (1, 2), seconds=1.0, host=host)
    assert isinstance(error, CommandError)
    assert f"--coordinator {host}:{port} does not answer in 1 s ({reason}" in str(error)
    assert "raise config.processes.connect_seconds" in str(error)
    assert time.monotonic() - begun >= 1


def test_a_port_that_is_held_for_a_while(port, caplog):
    with caplog.at_level(logging.WARNING), held(port, 1.0):
        assert come(port, (0, 2), (1, 2)) == [None, None]
    assert f"another process holds port {port}: waiting until it is free" in caplog.text


def test_a_port_that_is_held_for_ever(port):
    with held(port, 2.5):
        first, second = come(port, (0, 2), (1, 2), seconds=1.0)
    assert isinstance(first, CommandError)
    assert f"another process has held port {port} for 1 s" in str(first)
    assert isinstance(second, CommandError)


def test_a_port_that_is_shared_is_held(port):
    """As the runtime of an earlier run has it: a second one would get half of its connections."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("", port))
        server.listen()
        (error,) = come(port, (0, 2), seconds=0.5)
    assert isinstance(error, CommandError)


def test_two_with_one_number(port):
    found = come(port, (0, 3), (1, 3), (1, 3))
    assert [type(error) for error in found] == [InputError] * 3
    assert all("two processes have come with --process-id 1" in str(error) for error in found)


def test_other_numbers_of_processes(port):
    found = come(port, (0, 2), (1, 3))
    assert [type(error) for error in found] == [InputError] * 2
    assert all("--processes is 2 in process 0 and 3 in process 1" in str(error) for error in found)


def test_one_that_is_started_again_takes_its_own_place(port):
    with socket.create_server(("127.0.0.1", 0)):
        thread = threading.Thread(target=lambda: ends.extend(come(port, (0, 3))))
        ends = []
        thread.start()
        with connected(port) as first:
            first.sendall(b'{"process": 1, "processes": 3, "host": "a"}\n')
            assert b"missing" in first.recv(1000)
        assert come(port, (1, 3), (2, 3)) == [None, None]
        thread.join()
    assert ends == [None]


def test_strangers_are_not_counted(port):
    """Whoever looks whether a port is open, or speaks something else."""
    ends = []
    thread = threading.Thread(target=lambda: ends.extend(come(port, (0, 2), seconds=20)))
    thread.start()
    for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b'{"process": "x"}\n', b"[]\n", b"\xff\n", b"x" * 9000):
        with connected(port) as stranger:
            stranger.sendall(words)
            if words:
                with contextlib.suppress(ConnectionError):
                    assert not stranger.recv(1000)
    assert come(port, (1, 2)) == [None]
    thread.join()
    assert ends == [None]


def test_a_signal_ends_the_wait(port):
    def stop():
        raise KeyboardInterrupt

    for index in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            meet(Place(f"localhost:{port}", 2, index), 20, stop)


def connected(port):
    end = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("localhost", port), timeout=10)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.02)
