"""Configs: arguments, overrides, defaults, and one clear line for everything that is wrong."""

from pathlib import Path

import pytest

from contrastive_jax.configuration import arguments, build, complete, load
from contrastive_jax.errors import InputError
from contrastive_jax.training.experiment import Config, Experiment

CONFIGS = Path(__file__).parents[1] / "configs"
GLYPHS = f"{CONFIGS / 'glyphs.py'}"


def test_arguments_are_typed_by_their_defaults():
    got = arguments("size=L/14,res=336,quick", size="B/16", res=224, quick=False, source="glyphs")
    assert got.to_dict() == {"size": "L/14", "res": 336, "quick": True, "source": "glyphs"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sizes=L", r"'sizes' is unknown: did you mean size\?"),
        ("res=big", "config argument res=big: give a whole number"),
        ("res", "'res' needs a value: res=224"),
    ],
)
def test_wrong_arguments(text, message):
    with pytest.raises(InputError, match=message):
        arguments(text, size="B/16", res=224)


def test_overrides_reach_defaults_that_the_file_leaves_out():
    overrides = [
        ("steps", "7"),
        ("microbatch", "32"),
        ("microbatch", "none"),
        ("checkpoint.keep", "None"),
        ("encoders.image.dropout", "0"),
        ("losses.clip.weight", "0.5"),
        ("data.source", "123"),
        ("branches.text.heads", "()"),
        ("evaluation.evaluators.retrieval.at", "(1, 3)"),
    ]
    config = load(GLYPHS, overrides, Config)
    assert (config.steps, config.microbatch, config.checkpoint.keep) == (7, None, None)
    assert isinstance(config.encoders.image.dropout, float)
    assert config.data.source == "123"
    built = build(config, Config)
    assert built.losses["clip"].weight == 0.5
    assert built.branches["text"].heads == ()
    assert built.evaluation.evaluators["retrieval"].at == (1, 3)


def test_an_override_is_of_one_section_alone():
    """Two views are one dictionary in this file."""
    spec = f"{CONFIGS}/methods/simclr.py:data=data"
    views = load(spec, [("data.views.b.flip", "0.25")], Config).data.views
    assert (views.a.flip, views.b.flip) == (0.5, 0.25)


def test_a_kind_may_be_overridden():
    config = load(GLYPHS, [("heads.text.kind", "mlp"), ("heads.text.hidden", "48")], Config)
    assert build(config, Config).heads["text"].hidden == 48


def test_a_resolved_config_is_complete():
    """What config.json holds builds the same run without the file."""
    config = load(GLYPHS, [], Config)
    before = config.to_dict()
    with config.unlocked():
        complete(config, Config)
    assert config.to_dict() == before
    assert "b2" in before["optimizer"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([("stepz", "5")], r"--config.stepz=5: unknown key; did you mean steps\?"),
        ([("optimizer.learning_rat", "5")], r"did you mean optimizer.learning_rate\?"),
        ([("losses.clp.weight", "5")], r"did you mean losses.clip.weight\?"),
        ([("steps", "many")], "--config.steps=many: give a whole number"),
        ([("steps", "1.5")], "--config.steps=1.5: give a whole number"),
        ([("steps", "True")], "--config.steps=True: give a whole number"),
        ([("optimizer.learning_rate", "fast")], "give a number"),
        ([("microbatch", "x")], "--config.microbatch=x: give a whole number or None"),
        ([("losses.clip.kind", "softmx")], r"config.losses.clip.kind='softmx': did you mean softmax\?"),
        ([("branches.text.heads", "1")], "config.branches.text.heads=1: give a list"),
        ([("optimizer", "adam")], r"--config.optimizer=adam: unknown key"),
        ([("losses.clip.symmetric", "perhaps")], "give True or False"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(InputError, match=message):
        load(GLYPHS, overrides, Config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", "a config file defines get_config"),
        ("def get_config(arg):\n return 3", "returned a int, not a ConfigDict"),
        ("def get_config(", "SyntaxError"),
        ("import nothing_like_it", "nothing_like_it"),
        (
            "from ml_collections import ConfigDict\ndef get_config(arg):\n return ConfigDict()",
            "config.steps: missing",
        ),
    ],
)
def test_unusable_files(tmp_path, content, message):
    (tmp_path / "wrong.py").write_text(content)
    with pytest.raises(InputError, match=message):
        load(str(tmp_path / "wrong.py"), [], Config)
    with pytest.raises(InputError, match="no such file"):
        load(str(tmp_path / "absent.py"), [], Config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch_size": "250"}, "config.batch_size=250 does not divide over 8 devices: .* such as 256"),
        ({"microbatch": "5"}, "config.microbatch=5 does not divide the .* examples of a device"),
        ({"steps": "0"}, "config.steps=0: give 1 or more"),
        ({"mesh.fsdp": "3"}, r"config.mesh \(data=-1, fsdp=3, tensor=1\) does not multiply to 8 devices"),
        ({"losses.clip.rows": "picture"}, "config.losses.clip: branch 'picture' is unknown"),
        (
            {"branches.text.encoder": "txt"},
            r"config.branches.text.encoder: 'txt' is unknown; did you mean text\?",
        ),
        ({"branches.text.heads": "('image',)"}, "config.heads.text: no branch uses it"),
        (
            {"encoders.text.vocabulary": "100"},
            "vocabulary=100 is smaller than config.data.tokenizer.vocabulary",
        ),
        ({"data.tokenizer": "None"}, "unknown key"),
        ({"encoders.image.patch": "7"}, "config.encoders.image: patch: 7 does not divide"),
        ({"losses.clip.label_smoothing": "2"}, "config.losses.clip: label_smoothing=2"),
        ({"optimizer.warmup": "3"}, "config.optimizer: warmup=3"),
    ],
)
def test_parts_that_do_not_fit(overrides, message):
    with pytest.raises(InputError, match=message):
        Experiment(build(load(GLYPHS, list(overrides.items()), Config), Config))


def test_a_loss_and_an_evaluator_of_one_name():
    """Their metrics would stand under one name."""
    config = load(GLYPHS, [], Config)
    with config.unlocked():
        config.evaluation.evaluators = {"clip": config.evaluation.evaluators.geometry}
    with pytest.raises(InputError, match=r"evaluators\.clip: a loss is called so too; rename one"):
        Experiment(build(config, Config))
