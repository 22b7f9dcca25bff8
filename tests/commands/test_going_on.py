"""The same folder again: by its name alone, with another evaluation, or with what a failed start lacked."""

import json
import shutil

import pytest
from refusals import GLYPHS, TINY, refused

OTHER = "--config.evaluation.evaluators.retrieval.at=(3,)"
FIGURE = "retrieval/text_to_image/R@3"


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def answer(done):
    code, out, err = done
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def test_the_folder_alone_goes_on_with_what_is_there(first, trained, command):
    (trained / "result.json").unlink()
    shutil.rmtree(trained / "checkpoints" / "4")
    got = answer(command("train", "--workdir", trained, "--json"))
    want = answer(first[1])
    assert got == want | {"workdir": str(trained)}
    assert [line["loss"] for line in lines(trained)] == [line["loss"] for line in lines(first[0])]


def test_a_folder_alone_without_a_run_is_refused(tmp_path, in_process):
    result = in_process("train", "--workdir", str(tmp_path / "run"))
    refused(result, f"--workdir {tmp_path}/run: no run there", "a new run is begun by --config FILE")
    assert not (tmp_path / "run").exists()


def test_another_evaluation_of_a_finished_run_is_made(first, trained, command):
    got = answer(command("train", "--workdir", trained, "--json", OTHER))
    assert [name for name in got if name.startswith("retrieval/text_to_image/")] == [FIGURE]
    measured = answer(command("eval", "--workdir", trained, "--json"))
    same = {name: value for name, value in measured.items() if name != "workdir"}
    assert {name: got[name] for name in same} == pytest.approx(same, rel=1e-4)
    result = json.loads((trained / "result.json").read_text())
    assert result == {name: value for name, value in got.items() if name != "workdir"}
    line, old = lines(trained)[-1], lines(first[0])[-1]
    assert [name for name in line if name.startswith("retrieval/text_to_image/")] == [FIGURE]
    assert line[FIGURE] == got[FIGURE]
    assert line["retrieval/config"] != old["retrieval/config"]
    assert line["scripts/config"] == old["scripts/config"]
    shutil.rmtree(trained / "checkpoints")
    told = command("train", "--workdir", trained, OTHER.replace("3", "4"))
    refused(
        told,
        "has ended and has no checkpoint left",
        "evaluation.evaluators.retrieval.at: [4] here, [3] there",
    )
    assert answer(command("train", "--workdir", trained, "--json")) == got


def test_a_run_that_diverged_before_its_first_checkpoint_leaves_its_folder_free(first, tmp_path, command):
    wrong = [*TINY, "--config.optimizer.learning_rate=1e30", "--config.optimizer.clip=None"]
    line = "train", "--config", GLYPHS, "--workdir", tmp_path / "run", "--json"
    code, _, err = command(*line, *wrong, "--config.checkpoint.every=60min")
    assert code == 1, err
    assert lines(tmp_path / "run")
    assert (tmp_path / "run" / "tokenizer.json").exists()
    code, out, err = command(*line, *TINY)
    assert code == 0, err
    assert "holds no step of a run" in err
    assert json.loads(out.splitlines()[-1]) == answer(first[1]) | {"workdir": str(tmp_path / "run")}
    assert [line["loss"] for line in lines(tmp_path / "run")] == [line["loss"] for line in lines(first[0])]
