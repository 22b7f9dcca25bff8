"""docs/evaluating.md names every kind, and what it shows builds."""

import re
from pathlib import Path

import pytest

from contrastive_jax.configuration import Kind, Named, build, complete
from contrastive_jax.evaluation import KINDS
from contrastive_jax.evaluation.lexical import BASELINES

PAGE = (Path(__file__).parents[2] / "docs" / "evaluating.md").read_text()
BLOCKS = [
    block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if block.startswith("evaluators =")
]


def test_every_kind_and_baseline_is_there():
    assert set(KINDS) <= set(re.findall(r"^## (\w+)$", PAGE, re.M))
    assert set(KINDS) == set(re.findall(r"^\| \[`(\w+)`\]\(#\1\)", PAGE, re.M))
    assert set(BASELINES) <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r'kind="(\w+)"', block)[1])
def test_its_configs_build(block):
    from ml_collections import ConfigDict

    names = {}
    exec(block, names)
    config, schema = ConfigDict(names["evaluators"]), Named(Kind(KINDS))
    complete(config, schema)
    built = build(config, schema)
    assert set(built) == set(names["evaluators"])
    assert all(isinstance(built[name], KINDS[config[name].kind]) for name in built)


def test_it_shows_every_kind():
    assert {kind for block in BLOCKS for kind in re.findall(r'kind="(\w+)"', block)} == set(KINDS)
