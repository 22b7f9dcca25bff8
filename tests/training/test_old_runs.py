"""A run whose folder an earlier version made goes on with the order that it began with."""

import json

import numpy as np
import pytest
from grain.experimental import index_shuffle

from contrastive_jax.commands import train
from contrastive_jax.configuration import build, load
from contrastive_jax.data.glyphs import Glyphs
from contrastive_jax.distributed.processes import ALONE
from contrastive_jax.errors import InputError
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.workdir import open_workdir


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path_factory.getbasetemp() / "glyphs"))


def started(path, *overrides):
    """What `train` makes of the same command, up to the open folder, and a step: the experiment."""
    given = load(
        "configs/glyphs.py:small", [("seed", "4"), ("data.sampler.group", "character"), *overrides], Config
    )
    stored = json.loads(given.to_json())
    config, stored = train._in_order(build(given, Config), stored, path, ALONE)
    experiment = Experiment(config)
    open_workdir(path, stored, completed=train._completed).close()
    (path / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)
    return experiment


def stored(path):
    return json.loads((path / "config.json").read_text())


@pytest.fixture
def old(tmp_path):
    """A folder as it was made before there was a choice of orders."""
    started(tmp_path)
    config = stored(tmp_path)
    del config["data"]["order"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def of_old(step, seed=4, batch=64):
    """The characters of a step, by the numbers that they had."""
    characters = np.unique(Glyphs("train").column("character"))
    epoch, place = divmod(step, len(characters) // batch)
    rows = np.arange(place * batch, (place + 1) * batch).tolist()
    return characters[
        [index_shuffle(r, max_index=len(characters) - 1, seed=seed + epoch, rounds=4) for r in rows]
    ]


def drawn(experiment, step):
    return Glyphs("train").column("character")[experiment.sampler(step)[:, 0]]


def test_an_old_run_goes_on_with_its_order_and_a_new_one_has_another(old, tmp_path_factory):
    new = started(tmp_path_factory.mktemp("new"))
    for overrides in ((), (("logging.every", "7"),), ()):
        experiment = started(old, *overrides)
        for step in (0, 90, 91, 200):
            assert np.array_equal(drawn(experiment, step), of_old(step))
            assert not np.array_equal(drawn(new, step), of_old(step))
    assert stored(old)["data"]["order"] == 1  # it was written anew with the other value of logging.every
    assert stored(old)["logging"]["every"] == 2


def test_a_new_run_keeps_its_order_and_may_ask_for_the_old_one(tmp_path):
    assert started(tmp_path / "a").config.data.order == 2
    assert stored(tmp_path / "a")["data"]["order"] == 2
    assert started(tmp_path / "a").config.data.order == 2
    assert np.array_equal(drawn(started(tmp_path / "b", ("data.order", "1")), 91), of_old(91))
    assert started(tmp_path / "b").config.data.order == 1


def test_another_order_than_the_runs_is_refused_by_name(old, tmp_path_factory):
    with pytest.raises(InputError, match=r"another config \(data\.order: 2 here, 1 there\)"):
        started(old, ("data.order", "2"))
    assert started(old, ("data.order", "1")).config.data.order == 1
    new = tmp_path_factory.mktemp("new")
    started(new)
    with pytest.raises(InputError, match=r"another config \(data\.order: 1 here, 2 there\)"):
        started(new, ("data.order", "1"))
    for order in ("0", "3", "-1"):
        with pytest.raises(InputError, match=f"config.data.order={order}: give 1 or 2, or None"):
            started(new, ("data.order", order))


@pytest.mark.parametrize("content", ["", "[]", '{"data": 3}', '{"data": {"order": []}}'])
def test_a_folder_that_holds_no_config_is_refused_as_ever(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json|another config"):
        started(tmp_path)
