#!/usr/bin/env python3
"""Stands in for gcloud: a slice of two hosts, which are folders; what is done to it is noted in a file.

A host runs what it is sent in its own home folder. The file `states` gives what a request of the slice says
of itself, a word a question: that of the slice once the request is ACTIVE, as in ACTIVE:PREEMPTED.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["STAND_IN"])
HOSTS = [FOLDER / "host0", FOLDER / "host1"]


def state() -> str:
    words = (FOLDER / "states").read_text().split()
    if len(words) > 1:
        (FOLDER / "states").write_text(" ".join(words[1:]))
    return words[0]


def queued(verb: str, arguments: list[str]) -> int:
    alive = FOLDER / "alive"
    if verb == "create":
        if (FOLDER / "refuse").exists() or alive.exists():
            return 1
        alive.write_text("")
        for host in HOSTS:
            host.mkdir(exist_ok=True)
    elif verb == "delete":
        for host in HOSTS:
            shutil.rmtree(host)
        alive.unlink()
    elif not alive.exists():
        return 1
    elif arguments[-1].startswith("--format"):
        (FOLDER / "now").write_text(state())
        print((FOLDER / "now").read_text().partition(":")[0])
    return 0


def slice_of(verb: str, arguments: list[str]) -> int:
    if verb == "describe":
        print((FOLDER / "now").read_text().partition(":")[2] or "READY")
        return 0
    if verb == "scp":
        source, target = arguments[:2]
        for host in HOSTS:
            shutil.copy(source, host / target.partition(":")[2])
        return 0
    command = arguments[-1].removeprefix("--command=")
    running = [
        subprocess.Popen(["bash", "-c", command], cwd=host, env={**os.environ, "HOME": str(host)})
        for host in HOSTS
    ]
    codes = [process.wait() for process in running]
    return next((code for code in codes if code), 0)


def main() -> int:
    noun, verb, *arguments = sys.argv[3:]
    if verb != "describe":
        with open(FOLDER / "done", "a") as file:
            print(noun, verb, *arguments[1:-1] if verb == "ssh" else arguments, file=file)
    return (queued if noun == "queued-resources" else slice_of)(verb, arguments)


if __name__ == "__main__":
    sys.exit(main())
