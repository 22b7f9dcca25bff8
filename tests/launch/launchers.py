"""Where the launchers are, and what the real runs that they start leave behind."""

import json
import os
import sys
import time
from pathlib import Path

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))
CONFIG = f"{LAUNCH.parent}/configs/glyphs.py:small"


def train_arguments(workdir: Path, steps: int) -> list[str]:
    """A run of glyphs that notes every step."""
    return [
        *("--config", CONFIG, "--workdir", str(workdir)),
        *(f"--config.steps={steps}", "--config.batch_size=32"),
        *("--config.logging.every=1", "--config.checkpoint.every=20"),
    ]


def environment(caches: Path) -> dict[str, str]:
    """For a process with one device, which shares the rendered glyphs and compiled programs of others."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CONTRASTIVE_JAX_CACHE": str(caches / "glyphs"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_NUM_CPU_DEVICES": "1",
    }


def losses(workdir: Path) -> list[tuple[int, float]]:
    """Step and loss of each line of the run's metrics, in the order of the file."""
    file = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [(row["step"], row["loss"]) for row in rows]


def wait_until(reached, alive, seconds: float = 300) -> None:
    """Waits for `reached()`; `alive()` raises or is false when that cannot come any more."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not reached in {seconds} s"
        assert alive(), "ended too early"
        time.sleep(0.05)
