"""The worked example of docs/losses.md: the loss, its test and its config, run as they stand on the page."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from contrastive_jax import losses
from contrastive_jax.configuration import build, load
from contrastive_jax.training.experiment import Config, Experiment

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "losses.md").read_text(), re.DOTALL)
FIRST, LOSS, TEST, CONFIG = BLOCKS


@pytest.fixture
def y_aware(tmp_path, monkeypatch):
    """The page's files where it says that they stand, in a folder that the package looks into as well."""
    (tmp_path / "y_aware.py").write_text(LOSS)
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    module = importlib.import_module("contrastive_jax.losses.y_aware")
    monkeypatch.setitem(losses.KINDS, "y_aware", module.YAware)
    yield module
    del sys.modules["contrastive_jax.losses.y_aware"], losses.y_aware


def test_it_is_sixty_lines():
    assert sum(len([line for line in block.splitlines() if line]) for block in (LOSS, TEST, CONFIG)) <= 60


def test_the_first_lines():
    names = {"images": jnp.eye(4), "texts": jnp.eye(4)}
    exec(FIRST, names)
    assert names["loss"].value < 1e-4


def test_the_test(y_aware):
    names = {}
    exec(TEST, names)
    names["test_equals_the_definition"]()


def test_the_config(y_aware, tmp_path):
    shutil.copy(ROOT / "configs" / "glyphs.py", tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)
    config = build(load(f"{tmp_path}/config.py:small", [("losses.near.width", "3")], Config), Config)
    experiment = Experiment(config, jax.devices()[:1])
    assert experiment.fields == ("character",)
    loss = experiment.losses["near"]
    z = {"image": jnp.eye(3), "text": jnp.eye(3)}
    far, near = (loss(loss.init(), z, {"character": jnp.arange(3) * gap}) for gap in (100, 1))
    assert far.metrics["neighbours"] == pytest.approx(1)
    assert near.metrics["neighbours"] > 2
    assert near.value > far.value


def test_it_lists_every_loss():
    """Every function and every kind has its row."""
    page = (ROOT / "docs" / "losses.md").read_text()
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("|")]
    functions, kinds = ({cell.strip(" `") for cell in column} for column in zip(*rows))
    public = {name for name in losses.__all__ if name.islower() and name.isidentifier()}
    assert public <= functions
    assert set(losses.KINDS) <= kinds
