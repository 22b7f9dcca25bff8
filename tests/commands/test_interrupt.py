"""Ctrl-C while a command imports, computes or ends: quiet, exit code 130."""

import subprocess
import sys

import pytest

BEGIN = """
import atexit, os, signal, sys

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            interrupt()

class Dying:
    def __del__(self):
        interrupt()
        return None

sys.meta_path.insert(0, AtImport())
from contrastive_jax import cli
from contrastive_jax.__main__ import command
{more}
sys.exit(command())
"""
CLI = "from contrastive_jax import cli\n"


def ended(*arguments, name="", more="pass"):
    code = BEGIN.format(name=name, more=more)
    if name == "contrastive_jax.cli":
        code = code.replace(CLI, "")
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "name", ["contrastive_jax.cli", "contrastive_jax.commands.data", "numpy", "contrastive_jax.data.digits"]
)
def test_while_it_imports(name):
    done = ended("data", "inspect", "--source", "digits", name=name)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "more",
    [
        "cli.main = interrupt",
        "cli.main = lambda: Dying() and None",  # Python only reports what a destructor raises
        "cli.main = lambda: [].clear()\natexit.register(interrupt)",
    ],
)
def test_while_it_computes_or_ends(more):
    done = ended(more=more)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "contrastive_jax", "trian"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "did you mean train?" in done.stderr or "'trian'" in done.stderr
