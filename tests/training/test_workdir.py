import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import threading

import pytest

from contrastive_jax import locking
from contrastive_jax.commands import train
from contrastive_jax.configuration import load
from contrastive_jax.errors import CommandError, InputError
from contrastive_jax.training import workdir
from contrastive_jax.training.experiment import Config
from contrastive_jax.training.workdir import begun, finished, open_workdir, write_json

CONFIG = {
    "steps": 10,
    "optimizer": {"learning_rate": 0.004, "betas": (0.9, 0.98)},
    "data": {"workers": 2, "source": "glyphs"},
    "mesh": {"data": 8},
    "memory": {},
}


def changed(**values):
    """CONFIG with dotted keys (`__` for the dot) set to other values."""
    config = json.loads(json.dumps(CONFIG))
    for name, value in values.items():
        *parents, last = name.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config


def begin(path, config=CONFIG):
    """A folder as a run leaves it after its first checkpoint."""
    open_workdir(path, config).close()
    (path / "checkpoints" / "5").mkdir(parents=True)


def stored(path):
    return json.loads((path / "config.json").read_text())


def test_a_new_folder_gets_the_config_and_opens_again(tmp_path):
    path = tmp_path / "deep" / "run"
    open_workdir(path, CONFIG).close()
    assert stored(path) == json.loads(json.dumps(CONFIG))
    content = (path / "config.json").read_text()
    assert content.index('"data"') < content.index('"memory"') < content.index('"steps"')
    open_workdir(path, CONFIG).close()


def test_a_differing_key_is_refused_by_name_and_nothing_changes(tmp_path):
    begin(tmp_path)
    other = changed(optimizer__learning_rate=0.001, data__source="clip", seed=1, data__workers=0)
    with pytest.raises(InputError) as error:
        open_workdir(tmp_path, other)
    message = str(error.value)
    assert "optimizer.learning_rate: 0.001 here, 0.004 there" in message
    assert 'data.source: "clip" here, "glyphs" there' in message
    assert "seed: 1 here, absent there" in message
    assert "workers" not in message
    assert "\n" not in message
    assert stored(tmp_path)["optimizer"]["learning_rate"] == 0.004


def test_a_config_that_lacks_a_newer_key_goes_on(tmp_path):
    begin(tmp_path)
    with pytest.raises(InputError, match="seed: 0 here, absent there"):
        open_workdir(tmp_path, changed(seed=0))
    open_workdir(tmp_path, changed(seed=0), completed=lambda stored: stored | {"seed": 0}).close()
    with pytest.raises(InputError, match="seed: 1 here, 0 there"):
        open_workdir(tmp_path, changed(seed=1), completed=lambda stored: stored | {"seed": 0})


def test_what_may_differ_is_noted_and_kept(tmp_path, caplog):
    begin(tmp_path)
    with caplog.at_level(logging.INFO):
        open_workdir(tmp_path, changed(data__workers=7, mesh={"data": 4, "fsdp": 2}, microbatch=8)).close()
    assert "data.workers: 7 here, 2 there" in caplog.text
    assert "microbatch" in caplog.text
    assert stored(tmp_path)["data"]["workers"] == 7
    assert stored(tmp_path)["mesh"] == {"data": 4, "fsdp": 2}


def test_more_steps_need_extend_and_fewer_are_refused(tmp_path):
    begin(tmp_path)
    write_json(tmp_path / "result.json", {"step": 10, "loss": 1.5})
    assert finished(tmp_path) == {"step": 10, "loss": 1.5}
    with pytest.raises(InputError, match="--extend"):
        open_workdir(tmp_path, changed(steps=20))
    with pytest.raises(InputError, match="steps: 10, not 5"):
        open_workdir(tmp_path, changed(steps=5), extend=True)
    assert finished(tmp_path) == {"step": 10, "loss": 1.5}
    open_workdir(tmp_path, changed(steps=20), extend=True).close()
    assert stored(tmp_path)["steps"] == 20
    assert finished(tmp_path) is None


