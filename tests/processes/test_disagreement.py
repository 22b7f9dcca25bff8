"""Processes that do not fit together, or do not come, end at the start: one line, nothing written over.

Exit code 2 where the flags are wrong, 1 where starting again may help.
"""

import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from fleet import free_port, lines

pytestmark = pytest.mark.command
QUICKLY = "--config.processes.connect_seconds=3"


def test_another_config(start, tmp_path):
    codes, said = start(tmp_path / "run", 2, own={1: ["--config.seed=3"]}).end()
    assert codes == [2, 2]
    for text in said:
        assert "config.seed is 0 in process 0 and 3 in process 1: start all processes alike" in text
        assert "Traceback" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_another_version(start, tmp_path):
    """The second process imports a copy of the package that calls itself another version."""
    import contrastive_jax

    package = os.path.dirname(contrastive_jax.__file__)
    other = tmp_path / "other" / "contrastive_jax"
    shutil.copytree(package, other, ignore=shutil.ignore_patterns("__pycache__"))
    text = (other / "__init__.py").read_text()
    assert contrastive_jax.__version__ in text
    (other / "__init__.py").write_text(text.replace(contrastive_jax.__version__, "9.9.9"))
    port = free_port()
    first = start(tmp_path / "run", 2, only=[0], port=port)
    variables = {"PYTHONPATH": str(other.parent)}
    second = start(tmp_path / "run", 2, only=[1], port=port, variables=variables)
    assert (first.end()[0], second.end()[0]) == ([2], [2])


@pytest.mark.slow
def test_other_data(start, tmp_path):
    """Two hosts that see one work directory, and each its own copy of the data set."""
    clip, port, running = Path(__file__).parents[2] / "configs" / "clip.py", free_port(), []
    (tmp_path / "run").mkdir()
    for index, (host, count) in enumerate({"a": 40, "b": 30}.items()):
        (tmp_path / host).mkdir()
        (tmp_path / host / "run").symlink_to(tmp_path / "run")
        rows = [json.dumps({"image": "0.png", "text": f"caption {n}"}) for n in range(count)]
        (tmp_path / host / "captions.jsonl").write_text("\n".join(rows) + "\n")
        config = f"{clip}:small,source=jsonl:captions.jsonl"
        running.append(start(tmp_path / host / "run", 2, config=config, only=[index], port=port))
    for processes in running:
        codes, said = processes.end()
        assert codes == [2]
        assert "jsonl:captions.jsonl: 30 records in process 1, 40 in process 0" in said[0]
        assert "all processes need the same data" in said[0]
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_another_folder(start, tmp_path):
    codes, said = start(tmp_path / "run", 2, own={1: ["--workdir", str(tmp_path / "elsewhere")]}).end()
    assert codes == [2, 2]
    assert all("is not the same folder in process 1 as in process 0" in text for text in said)


@pytest.mark.slow
def test_another_number_of_processes(start, tmp_path):
    port = free_port()
    first = start(tmp_path / "run", 2, only=[0], port=port)
    second = start(tmp_path / "run", 3, only=[1], port=port)
    for part in (first, second):
        codes, said = part.end(60)
        assert codes == [2]
        assert said[0].count("\n") == 1
        assert "--processes is 2 in process 0 and 3 in process 1" in said[0]


def test_a_coordinator_that_does_not_answer(start, tmp_path):
    codes, said = start(tmp_path / "run", 2, QUICKLY, only=[1]).end()
    assert codes == [1]
    assert said[0].count("\n") == 1
    assert "does not answer in 3 s" in said[0]
    assert "raise config.processes.connect_seconds" in said[0]


def test_a_process_that_does_not_come(start, tmp_path):
    codes, said = start(tmp_path / "run", 3, QUICKLY, only=[0, 2]).end()
    assert codes == [1, 1]
    for text in said:
        assert text.count("\n") == 1
        assert "not all processes have come within 3 s: process 1 of 3 is missing" in text
        assert "raise config.processes.connect_seconds" in text


@pytest.mark.slow
def test_a_port_in_use(start, tmp_path):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        codes, said = start(tmp_path / "run", 2, QUICKLY, only=[0], port=port).end()
    assert codes == [1]
    assert f"another process has held port {port} for 3 s" in said[0]


@pytest.mark.slow
def test_a_port_that_an_earlier_run_holds_for_a_while(start, tmp_path):
    with socket.create_server(("", 0)) as server:
        part = start(tmp_path / "run", 2, "--config.steps=2", port=server.getsockname()[1])
        assert "waiting until it is free" in part.running[0].stderr.readline()
    codes, said = part.end()
    assert codes == [0, 0], said


@pytest.mark.slow
def test_a_signal_while_others_are_waited_for(start, tmp_path):
    port, listens = free_port(), False
    part = start(tmp_path / "run", 2, only=[0], port=port)
    while not listens:
        time.sleep(0.1)
        with socket.socket() as caller:
            listens = caller.connect_ex(("127.0.0.1", port)) == 0
    part.running[0].terminate()
    codes, said = part.end(30)
    assert codes == [75]
    assert "SIGTERM: not all processes had come" in said[0]


@pytest.mark.slow
def test_the_places_that_open_mpi_gives(start, tmp_path):
    """Without flags: what `mpirun` leaves in the environment of two ranks."""
    both = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911", "OMPI_COMM_WORLD_SIZE": "2"}
    ranks = []
    for rank in ("0", "1"):
        own = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
        ranks.append(start(tmp_path / "run", 1, "--config.steps=2", variables={**both, **own}))
    for part in ranks:
        codes, said = part.end()
        assert codes == [0], said
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]
