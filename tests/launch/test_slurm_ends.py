"""What `launch/slurm.sbatch` makes of each end of its step; `srun` and SLURM's commands are stand-ins."""

import subprocess

import pytest
from launchers import LAUNCH


@pytest.fixture
def ends(stand_in, tmp_path):
    """Runs the script with a step that ends with a code: (the script's own, whether it is put back)."""
    environment = stand_in("srun", "#!/bin/sh\nexit $CODE\n")
    stand_in("squeue", "#!/bin/sh\necho $STATE\n")
    stand_in("scontrol", '#!/bin/sh\necho "$@" >> "$SLURM_SUBMIT_DIR/done"\n')
    environment |= {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path)}

    def run(code, state="RUNNING"):
        (tmp_path / "done").write_text("")
        variables = {**environment, "CODE": str(code), "STATE": state}
        done = subprocess.run(
            ["bash", LAUNCH / "slurm.sbatch"], env=variables, capture_output=True, text=True
        )
        return done.returncode, (tmp_path / "done").read_text() == "requeue 7\n"

    return run


@pytest.mark.parametrize(
    ("code", "again"), [(0, False), (2, False), (1, True), (134, True), (75, True), (143, True)]
)
def test_wrong_input_alone_does_not_come_back(ends, code, again):
    assert ends(code) == (code, again)


def test_faults_in_a_row_come_back_three_times(ends, tmp_path):
    assert [ends(1)[1] for _ in range(3)] == [True] * 3
    assert ends(75)[1]
    assert [ends(1)[1] for _ in range(5)] == [True] * 3 + [False, True]
    ends(0)
    assert not list(tmp_path.glob(".failures*"))


@pytest.mark.parametrize("code", [1, 75])
def test_a_cancelled_job_stays_so(ends, code):
    assert ends(code, "COMPLETING") == (code, False)
