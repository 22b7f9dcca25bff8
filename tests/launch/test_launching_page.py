"""docs/launching.md: the commands it gives are commands."""

import os
import re
import shlex
import shutil
import subprocess

import pytest
from launchers import LAUNCH

from contrastive_jax import cli
from contrastive_jax.configuration import build, load
from contrastive_jax.training.experiment import Config

PAGE = (LAUNCH.parent / "docs" / "launching.md").read_text()


def commands(start: str) -> list[str]:
    """The lines of the page's bash blocks from `start` on, with continuations joined."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.S)).replace("\\\n", " ")
    return [line[line.index(start) :] for line in blocks.splitlines() if start in line]


def test_the_train_commands_are_understood():
    lines = []
    for start in ("local.sh 2 --", "slurm.sbatch --", "tpu_vm.sh glyphs --", "contrastive-jax train --"):
        assert commands(start), start
        lines += [line[line.index("--") :].split(";")[0] for line in commands(start)]
    for line in lines:
        options = cli.parse(["train", *shlex.split(line)])
        build(load(f"{LAUNCH.parent}/{options.config}", options.overrides, Config), Config)


def test_the_limits_are_those_of_the_config():
    limits = Config.__dataclass_fields__["processes"].default
    assert f"`processes.connect_seconds` ({limits.connect_seconds})" in PAGE
    assert f"`processes.lost_seconds` ({limits.lost_seconds})" in PAGE


def test_every_launcher_is_on_the_page():
    for path in LAUNCH.iterdir():
        assert path.name in PAGE


@pytest.mark.slow
def test_gcloud_has_every_command_and_flag_of_the_page():
    if not shutil.which("gcloud"):
        pytest.skip("no gcloud")
    lines = commands("gcloud ")
    assert len(lines) > 10
    for line in lines:
        words = shlex.split(line, comments=True)
        flags = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--format"}
        verbs = [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
        if verbs[0] in ("auth", "config", "services"):
            verbs = verbs[:2]
        else:
            verbs = verbs[: 3 + (verbs[0] == "compute")] if "config-ssh" not in verbs else verbs[:2]
        done = subprocess.run(
            ["gcloud", *verbs, "--help"], capture_output=True, text=True, env={**os.environ, "TERM": "dumb"}
        )
        assert done.returncode == 0, (verbs, done.stderr)
        shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
        assert not [flag for flag in flags if flag not in shown], (line, flags)
