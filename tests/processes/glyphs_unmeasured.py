"""The small glyph run without its evaluation, which would take most of the time."""

import runpy
from pathlib import Path

GLYPHS = Path(__file__).parents[2] / "configs" / "glyphs.py"


def get_config(arg: str = ""):
    config = runpy.run_path(str(GLYPHS))["get_config"](f"small,{arg}" if arg else "small")
    config.batch_size, config.steps = 32, 16
    config.checkpoint.every, config.logging.every = 4, 1
    del config.evaluation
    return config
