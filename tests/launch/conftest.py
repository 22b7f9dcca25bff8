"""Programs that stand in for the slow ones that the launchers start."""

import os

import pytest


@pytest.fixture
def stand_in(tmp_path):
    """Writes an executable of that name and text; gives the environment with it first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def write(name: str, text: str) -> dict[str, str]:
        program = folder / name
        program.write_text(text)
        program.chmod(0o755)
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    return write
