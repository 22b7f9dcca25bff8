"""Texts that lack in some record: found before the first step where an evaluator reads them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.configuration import build, load
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.opening import opened
from contrastive_jax.evaluation.prompts import called
from contrastive_jax.evaluation.retrieval import spread
from contrastive_jax.training.evaluated_texts import check_texts
from contrastive_jax.training.experiment import Config, Experiment

CLIP = Path(__file__).parents[2] / "configs" / "clip.py"
TEXT, NONE = {"text": "a caption"}, {"text": None}


@pytest.fixture
def write(tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "0.png")

    def write(*fields):
        opened.cache_clear()
        lines = [json.dumps({"image": "0.png", **of}) for of in fields]
        (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
        return f"jsonl:{tmp_path}/pairs.jsonl"

    return write


def experiment(source):
    overrides = [("data.sampler.repeat", "True")]
    return Experiment(
        build(load(f"{CLIP}:small,source={source},held_out={source}", overrides, Config), Config)
    )


@pytest.mark.parametrize("lacks", [NONE, {}, {"text": 3}, {"text": {"a": 1}}])
@pytest.mark.parametrize("place", [0, 2])
def test_a_record_without_a_text_is_refused_before_the_first_step(write, lacks, place):
    records = [TEXT] * 4
    records[place] = lacks
    source = write(*records)
    run = experiment(source)
    run.check_data()  # of training a record may lack its text
    told = rf"config.evaluation.evaluators.retrieval: .*, record {place} has no text in 'text'; \?keep=text"
    with pytest.raises(InputError, match=told):
        check_texts(run)
    if lacks in (NONE, {}):
        check_texts(experiment(f"{source}?keep=text"))


def test_a_broken_record_is_named_as_one(write, tmp_path):
    source = write(TEXT, TEXT)
    with open(tmp_path / "pairs.jsonl", "a") as file:
        file.write('{"text": "x"\n')
    with pytest.raises(InputError, match=r"record 2: line 3: not JSON"):
        check_texts(experiment(source))


def test_whole_records_and_empty_texts_are_let_through(write):
    check_texts(experiment(write(TEXT, {"text": ""}, {"text": ["a", "b"]})))


def test_a_list_of_texts_that_lacks_gives_no_text(write):
    source = open_source(write({"text": ["a", "", None, "b"]}, NONE, {}, TEXT, {"text": ""}))
    texts = spread(source, "text")
    assert [texts[n]["text"] for n in range(len(texts))] == ["a", "b", "a caption"]
    assert texts.owner.tolist() == [0, 0, 3]


def test_a_class_without_a_name_is_refused(write):
    source = open_source(write(TEXT, NONE, TEXT))
    given = np.array([0, 1, 0])
    assert called(source, given, [0], "text") == ["a caption"]
    with pytest.raises(InputError, match=r"record 1: 'text' holds no text to call 1 by"):
        called(source, given, [0, 1], "text")


@pytest.mark.parametrize("first", ["{}", "[]", "{", "\x00"])
def test_the_first_record_is_one_as_any_other(write, tmp_path, first, in_process_inspect):
    source = write(*[TEXT] * 30)
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    (tmp_path / "pairs.jsonl").write_text("\n".join([first, *lines[1:]]) + "\n")
    experiment(source).check_data()
    code, out = in_process_inspect(source)
    assert code == 0
    assert "30 records, 30 read" in out


@pytest.fixture
def in_process_inspect(capfd, monkeypatch):
    import os

    from contrastive_jax import cli

    def run(source):
        real = os.dup(1)
        try:
            code = cli.main(["data", "inspect", "--source", source])
        finally:
            os.dup2(real, 1)
            os.close(real)
        return code, capfd.readouterr().out

    return run


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_in_place_of_lines_is_refused_by_name(write, tmp_path, indent):
    source = write(TEXT)
    (tmp_path / "pairs.jsonl").write_text(json.dumps([TEXT] * 40, indent=indent))
    with pytest.raises(
        InputError, match=r"pairs.jsonl, which holds a JSON list, and an object a line is wanted: .*jq"
    ):
        open_source(source)


def test_a_field_that_no_record_has_is_refused_with_what_there_is(write, tmp_path):
    source = write(*[{"caption": "a"}] * 3)
    told = r"config.data.views.text.field: .* has no field 'text'; .*known: .*caption.*; \?rename=FIELD:text"
    with pytest.raises(InputError, match=told):
        experiment(source).check_data()
    experiment(f"{source}?rename=caption:text").check_data()
    shutil.rmtree(tmp_path)
