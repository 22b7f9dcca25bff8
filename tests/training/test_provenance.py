"""What the data of a run are made of: noted when it begins, compared whenever it goes on."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from contrastive_jax.cli import main
from contrastive_jax.configuration import build, load
from contrastive_jax.data.contents import Contents
from contrastive_jax.data.walks import ORDERS
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.opening import opened
from contrastive_jax.training.agreement import check_same_data
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.provenance import Provenance
from contrastive_jax.training.workdir import open_workdir, write_json

CLIP = Path(__file__).parents[2] / "configs" / "clip.py"


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("captions", "held_out"):
        rows = [json.dumps({"image": "0.png", "text": f"caption {n}"}) for n in range(40)]
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path / "data" / "captions.jsonl"


def config(file, held_out=None, **changes):
    spec = f"{CLIP}:small,source=jsonl:{file}" + (f",held_out=jsonl:{held_out}" if held_out else "")
    return load(spec, [(name, str(value)) for name, value in changes.items()], Config)


def provenance(path, *arguments, accept=False, **changes):
    loaded = config(*arguments, **changes)
    experiment = Experiment(build(loaded, Config), training=False)
    return json.loads(loaded.to_json()), Provenance(experiment, path, accept)


def begin(path, *arguments, **options):
    """What `train` does before the first step; one is there then."""
    opened.cache_clear()  # a run has a process of its own
    stored, data = provenance(path, *arguments, **options)
    stored["data"]["order"] = ORDERS[-1]
    with open_workdir(path, stored, extend=True, unchanged=data.check):
        data.agree(ALONE)
        data.note()
    (path / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)


def noted(path):
    return json.loads((path / "data.json").read_text())["sources"]


def files(folder):
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def drop(file, count=1):
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-count]))


def test_the_same_data_go_on_wherever_they_lie(lines, tmp_path, caplog):
    begin(tmp_path / "run", lines)
    first = noted(tmp_path / "run")
    begin(tmp_path / "run", lines)
    assert noted(tmp_path / "run") == first
    shutil.copytree(lines.parent, tmp_path / "elsewhere")
    shutil.rmtree(lines.parent)
    with caplog.at_level(logging.INFO):
        begin(tmp_path / "run", tmp_path / "elsewhere" / "captions.jsonl")
    assert "goes on with other values: data.source" in caplog.text
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["data"]["source"] == f"jsonl:{tmp_path}/elsewhere/captions.jsonl"
    drop(tmp_path / "elsewhere" / "captions.jsonl")
    with pytest.raises(InputError, match="39 records now, 40 then"):
        begin(tmp_path / "run", tmp_path / "elsewhere" / "captions.jsonl")


def test_data_that_were_never_noted_may_not_lie_elsewhere(lines, tmp_path):
    begin(tmp_path / "run", lines)
    (tmp_path / "run" / "data.json").unlink()
    with pytest.raises(InputError, match=r"another config .*data.source"):
        begin(tmp_path / "run", lines.with_name("held_out.jsonl"))


def test_the_command_refuses_other_data_and_leaves_the_run_as_it_is(lines, tmp_path, capsys):
    begin(tmp_path / "run", lines)
    write_json(tmp_path / "run" / "result.json", {"step": 20, "loss": 1.0})
    before = files(tmp_path / "run")
    size = lines.stat().st_size
    drop(lines, 10)
    command = ["train", "--config", f"{CLIP}:small,source=jsonl:{lines}", "--workdir", str(tmp_path / "run")]
    assert main([*command, "--config.steps=30", "--extend"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("contrastive-jax: config.data.source: the data are not those that ")
    assert "30 records now, 40 then" in said
    assert f"captions.jsonl: {lines.stat().st_size:,} bytes now, {size:,} bytes then" in said
    assert said.endswith("or go on with these by --accept-changed-data")
    assert files(tmp_path / "run") == before
    assert main(command) == 0  # it is finished, and needs no data any more


def test_other_data_are_accepted_on_purpose_and_then_are_the_runs(lines, tmp_path, caplog):
    begin(tmp_path / "run", lines)
    drop(lines)
    begin(tmp_path / "run", lines, accept=True)
    assert "goes on with other data: " in caplog.text
    assert "39 records now, 40 then" in caplog.text
    begin(tmp_path / "run", lines)
    drop(lines)
    with pytest.raises(InputError, match="38 records now, 39 then"):
        begin(tmp_path / "run", lines)


def test_an_earlier_version_did_not_note_them(lines, tmp_path, caplog):
    begin(tmp_path / "run", lines)
    (tmp_path / "run" / "data.json").unlink()
    drop(lines)
    with caplog.at_level(logging.INFO):
        begin(tmp_path / "run", lines)
    assert "does not say what its data were: they are noted now" in caplog.text
    ((parts),) = noted(tmp_path / "run").values()
    assert parts[0]["records"] == 39


def test_what_is_measured_on_others_is_a_warning(lines, tmp_path, caplog):
    held_out = lines.with_name("held_out.jsonl")
    begin(tmp_path / "run", lines, held_out)
    drop(held_out)
    begin(tmp_path / "run", lines, held_out)
    assert "config.evaluation: jsonl:" in caplog.text
    assert "39 records now, 40 then" in caplog.text
    assert "figures of before are of other records" in caplog.text
    caplog.clear()
    begin(tmp_path / "run", lines, held_out)
    assert not caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "sources": {}}', '{"format": 1}'])
def test_notes_that_cannot_be_read_are_named(lines, tmp_path, content):
    begin(tmp_path / "run", lines)
    (tmp_path / "run" / "data.json").write_text(content)
    with pytest.raises(InputError, match=r"data.json .*delete it to go\s+on with the data as they are now"):
        begin(tmp_path / "run", lines)


class Second(Group):
    """Process 1 of 2 in an exchange whose other side is known."""

    def __init__(self, told):
        super().__init__(2, 1)
        self.told = told

    def tell(self, value=None, seconds=None):
        return self.told

    def gather(self, value, seconds=None):
        return ["", value]


def test_processes_with_other_data_are_refused_by_their_counts():
    here = {"config.data.source=jsonl:a": [Contents("jsonl:a", 60, 1, 9, "x", {"a": 9})]}
    there = {"config.data.source=jsonl:a": [{"name": "jsonl:a", "records": 100, "count": 1, "bytes": 12}]}
    check_same_data(Second({name: [part.as_json() for part in parts] for name, parts in here.items()}), here)
    with pytest.raises(InputError) as error:
        check_same_data(Second(there), here)
    said = "config.data.source: jsonl:a: 60 records in process 1, 100 in process 0; "
    assert str(error.value).startswith(said)
    assert str(error.value).endswith(": all processes need the same data")
