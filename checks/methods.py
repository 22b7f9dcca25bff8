"""Trains every published method and its ablation, and writes what they reach into docs/methods.md.

    python checks/methods.py                 all of them: hours; go on with the same command
    python checks/methods.py simclr byol     these
    python checks/methods.py --list          what there is to run, and what has been

A config in configs/methods says how it is checked:

    CHECK = {
        "figures": {"kNN accuracy": "knn/accuracy"},       a column: a metric of result.json
        "arms": {"SimCLR": "", "crops only": "ablation=crops"},     a row: arguments of the config
        "seeds": 3,                                        how often each arm is run, 1 if it does not say,
        "once": ("crops only",),                           and arms that one run is enough for
    }

An arm of several runs, one after another, is a tuple of arguments, in which {0} is the work directory of the
first. The method is the first arm. Work directories are runs/methods/METHOD/ARM/SEED; one that has a
result.json is not run again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

from contrastive_jax.configuration import beside

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "methods"
PAGE = ROOT / "docs" / "methods.md"
RUNS = Path("runs") / "methods"


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("methods", nargs="*", help="names of files in configs/methods; all of them if none")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--seeds", type=int, help="at most so many seeds of each")
    options = parser.parse_args()
    checks = {file.stem: beside(str(file), file.name).CHECK for file in sorted(CONFIGS.glob("*.py"))}
    if unknown := [name for name in options.methods if name not in checks]:
        print(f"{unknown[0]!r} is no method; there are: {', '.join(checks)}", file=sys.stderr)
        return 2
    for name in options.methods or checks:
        if options.seeds:
            checks[name] |= {"seeds": min(options.seeds, checks[name].get("seeds", 1))}
        if options.list:
            done, wanted = len(results(name, checks[name])), len(list(runs(name, checks[name])))
            print(f"{name}: {done} of {wanted} runs done")
        elif not check(name, checks[name]):
            return 1
    return 0


def check(name: str, wanted: dict) -> bool:
    """Trains what is missing of a method, then writes its figures; whether all went well."""
    for _, _, steps in runs(name, wanted):
        for folder, arguments, seed in steps:
            if not (folder / "result.json").exists() and not train(name, folder, arguments, seed):
                return False
    write(name, table(wanted, results(name, wanted)))
    return True


def runs(name: str, wanted: dict):
    """(arm, seed, [(work directory, arguments, seed) of each run of it])."""
    for arm, arguments in wanted["arms"].items():
        stages = (arguments,) if isinstance(arguments, str) else arguments
        for seed in range(1 if arm in wanted.get("once", ()) else wanted.get("seeds", 1)):
            folder = RUNS / name / re.sub(r"\W+", "_", arm).strip("_") / str(seed)
            folders = [folder / str(n) if len(stages) > 1 else folder for n in range(len(stages))]
            yield arm, seed, [(f, a.format(*folders), seed) for f, a in zip(folders, stages)]


def train(name: str, folder: Path, arguments: str, seed: int) -> bool:
    spec = str(CONFIGS / f"{name}.py") + (f":{arguments}" if arguments else "")
    command = shutil.which("contrastive-jax", path=str(Path(sys.executable).parent)) or "contrastive-jax"
    start = time.monotonic()
    done = subprocess.run(
        [command, "train", "--config", spec, "--workdir", str(folder), f"--config.seed={seed}"]
    )
    print(f"{folder}: exit code {done.returncode} after {time.monotonic() - start:.0f} s", flush=True)
    return done.returncode == 0


def results(name: str, wanted: dict) -> dict[tuple[str, int], dict]:
    """{(arm, seed): metrics of the last run of it} of those that are done."""
    found = {}
    for arm, seed, steps in runs(name, wanted):
        result = steps[-1][0] / "result.json"
        if result.exists():
            found[arm, seed] = json.loads(result.read_text())
    return found


def table(wanted: dict, found: dict[tuple[str, int], dict]) -> str:
    """A row an arm, the mean and the standard deviation of its seeds."""
    figures = wanted["figures"]
    lines = [f"| | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for arm in wanted["arms"]:
        of_arm = [metrics for (name, _), metrics in found.items() if name == arm]
        cells = [spread([metrics[key] for metrics in of_arm if key in metrics]) for key in figures.values()]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    if not values:
        return "not yet run"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def write(name: str, text: str) -> None:
    """Puts the figures of a method between its two marks on the page."""
    page = PAGE.read_text()
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if begin not in page or end not in page:
        print(f"{PAGE.name} has no place for {name} ({begin.strip()} ... {end}):\n{text}")
        return
    before, _, rest = page.partition(begin)
    PAGE.write_text(f"{before}{begin}{text}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    sys.exit(main())
