"""Real processes of one run on this machine."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

UNMEASURED = Path(__file__).with_name("glyphs_unmeasured.py")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def lines(workdir: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


class Processes:
    """Those of one start of a run; `own` are further arguments of single processes."""

    def __init__(
        self, environment, workdir, count, *arguments, config=UNMEASURED, own=None, only=None, port=None
    ):
        self.workdir, coordinator = Path(workdir), f"127.0.0.1:{port or free_port()}"
        place = ["--coordinator", coordinator, "--processes", str(count)] if count > 1 else []
        command = [sys.executable, "-c", "import sys; from contrastive_jax.cli import main; sys.exit(main())"]
        command += ["train", "--config", str(config), "--workdir", str(workdir), *arguments]
        self.running = []
        for index in range(count) if only is None else only:
            numbered = [*place, "--process-id", str(index)] if place else []
            self.running.append(
                subprocess.Popen(
                    [*command, *numbered, *(own or {}).get(index, [])],
                    env=environment,
                    cwd=self.workdir.parent,  # and not where the package lies, which would go first
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def until_step(self, step: int) -> None:
        """Waits for the line of a step."""
        deadline = time.monotonic() + 240
        while not any(line["step"] >= step for line in lines(self.workdir)):
            assert all(process.poll() is None for process in self.running), self.end()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, timeout=240) -> tuple[list[int], list[str]]:
        """Exit codes, and what each said on standard error."""
        said = [process.communicate(timeout=timeout)[1] for process in self.running]
        return [process.returncode for process in self.running], said
