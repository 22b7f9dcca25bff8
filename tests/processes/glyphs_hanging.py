"""The small glyph run, one process of which takes long over something, as $HANGS says: `process:what:step`.

what: step (its code sleeps), lock (it sleeps and keeps the interpreter's lock), checkpoint, evaluation,
compile (these take 20 s and end).
"""

import ctypes
import itertools
import os
import runpy
import sys
import time
from pathlib import Path

from contrastive_jax.training import advance, checkpoint, evaluations, loop


def sleep_for_ever():
    while True:
        time.sleep(1)


def keep_the_lock():
    ctypes.PyDLL(None).sleep(1000)


def take_long():
    time.sleep(20)


def get_config(arg: str = ""):
    base = runpy.run_path(str(Path(__file__).with_name("glyphs_unmeasured.py")))
    config = base["get_config"](arg)
    process, what, step = os.environ["HANGS"].split(":")
    if what == "evaluation":
        config.evaluation = runpy.run_path(str(base["GLYPHS"]))["get_config"]("small").evaluation
        config.evaluation.every = int(step)
    if sys.argv[sys.argv.index("--process-id") + 1] == process:
        hang(what, int(step))
    return config


def hang(what, step):
    if what == "checkpoint":
        before(checkpoint.Checkpoints, "save", take_long, lambda *arguments: arguments[1] == step)
    elif what == "evaluation":
        before(evaluations, "Embedder", take_long)
    elif what == "compile":
        before(advance, "_compiled", take_long)
    else:
        make, hang_now = loop.in_core, {"step": sleep_for_ever, "lock": keep_the_lock}[what]
        steps = itertools.count(1)

        def in_core(*arguments):
            go = make(*arguments)

            def advance(state):
                if next(steps) == step:
                    hang_now()
                return go(state)

            return advance

        loop.in_core = in_core


def before(owner, name, act, when=lambda *arguments: True):
    function = getattr(owner, name)

    def changed(*arguments, **keywords):
        if when(*arguments):
            act()
        return function(*arguments, **keywords)

    setattr(owner, name, changed)