@pytest.mark.parametrize("content", ["", '{"steps": 1', "[]", "\x00"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        open_workdir(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_text() == content
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"result\.json"):
        finished(tmp_path)


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in [tmp_path / "file", tmp_path / "file" / "below", "/proc/run"]:
        with pytest.raises(InputError, match="cannot be used"):
            open_workdir(path, CONFIG)
    with pytest.raises(InputError, match=r"file.*no config\.json"):
        open_workdir(tmp_path, CONFIG)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_one_process_at_a_time_and_death_frees_it(tmp_path, monkeypatch):
    """It is a fault: who comes after a restart may find the earlier process on its way out."""
    code = (
        "import sys, time; from contrastive_jax.training.workdir import open_workdir;"
        "w = open_workdir(sys.argv[1], {'steps': 10}); print('open', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "open\n"
        with monkeypatch.context() as patch:
            patch.setattr(locking, "SECONDS_TO_LEAVE", 0.0)
            with pytest.raises(CommandError, match="in use by another process"):
                open_workdir(tmp_path, {"steps": 10})
        threading.Timer(0.5, process.kill).start()
        open_workdir(tmp_path, {"steps": 10}).close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    monkeypatch.setattr(locking, "SECONDS_TO_LEAVE", 0.0)
    with open_workdir(tmp_path, {"steps": 10}), pytest.raises(CommandError, match="in use"):
        open_workdir(tmp_path, {"steps": 10})
    open_workdir(tmp_path, {"steps": 10}).close()


@pytest.mark.parametrize(
    ("number", "kind"), [("ESTALE", CommandError), ("ENOSPC", CommandError), ("EACCES", InputError)]
)
def test_what_a_later_start_may_find_mended_is_a_fault(tmp_path, monkeypatch, number, kind):
    def fail(*_):
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(workdir, "_lock", fail)
    with pytest.raises(kind, match="cannot be used"):
        open_workdir(tmp_path, CONFIG)


def test_values_that_json_does_not_know_are_refused(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_a_run_of_an_earlier_version_gets_the_keys_that_came_since(tmp_path):
    config = load("configs/glyphs.py:small", [], Config).to_dict()
    older = {key: value for key, value in config.items() if key not in ("frozen", "init_from", "lora")}
    begin(tmp_path, older)
    open_workdir(tmp_path, config, completed=train._completed).close()
    with pytest.raises(InputError, match=r'frozen: \["encoders/\*"\] here, \[\] there'):
        open_workdir(tmp_path, config | {"frozen": ("encoders/*",)}, completed=train._completed)
    assert train._completed({"no": "config"}) == {"no": "config"}


def test_a_folder_without_a_step_is_free_whatever_a_failed_start_left(tmp_path, caplog):
    """A kill may have left half a checkpoint, and a run that diverged its lines."""
    open_workdir(tmp_path, CONFIG).close()
    for name in ("tokenizer.json", "data.json", "metrics.jsonl", "notes.txt"):
        (tmp_path / name).write_text("of the failed start")
    for name in ("checkpoints/.5.partial", "tensorboard", "programs"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("of the failed start")
    assert not begun(tmp_path)
    open_workdir(tmp_path, CONFIG).close()  # the same config goes on with what is there
    assert (tmp_path / "tokenizer.json").exists()
    other = changed(optimizer__learning_rate=0.001, steps=5)
    open_workdir(tmp_path, other).close()
    assert "holds no step of a run" in caplog.text
    assert stored(tmp_path) == other
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"config.json", ".lock", "notes.txt", "programs"}


def test_a_folder_without_a_step_is_free_for_other_data(tmp_path):
    def other():
        raise InputError("the data are not those that it began with")

    open_workdir(tmp_path, CONFIG).close()
    (tmp_path / "tokenizer.json").write_text("of other texts")
    open_workdir(tmp_path, CONFIG, unchanged=other).close()
    assert not (tmp_path / "tokenizer.json").exists()
    (tmp_path / "checkpoints" / ".5.damaged").mkdir(parents=True)
    assert begun(tmp_path)
    with pytest.raises(InputError, match="not those that it began with"):
        open_workdir(tmp_path, CONFIG, unchanged=other)


def test_another_libraries_config_is_nobodys_failed_start(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    with pytest.raises(InputError, match="another config"):
        open_workdir(tmp_path, CONFIG)
    assert stored(tmp_path)["model_type"] == "bert"


@pytest.mark.parametrize(
    "change",
    [
        {"evaluation": {"evaluators": {"zero_shot": {"templates": ["a {}"]}}, "source": "glyphs"}},
        {"evaluation": None},
        {"checkpoint__best": "loss"},
        {"checkpoint__lowest": True},
    ],
)
def test_figures_of_before_are_no_answer_to_another_question(tmp_path, change):
    asked = changed() | {
        "evaluation": {
            "evaluators": {"zero_shot": {"templates": ["{}"]}},
            "source": "glyphs",
            "batch_size": 8,
        },
        "checkpoint": {"best": None, "lowest": False, "every": 3},
    }
    begin(tmp_path, asked)
    write_json(tmp_path / "result.json", {"step": 10, "loss": 1.5})

    def other(**values):
        config = json.loads(json.dumps(asked))
        for name, value in values.items():
            section, _, key = name.partition("__")
            config |= {section: config[section] | {key: value} if key else value}
        return config

    open_workdir(tmp_path, other(checkpoint__every=4)).close()
    assert finished(tmp_path) == {"step": 10, "loss": 1.5}
    open_workdir(tmp_path, other(**change)).close()
    assert finished(tmp_path) is None
    write_json(tmp_path / "result.json", {"step": 10, "loss": 2.5})
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(InputError, match="has ended and has no checkpoint left"):
        open_workdir(tmp_path, asked)
    assert finished(tmp_path) == {"step": 10, "loss": 2.5}
    assert stored(tmp_path) == other(**change)
