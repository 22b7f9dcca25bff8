"""`launch/slurm.sbatch` on a real SLURM: two tasks, stopped in every way, end as an undisturbed run."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from cluster import Cluster, missing
from launchers import LAUNCH, environment, losses, train_arguments, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.command]
STEPS = 150


@pytest.fixture
def cluster(tmp_path):
    if absent := missing():
        pytest.skip(f"no {', '.join(absent)}: apt-get install slurm-wlm (Debian)")
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder:
        cluster = Cluster(Path(folder))
        cluster.environment = {**environment(tmp_path), **cluster.environment}
        cluster.environment["PATH"] = f"{environment(tmp_path)['PATH']}:/usr/sbin"
        with cluster:
            yield cluster


def submit(cluster, log, *arguments):
    options = ["--parsable", f"--output={log}", "--ntasks-per-node=2"]
    return cluster.run("sbatch", *options, LAUNCH / "slurm.sbatch", *arguments)


def wait(cluster, job, reached):
    """Waits for what a job that goes on must come to."""

    def goes_on():
        state = cluster.job(job)["JobState"]
        assert state in ("PENDING", "CONFIGURING", "RUNNING", "SIGNALING", "COMPLETING", "COMPLETED"), (
            f"{state}: {cluster.logs()}"
        )
        return True

    wait_until(reached, goes_on)


def in_queue_again(cluster, job, times):
    """Waits for the job's requeue, and makes five seconds of the two minutes that SLURM lets it wait.

    In the second of its requeue a job cannot start: SLURM has revoked its credential.
    """

    def requeued():
        found = cluster.job(job)
        return found["JobState"] == "PENDING" and found["Restarts"] == str(times)

    wait(cluster, job, requeued)
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now+5")


def test_a_job_that_is_stopped_and_preempted_ends_as_one_that_is_not(cluster, tmp_path):
    workdir, log = tmp_path / "run", tmp_path / "job.log"
    job = submit(cluster, log, *train_arguments(workdir, STEPS))

    def steps_more():
        before = len(losses(workdir))
        wait(cluster, job, lambda: len(losses(workdir)) > before + 3)

    steps_more()
    cluster.run("scancel", "--signal=TERM", job)  # as SLURM does before the time limit
    in_queue_again(cluster, job, 1)
    steps_more()
    options = ("--parsable", "--partition=urgent", "--ntasks=2", "--output=/dev/null")
    urgent = cluster.run("sbatch", *options, "--wrap=true")
    in_queue_again(cluster, job, 2)
    wait(cluster, urgent, lambda: cluster.job(urgent)["JobState"] == "COMPLETED")
    steps_more()
    cluster.run("scontrol", "requeue", job)
    in_queue_again(cluster, job, 3)
    wait(cluster, job, lambda: cluster.job(job)["JobState"] == "COMPLETED")

    text = log.read_text()
    ends = re.findall(r"srun: error: localhost: tasks? ([-0-9]+): (.*)", text)
    assert {message for _, message in ends} == {"Exited with exit code 75"}, text
    assert sum(2 if tasks == "0-1" else 1 for tasks, _ in ends) == 2 * 3, text
    assert text.count("stopped early: back into the queue") == 2, text  # the third time SLURM did it
    assert json.loads((workdir / "result.json").read_text())["step"] == STEPS
    undisturbed = tmp_path / "undisturbed"
    command = [LAUNCH / "local.sh", "2", *train_arguments(undisturbed, STEPS)]
    subprocess.run(command, env=environment(tmp_path), check=True, capture_output=True, timeout=600)
    assert [step for step, _ in losses(workdir)] == list(range(1, STEPS + 1))
    assert losses(workdir) == losses(undisturbed)


def test_a_cancelled_job_is_saved_and_does_not_come_back(cluster, tmp_path):
    workdir, log = tmp_path / "run", tmp_path / "job.log"
    job = submit(cluster, log, *train_arguments(workdir, STEPS))
    wait(cluster, job, lambda: len(losses(workdir)) > 2)
    cluster.run("scancel", job)
    wait_until(lambda: cluster.job(job)["JobState"] == "CANCELLED", lambda: True)
    assert "back into the queue" not in log.read_text()
    saved = [int(entry.name) for entry in (workdir / "checkpoints").iterdir() if entry.name.isdigit()]
    assert max(saved) == len(losses(workdir))


def test_wrong_input_fails_the_job(cluster, tmp_path):
    job = submit(cluster, tmp_path / "job.log", "--config", "nowhere.py", "--workdir", tmp_path / "run")
    wait_until(lambda: cluster.job(job)["JobState"] == "FAILED", lambda: True)
    assert cluster.job(job)["ExitCode"] == "2:0"
    assert cluster.job(job)["Restarts"] == "0"
