"""A SLURM of this machine alone: munged, slurmctld and slurmd, with all their files in one folder."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
ReturnToService=2
NodeName=localhost CPUs=2 State=UNKNOWN
PartitionName=spare Nodes=localhost Default=YES PriorityTier=1 GraceTime={grace}
PartitionName=urgent Nodes=localhost PriorityTier=2 PreemptMode=OFF
"""


def missing() -> list[str]:
    """The programs that this needs and the machine has not."""
    places = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in DAEMONS if not shutil.which(name, path=places)]


class Cluster:
    """One node, two CPUs, a partition `spare` whose jobs those of the partition `urgent` requeue.

    Args:
      folder: an empty folder with a short path (a socket's path has 107 characters at most).
      grace: the seconds between the signal of a preemption and its end.
    """

    def __init__(self, folder: Path, grace: int = 60) -> None:
        self.folder = folder
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SLURM")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        text = CONFIG.format(folder=folder, controller=_free_port(), node=_free_port(), grace=grace)
        (folder / "slurm.conf").write_text(text)
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait(timeout=60)

    def run(self, *command: object) -> str:
        """Standard output of a command such as `sbatch`, which must succeed."""
        done = subprocess.run(
            [*map(str, command)], env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        fields = self.run("scontrol", "--oneliner", "show", "job", number).split()
        return dict(field.split("=", 1) for field in fields if "=" in field)

    def logs(self) -> str:
        """The ends of the daemons' logs, for the message of a failure."""
        return "\n".join(
            f"{file.name}: {file.read_text(errors='replace')[-3000:]}" for file in self.folder.glob("*.log")
        )

    def _start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.folder.chmod(0o755)
        files = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        files |= {"seed-file": "munge.seed"}
        paths = [f"--{name}={self.folder / path}" for name, path in files.items()]
        self._daemon("munged", "--foreground", "--force", *paths)
        _wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-N", "localhost")
        _wait(self._idle, "the node", self.logs)

    def _daemon(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.out.log", "wb") as output:
            self._daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=output, stderr=subprocess.STDOUT)
            )

    def _idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=self.environment, capture_output=True, text=True
        )
        return "idle" in done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(ready, name: str, why=lambda: "", seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{name} did not come up in {seconds} s: {why()}"
        time.sleep(0.1)
