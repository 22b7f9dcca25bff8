"""What processes tell each other and how they wait: here in threads, with the real coordination service."""

import logging
import socket
import threading
import time

import pytest
from jax._src.lib import _jax

from contrastive_jax.distributed import coordination, processes
from contrastive_jax.distributed.coordination import ProcessLost
from contrastive_jax.distributed.processes import Group

COUNT = 3


@pytest.fixture(scope="module")
def clients():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    service = _jax.get_distributed_runtime_service(
        address, COUNT, heartbeat_timeout=100, shutdown_timeout=10, recoverable=True
    )
    made = [
        _jax.get_distributed_runtime_client(address, index, init_timeout=60, heartbeat_timeout=100)
        for index in range(COUNT)
    ]
    run_all([client.connect for client in made])
    yield made
    run_all([client.shutdown for client in made])
    service.shutdown()


@pytest.fixture
def meet(clients, monkeypatch, request):
    """Calls act(group) for each of some processes, each in a thread: what it gave or raised."""
    own = threading.local()
    monkeypatch.setattr(processes, "client", lambda: own.client)
    monkeypatch.setattr(coordination, "client", lambda: own.client)

    def call(act, indices=range(COUNT)):
        ends = {}

        def one(index):
            own.client = clients[index]
            group = Group(COUNT, index)
            group._meeting = lambda: f"contrastive_jax/meeting/{request.node.name}"
            try:
                ends[index] = act(group)
            except ProcessLost as error:
                ends[index] = error

        run_all([lambda index=index: one(index) for index in indices])
        return [ends[index] for index in indices]

    return call


def run_all(functions):
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_values_of_all(meet):
    assert (
        meet(lambda group: group.gather({"own": group.index})) == [[{"own": 0}, {"own": 1}, {"own": 2}]] * 3
    )


def test_a_value_of_the_first(meet):
    assert meet(lambda group: group.tell(f"of {group.index}")) == ["of 0"] * 3


def test_without_a_limit_one_that_is_late_is_waited_for_and_named(meet, monkeypatch, caplog):
    """However long the waits are of which the wait is made, and whoever is late, process 0 too."""
    monkeypatch.setattr(coordination, "_SECONDS_OF_A_WAIT", 0.1)
    monkeypatch.setattr(coordination, "_SECONDS_BETWEEN_WORDS", 0.25)
    for late in (2, 0):
        caplog.clear()

        def come(group, late=late):
            if group.index == late:
                time.sleep(1)
            group.barrier(f"place {late}")
            return time.monotonic()

        with caplog.at_level(logging.WARNING):
            ends = meet(come)
        assert max(ends) - min(ends) < 0.5
        said = [record.getMessage() for record in caplog.records]
        assert 1 <= len(said) <= 4, "one process speaks"
        assert said[0] == f"waiting: process {late} of 3 has not reached 'place {late}' for 0 s"


def test_a_limit_names_who_is_missing(meet):
    ends = meet(lambda group: group.barrier("nowhere", 0.3), [0, 2])
    assert [str(end) for end in ends] == ["process 1 of 3 has not reached 'nowhere' for 0 s"] * 2


def test_a_limit_on_what_the_first_tells(meet):
    (end,) = meet(lambda group: group.tell(seconds=0.3), [1])
    assert str(end) == "process 0 of 3 has not been heard of for 0 s"
