"""What stands in the folder of a run and was written by nobody knows whom: one line that names it."""

import json

import pytest

from contrastive_jax.commands.train import _completed
from contrastive_jax.errors import InputError
from contrastive_jax.training.manifest import DamagedCheckpoint
from contrastive_jax.training.origins import config_of
from contrastive_jax.training.stored_json import FIGURES, parsed
from contrastive_jax.training.stored_steps import _described
from contrastive_jax.training.trained import stored_config
from contrastive_jax.training.workdir import finished
from contrastive_jax.training.writers import MetricsFile

NO_OBJECT = ["", "[]", "3", '"x"', "{", "\x00", "[" * 100_000, '{"a": 1' + "0" * 5000 + "}"]
NO_FIGURES = [
    '{"loss": 1}',
    '{"step": "4"}',
    '{"step": -4}',
    '{"step": true}',
    '{"step": 4.5}',
    '{"step": null}',
    '{"step": 1e999}',
    '{"step": 99999999999999999999}',
    '{"step": 4, "loss": NaN}',
    '{"step": 4, "loss": -Infinity}',
    '{"step": 4, "loss": 1' + "0" * 400 + "}",
    '{"step": 4, "loss": [1]}',
    '{"step": 4, "loss": {"a": 1}}',
]


def one_line(error):
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("content", [*NO_OBJECT, *NO_FIGURES])
def test_lines_and_results_that_are_none(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(
        InputError, match=r"result\.json .*: delete it and run the same command again"
    ) as error:
        finished(tmp_path)
    one_line(error)
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{content}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2 .*: repair or move the file") as error:
        MetricsFile(tmp_path / "metrics.jsonl").lines()
    one_line(error)


def test_what_is_one(tmp_path):
    stored = {"step": 4, "loss": None, "who": "x", "R@1": 0.5, "collapsed": True, "n": -3}
    assert parsed(json.dumps(stored).encode(), "it", "mend it", FIGURES, flat=True) == stored
    (tmp_path / "result.json").write_text(json.dumps(stored))
    assert finished(tmp_path) == stored


@pytest.mark.parametrize("content", [*NO_OBJECT, '{"data.source": "x"}', '{"a": {"b.c": 1}}'])
def test_configs_that_are_none(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    for read in (stored_config, config_of):
        if content.startswith("{") and read is config_of and "." in content:
            continue
        with pytest.raises(InputError, match=r"config\.json") as error:
            read(tmp_path)
        one_line(error)


def test_what_is_no_config_is_not_completed():
    for stored in ({"data.source": "x"}, {"encoders": {"image": {"kind": ["x"]}}}, {"data": {"order": []}}):
        assert _completed(stored).items() >= {}.items()


@pytest.mark.parametrize(
    "content",
    [
        *NO_OBJECT,
        '{"format": 1, "step": 4, "tree": []}',
        '{"step": 4, "tree": {}, "extra": {}}',
        '{"format": 1, "step": "4", "tree": {}, "extra": {}}',
        '{"format": 1, "step": 4, "tree": {"a": 1}, "extra": {}}',
        '{"format": 1, "step": 4, "tree": {"a": {"shape": [-1], "dtype": "float32"}}, "extra": {}}',
        '{"format": 1, "step": 4, "tree": {"a": {"shape": ["x"], "dtype": "float32"}}, "extra": {}}',
        '{"format": 1, "step": 4, "tree": {"a": {"shape": [1]}}, "extra": {}}',
        '{"format": 1, "step": 4, "tree": {}, "extra": 3}',
    ],
)
def test_forged_metadata_are_a_damaged_checkpoint(content):
    with pytest.raises(DamagedCheckpoint, match=r"metadata\.json") as error:
        _described(content.encode())
    one_line(error)
