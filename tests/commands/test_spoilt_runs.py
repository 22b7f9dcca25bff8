"""Commands on a run that is finished, damaged or another than was meant: nothing of it is lost."""

import hashlib
import json
import shutil

import pytest
from refusals import GLYPHS, TINY, refused


def contents(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def damage(folder, *steps):
    for step in steps:
        largest = max((folder / "checkpoints" / str(step)).rglob("*"), key=lambda file: file.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)


@pytest.mark.command
def test_a_run_answers_with_one_json_object_and_remakes_a_damaged_cache(first):
    folder, (code, out, err) = first
    assert code == 0, err
    assert len(out.splitlines()) == 1
    answer = json.loads(out)
    assert answer == {"workdir": str(folder), **json.loads((folder / "result.json").read_text())}
    assert answer["step"] == 4
    assert err.count("does not match its checksum; making it again") == 1


@pytest.mark.command
def test_a_finished_run_says_so(command, trained):
    before = contents(trained)
    code, out, err = command("train", "--config", GLYPHS, "--workdir", trained, "--json", *TINY)
    assert (code, json.loads(out)["step"]) == (0, 4)
    assert f"{trained} is finished: 4 steps" in err
    assert contents(trained) == before


@pytest.mark.command
@pytest.mark.slow
def test_more_steps_need_extend_and_then_go_on(command, trained):
    before, old = contents(trained), (trained / "metrics.jsonl").read_text().splitlines()
    arguments = ["train", "--config", GLYPHS, "--workdir", trained, *TINY, "--config.steps=6"]
    refused(command(*arguments), "holds a run of steps: 4", "--extend to go on to 6")
    assert contents(trained) == before
    code, out, err = command(*arguments, "--extend")
    assert code == 0, err
    assert "resuming from step 4" in err
    assert "retrieval/text_to_image/R@5" in out
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[:4] == old


@pytest.mark.command
def test_another_config_is_refused_and_every_key_named(command, trained):
    before = contents(trained)
    other = ["--config.optimizer.learning_rate=1", "--config.seed=5"]
    result = command("train", "--config", GLYPHS, "--workdir", trained, *TINY, *other)
    refused(result, "optimizer.learning_rate: 1.0 here", "seed: 5 here, 0 there", "another folder")
    result = command("train", "--config", GLYPHS, "--workdir", trained, *TINY, "--config.steps=3")
    refused(result, "give 4 or more")
    assert contents(trained) == before


@pytest.mark.command
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(command, trained):
    expected = json.loads((trained / "result.json").read_text())
    (trained / "result.json").unlink()
    damage(trained, 4)
    code, out, err = command("train", "--config", GLYPHS, "--workdir", trained, "--json", *TINY)
    assert code == 0, err
    assert err.count("damaged checkpoint") == 1
    assert "going on from step 2" in err
    assert json.loads(out) == {"workdir": str(trained), **expected}


@pytest.mark.command
def test_without_an_intact_checkpoint_nothing_is_touched(command, trained):
    (trained / "result.json").unlink()
    damage(trained, 2, 4)
    before = contents(trained)
    words = ["no intact checkpoint", "2: ", "4: ", "nothing was changed"]
    refused(command("train", "--config", GLYPHS, "--workdir", trained, "--json", *TINY), *words, code=1)
    assert contents(trained) == before
    refused(command("eval", "--workdir", trained), *words, code=1)
    assert contents(trained) == before


@pytest.mark.command
def test_eval_of_one_step_by_one_evaluator(command, trained):
    before = contents(trained)
    arguments = ["eval", "--workdir", trained, "--evaluator", "geometry", "--json"]
    code, out, err = command(*arguments, "--step", "2")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    answer = json.loads(out)
    assert answer["step"] == 2
    assert {name.partition("/")[0] for name in answer} == {"workdir", "step", "geometry"}
    assert contents(trained) == before


def test_eval_of_what_is_not_there_or_damaged(in_process, trained):
    workdir = str(trained)
    refused(in_process("eval", "--workdir", workdir, "--step", "3"), "no checkpoint of step 3", "2, 4")
    wrong = in_process("eval", "--workdir", workdir, "--evaluator", "retreival")
    refused(wrong, "--evaluator retreival", "did you mean retrieval?")
    damage(trained, 2)
    before = contents(trained)
    refused(in_process("eval", "--workdir", workdir, "--step", "2"), "checkpoint of step 2", "is damaged")
    assert contents(trained) == before
    (trained / "tokenizer.json").write_text("{}")
    refused(in_process("eval", "--workdir", workdir), "tokenizer.json is not the one that the run began with")
    (trained / "data.json").unlink()  # as an earlier version left it
    refused(in_process("eval", "--workdir", workdir), "tokenizer.json", "damaged")
    shutil.rmtree(trained / "checkpoints")
    refused(in_process("eval", "--workdir", workdir), "no checkpoint yet; train first")


def test_an_evaluator_of_two_widths_costs_its_own_figures_alone(in_process, trained):
    """As in runs that went on to their evaluation with it: what else there is to do with them goes on."""
    config = json.loads((trained / "config.json").read_text())
    config["evaluation"]["evaluators"]["geometry"]["rows"] = "image@8"
    (trained / "config.json").write_text(json.dumps(config))
    asked = "eval", "--workdir", str(trained), "--evaluator"
    words = "evaluators.geometry compares branch 'image@8', which has 8", "with 'text', which has 32"
    refused(in_process(*asked, "geometry"), *words)
    code, out, err = in_process(*asked, "retrieval", "--json")
    assert code == 0, err
    assert "geometry/alignment" not in json.loads(out)


@pytest.mark.parametrize("file", ["config.json", "result.json"])
def test_damaged_files_of_a_run(in_process, trained, file):
    (trained / file).write_text('{"steps": ')
    before = contents(trained)
    refused(in_process("train", "--config", GLYPHS, "--workdir", str(trained), *TINY), file, "cannot be read")
    assert contents(trained) == before
