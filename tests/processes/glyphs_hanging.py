"""The small glyph run, one process of which takes long over something, as $HANGS says: `process:what:step`.

what: step (its code sleeps), lock (it sleeps and keeps the interpreter's lock), checkpoint, evaluation,
compile (these take 20 s and end).
"""

import ctypes
import os
import runpy
import sys
import time
from pathlib import Path

from contrastive_jax.training import advance, checkpoint, loop


def sleep_for_ever():
    while True:
        time.sleep(1)


def keep_the_lock():
    ctypes.PyDLL(None).sleep(1000)


def take_long():
    time.sleep(20)


def get_config(arg: str = ""):
    config = runpy.run_path(str(Path(__file__).with_name("glyphs_unmeasured.py")))["get_config"](arg)
    process, what, step = os.environ["HANGS"].split(":")
    if sys.argv[sys.argv.index("--process-id") + 1] == process:
        hang(what, int(step))
    return config


def hang(what, step):
    if what == "checkpoint":
        before(checkpoint.Checkpoints, "save", take_long, lambda *arguments: arguments[1] == step)
    elif what == "compile":
        before(advance, "_compiled", take_long)
    else:
        make, done = loop.in_core, []

        def in_core(*arguments):
            go = make(*arguments)

            def advance(state):
                done.append(state is None)
                if len(done) == step:
                    {"step": sleep_for_ever, "lock": keep_the_lock}[what]()
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
