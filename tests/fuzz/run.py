"""Fuzzing: `make fuzz`. Damages files of every kind, configs and command lines, and names what ends badly.

    python tests/fuzz/run.py --seed 1 --minutes 5 [--kind jsonl] [--case FILE] [--keep FOLDER]

A case is a function of the seed and its number. Each fault is told once, by its innermost place, and its case
is kept as a file that `--case` runs again; what is mended moves to tests/fuzz/corpus, which `make test` runs.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import server
import targets

LINES = ("overrides", "arguments")


def drawn(kind: str, seed: int, number: int, seeds: Path) -> dict:
    """The case of a number: {"kind", "command", and what it reads}."""
    rng = random.Random(f"{kind} {seed} {number}")
    if kind == "overrides":
        return {"kind": kind, "command": targets.overrides(rng, seeds), "needs": ["config.py"]}
    if kind == "arguments":
        needs = ["config.py", "run", "pairs.jsonl", "pictures", "e.parquet"]
        return {"kind": kind, "command": targets.argument_lines(rng), "needs": needs}
    target = targets.TARGETS[kind]
    content = target.damage(rng, (seeds / target.file).read_bytes())
    files = {target.file: base64.b64encode(content).decode()}
    return {"kind": kind, "command": target.command, "needs": list(target.needs), "files": files}


def ended(case: dict, seeds: Path) -> server.Ended:
    """What comes of a case."""
    with tempfile.TemporaryDirectory() as folder:
        line = targets.laid_out(case, seeds, Path(folder))
        if line[:1] == ("weights",):
            return server.run(lambda: server.weights(line[1]), folder)
        return server.command(*line, folder=folder)


def main() -> int:
    options = _options()
    server.prepare()
    with tempfile.TemporaryDirectory() as folder:
        seeds = targets.make_seeds(Path(folder) / "seeds")
        if options.case:
            return _again(json.loads(Path(options.case).read_text()), seeds)
        kinds = options.kind or [*targets.TARGETS, *LINES]
        found = _searched(kinds, options.seed, 60 * options.minutes, seeds, Path(options.keep))
    print(f"{len(found)} faults")
    return int(bool(found))


def _searched(kinds: list[str], seed: int, seconds: float, seeds: Path, keep: Path) -> dict[str, str]:
    until, number, found = time.monotonic() + seconds, 0, {}
    while time.monotonic() < until:
        kind = kinds[number % len(kinds)]
        case = drawn(kind, seed, number, seeds)
        wrong = server.verdict(ended(case, seeds))
        if wrong and wrong not in found:
            keep.mkdir(parents=True, exist_ok=True)
            found[wrong] = f"{kind}-{seed}-{number}.json"
            (keep / found[wrong]).write_text(json.dumps(case, indent=1) + "\n")
            print(f"{kind}: {wrong}: {keep / found[wrong]}", flush=True)
        number += 1
    print(f"{number} cases of {len(kinds)} kinds")
    return found


def _again(case: dict, seeds: Path) -> int:
    got = ended(case, seeds)
    print(got.out[-2000:], got.err[-4000:], sep="\n")
    print(server.verdict(got) or f"exit code {got.code}, as it should be")
    return int(bool(server.verdict(got)))


def _options() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--minutes", type=float, default=5.0)
    command.add_argument("--kind", action="append", choices=[*targets.TARGETS, *LINES])
    command.add_argument("--case", help="a file that an earlier run kept")
    command.add_argument("--keep", default="fuzz-faults", help="the folder for the cases of faults")
    return command.parse_args()


if __name__ == "__main__":
    sys.exit(main())
