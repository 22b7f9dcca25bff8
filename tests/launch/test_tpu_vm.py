"""`launch/tpu_vm.sh`, with a stand-in for gcloud whose hosts are folders here."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launchers import LAUNCH

GCLOUD = Path(__file__).with_name("gcloud.py")
UV = """#!/bin/bash
[[ $1 == venv ]] && mkdir -p venv/bin && ln -sf "$STAND_IN/train" venv/bin/contrastive-jax
exit 0
"""
# Ends with the next word of the host's codes; `wait` is to go on until SIGTERM.
TRAIN = """#!/bin/bash
echo "$PWD" "$@" >> "$STAND_IN/trained"
read -r code rest < "$STAND_IN/codes.${HOME##*/}"
echo "$rest" > "$STAND_IN/codes.${HOME##*/}"
trap 'exit 75' TERM
[[ $code != wait ]] || while true; do sleep 0.05; done
exit "$code"
"""
NOTHING = "#!/bin/bash\n"
PIP = '#!/bin/bash\nmkdir -p ~/.local/bin && ln -sf "$STAND_IN/uv" ~/.local/bin/uv\n'
ARGUMENTS = ["--config", "configs/glyphs.py:small", "--workdir", "/mnt/runs/a b"]


class Slice:
    """The folder of the stand-ins and the launcher's process."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.started: list[subprocess.Popen] = []

    def start(self, codes: str = "0", states: str = "ACTIVE", **variables: str) -> subprocess.Popen:
        for host in ("host0", "host1"):
            (self.folder / f"codes.{host}").write_text(codes + "\n")
        (self.folder / "states").write_text(states)
        process = subprocess.Popen(
            [LAUNCH / "tpu_vm.sh", "glyphs", *ARGUMENTS],
            env={**self.environment, **variables},
            cwd=LAUNCH.parent,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def verbs(self) -> list[str]:
        return [line.split()[1] for line in self.lines("done")]


@pytest.fixture
def tpus(stand_in, tmp_path):
    for name, text in (("sudo", NOTHING), ("mountpoint", NOTHING), ("python3", PIP)):
        stand_in(name, text)
    environment = stand_in("gcloud", f'#!/bin/bash\nexec {sys.executable} {GCLOUD} "$@"\n')
    for name, text in (("train", TRAIN), ("uv", UV)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    settings = dict(TPU_ZONE="z", TPU_TYPE="v5litepod-16", TPU_RUNTIME="r", TPU_SHARE="10.0.0.2:/runs")
    environment |= dict(settings, POLL_SECONDS="0.1", STAND_IN=str(tmp_path), TPU_FLAGS="--spot")
    slice_ = Slice(tmp_path, environment)
    yield slice_
    slice_.end()


def test_from_no_slice_to_a_finished_run_and_no_slice(tpus):
    process = tpus.start(states="WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert tpus.verbs() == ["create", "scp", "ssh", "ssh", "delete"]
    flags = "--zone=z --node-id=glyphs --accelerator-type=v5litepod-16 --runtime-version=r --spot"
    assert tpus.lines("done")[0] == f"queued-resources create glyphs {flags}"
    assert sorted(tpus.lines("trained")) == [
        f"{tpus.folder}/{host}/contrastive-jax train {' '.join(ARGUMENTS)}" for host in ("host0", "host1")
    ]


def test_a_run_that_stopped_early_goes_on(tpus):
    process = tpus.start(codes="75 75 0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(tpus.lines("trained")) == 2 * 3
    assert tpus.verbs().count("create") == 1
    assert tpus.verbs()[-1] == "delete"


def test_a_preempted_slice_is_asked_for_again(tpus):
    """The hosts go in the middle of training: the others fail, and the slice says what happened."""
    process = tpus.start(codes="1 0", states="ACTIVE" + 3 * " ACTIVE:PREEMPTED" + " ACTIVE")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert tpus.verbs() == 2 * ["create", "scp", "ssh", "ssh", "delete"]


@pytest.mark.parametrize(("codes", "times"), [("2 0", 1), ("1 1 1 1 0", 4), ("1 1 1 75 1 1 1 1 0", 8)])
def test_a_failure_of_the_run_itself_keeps_the_slice(tpus, codes, times):
    """Wrong input at once, a fault at the fourth in a row."""
    process = tpus.start(codes=codes)
    _, err = process.communicate(timeout=60)
    assert process.returncode == int(codes[0])
    assert "delete" not in tpus.verbs()
    assert "gcloud compute tpus queued-resources delete glyphs --zone=z --force" in err
    assert len(tpus.lines("trained")) == 2 * times


def test_a_fault_that_does_not_come_again(tpus):
    process = tpus.start(codes="1 134 0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_a_request_that_is_refused_or_fails_ends_at_once(tpus):
    (tpus.folder / "refuse").write_text("")
    assert tpus.start().wait(60) == 1
    (tpus.folder / "refuse").unlink()
    assert tpus.start(states="FAILED").wait(60) == 1
    assert tpus.verbs() == ["create", "create"]


def test_sigterm_stops_the_hosts(tpus):
    process = tpus.start(codes="wait wait")
    end = time.monotonic() + 30
    while len(tpus.lines("trained")) < 2:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "delete" not in tpus.verbs()


def test_the_same_command_takes_over_a_run_that_was_left(tpus):
    first = tpus.start(codes="wait 0")
    end = time.monotonic() + 30
    while len(tpus.lines("trained")) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    first.kill()
    process = tpus.start(codes="0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert first.stderr.read() is not None  # its hosts have ended: nobody holds its pipe


@pytest.mark.parametrize("missing", ["TPU_ZONE", "TPU_TYPE", "TPU_RUNTIME", "TPU_SHARE"])
def test_a_variable_that_is_not_set_is_named(tpus, missing):
    process = tpus.start(**{missing: ""})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert missing in err


@pytest.mark.slow
def test_gcloud_has_every_flag():
    if not shutil.which("gcloud"):
        pytest.skip("no gcloud")
    text = (LAUNCH / "tpu_vm.sh").read_text()
    wanted = {
        ("queued-resources", "create"): {"zone", "node-id", "accelerator-type", "runtime-version", "spot"},
        ("queued-resources", "delete"): {"zone", "force"},
        ("queued-resources", "describe"): {"zone"},
        ("tpu-vm", "ssh"): {"zone", "worker", "command"},
        ("tpu-vm", "scp"): {"zone", "worker"},
    }
    used = set(re.findall(r"(?<!\S)--([a-z-]+)(?==| --quiet)", text))
    assert set().union(*wanted.values()) >= used - {"format", "suffix", "files-from", "python"}
    for (noun, verb), flags in wanted.items():
        command = ["gcloud", "compute", "tpus", noun, verb, "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TERM": "dumb"})
        assert all(f"--{flag}" in shown.stdout for flag in flags), (noun, verb)
