"""`contrastive-jax embed`: its numbers against a model applied by hand, kills, signals, wrong input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from refusals import refused

from contrastive_jax import locking
from contrastive_jax.commands import embed as command_module
from contrastive_jax.data.sources import open_source
from contrastive_jax.evaluation.embeddings import Embeddings
from contrastive_jax.training.trained import open_trained

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="session")
def expected(small, opened_once):
    """float32 [40, 16]: what the model of step 4 makes of the pictures."""
    trained = open_trained(small / "run")
    with jax.set_mesh(trained.experiment.mesh):
        return trained.embedder(8)("image", open_source(f"jsonl:{small}/pairs.jsonl"))


@pytest.fixture
def line(small, tmp_path):
    source = f"jsonl:{small}/pairs.jsonl"
    return ["embed", "--workdir", f"{small}/run", "--source", source, "--batch", "8", "--branch", "image"]


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_the_numbers_are_the_models_and_keys_stand_beside_them(in_process, line, expected, tmp_path, ending):
    output = tmp_path / f"e.{ending}"
    code, out, err = in_process(*line, "--output", str(output), "--part", "16", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["records"], answer["broken"], answer["dimensions"], answer["step"]) == (40, 0, 16, 4)
    if ending == "npy":
        z, keys = (
            np.load(output, allow_pickle=False),
            json.loads(output.with_suffix(".json").read_text())["keys"],
        )
    else:
        table = pq.read_table(output)
        z, keys = np.array(table["embedding"].to_pylist()), table["key"].to_pylist()
        assert table["record"].to_pylist() == list(range(40))
    np.testing.assert_allclose(z, expected, atol=1e-6)
    assert keys == [f"k{n}" for n in range(40)]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        {output.name, *(["e.json"] * (ending == "npy"))}
    )
    code, out, err = in_process(*line, "--output", str(output), "--json")
    assert (code, json.loads(out)) == (0, answer)
    assert "is finished" in err


def test_fewer_bytes_and_what_they_cost(in_process, line, expected, tmp_path):
    output = tmp_path / "e.parquet"
    code, out, err = in_process(*line, "--output", str(output), "--dtype", "int8", "--json")
    assert code == 0, err
    stored = Embeddings(output)
    ((_, z),) = stored.blocks()
    step = (expected.max(axis=0) - expected.min(axis=0)) / 254
    assert np.all(np.abs(z - expected) <= step / 2 + 1e-6)
    assert 0.9 < json.loads(out)["recall@10"] == stored.metadata["recall@10"] <= 1
    assert pq.read_schema(output).field("embedding").type.value_type == "int8"


def test_what_was_done_before_a_signal_is_kept(in_process, line, expected, tmp_path, monkeypatch):
    """SIGTERM in the second part: 75, and the same command goes on from there; then what is left differs."""
    output, calls = tmp_path / "e.parquet", []
    evaluated = command_module.progress

    def counted(label, total):
        calls.append(0)
        context = evaluated(label, total)
        advance = context.__enter__()

        def count(n):
            calls[-1] += n
            advance(n)
            if len(calls) == 1 and calls[0] == 24:
                os.kill(os.getpid(), signal.SIGTERM)

        class Counted:
            def __enter__(self):
                return count

            def __exit__(self, *error):
                context.__exit__(*error)

        return Counted()

    monkeypatch.setattr(command_module, "progress", counted)
    code, out, err = in_process(*line, "--output", str(output), "--part", "16", "--json")
    assert (code, out) == (75, "")
    assert "SIGTERM: run the same command again" in err
    assert sorted(p.name for p in (tmp_path / "e.parquet.parts").iterdir()) == ["000000.parquet", "plan.json"]
    first = (tmp_path / "e.parquet.parts" / "000000.parquet").stat().st_mtime_ns
    other = in_process(*line, "--output", str(output), "--part", "16", "--step", "2")
    refused(other, "holds other embeddings", "step: 2 here, 4 there")
    refused(in_process(*line, "--output", str(output), "--part", "8"), "part: 8 here, 16 there")
    assert (tmp_path / "e.parquet.parts" / "000000.parquet").stat().st_mtime_ns == first
    code, out, err = in_process(*line, "--output", str(output), "--part", "16", "--json")
    assert code == 0, err
    ((_, z),) = Embeddings(output).blocks()
    np.testing.assert_allclose(z, expected, atol=1e-6)
    refused(in_process(*line, "--output", str(output), "--dtype", "int8"), "dtype: int8 here, float32 there")


def test_a_source_that_changed_meanwhile_is_no_part_of_the_same_file(in_process, line, small, tmp_path):
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    source, output = tmp_path / "pairs.jsonl", tmp_path / "e.parquet"
    source.write_text((small / "pairs.jsonl").read_text())
    line[line.index("--source") + 1] = f"jsonl:{source}"
    line += ["--output", str(output), "--part", "16", "--json"]
    assert in_process(*line)[0] == 0
    data = Embeddings(output).metadata["data"]
    before = output.read_bytes()
    source.write_text(source.read_text().replace("bar", "rod"))
    words = "pairs.jsonl has the same size and another content here than there"
    refused(in_process(*line), "holds other embeddings", words)
    assert output.read_bytes() == before
    # And of a file that is half written.
    parts = tmp_path / "p.parquet.parts"
    parts.mkdir()
    plan = {name: value for name, value in Embeddings(output).metadata.items() if name in PLANNED}
    (parts / "plan.json").write_text(json.dumps({**plan, "part": 16, "data": data}))
    line[line.index("--output") + 1] = str(tmp_path / "p.parquet")
    (parts / "000000.parquet").write_bytes(b"a part")
    refused(in_process(*line), "p.parquet.parts holds other embeddings", words)
    (parts / "000000.parquet").unlink()
    # An earlier version did not say what the source was made of.
    (parts / "plan.json").write_text(json.dumps({**plan, "part": 16}))
    assert in_process(*line)[0] == 0


def test_a_folder_of_parts_without_a_part_is_free(in_process, line, tmp_path):
    """What a start that failed has left."""
    (tmp_path / "e.parquet.parts").mkdir()
    (tmp_path / "e.parquet.parts" / "plan.json").write_text('{"branch": "image", "part": 3}')
    code, _, err = in_process(*line, "--output", str(tmp_path / "e.parquet"))
    assert code == 0, err
    assert not (tmp_path / "e.parquet.parts").exists()


def test_a_field_that_no_record_has_is_refused_before_anything_is_read(in_process, line, small, tmp_path):
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    lines = [json.loads(one) for one in (small / "pairs.jsonl").read_text().splitlines()]
    for one in lines:
        one["caption"] = one.pop("document")
    source = tmp_path / "pairs.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    line[line.index("--source") + 1] = f"jsonl:{source}"
    line[line.index("--branch") + 1] = "document"
    output = str(tmp_path / "e.parquet")
    words = (
        "--source, which branch document reads by config.data.views.document.field",
        "has no field 'document'",
    )
    refused(in_process(*line, "--output", output), *words, "?rename=FIELD:document")
    mine = ["data", "mine", *line[1:5], "--queries", "text", "--documents", "document", "--output", output]
    refused(in_process(*mine), *words, "?rename=FIELD:document")
    assert not list(tmp_path.glob("e.parquet*"))
    line[line.index("--source") + 1] += "?rename=caption:document"
    code, _, err = in_process(*line, "--output", output)
    assert code == 0, err
    # It need not be the first record that has it.
    del lines[0]["caption"]
    source.write_text("\n".join(map(json.dumps, lines)))
    line[line.index("--source") + 1] = f"jsonl:{source}?rename=caption:document"
    code, out, err = in_process(*line, "--output", str(tmp_path / "f.parquet"), "--json")
    assert code == 0, err
    assert json.loads(out)["broken"] == 1


def test_an_output_that_another_process_makes_is_left_alone(in_process, line, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "SECONDS_TO_LEAVE", 0.0)
    output = tmp_path / "e.parquet"
    with locking.held(output, "it"):
        words = f"--output {output} is in use by another process"
        refused(in_process(*line, "--output", str(output)), words, code=1)
    assert list(tmp_path.iterdir()) == []


PLANNED = ("workdir", "step", "model", "branch", "source", "source_records")


@pytest.mark.slow
@pytest.mark.command
def test_a_killed_process_ends_in_the_file_of_an_undisturbed_one(command, caches, line, tmp_path):
    """SIGKILL twice, in the middle of parts; what was there by then is not made again."""
    spec = line[line.index("--source") + 1]
    line[line.index("--source") + 1] = " + ".join([spec] * 20)  # 200 parts, so that no kill comes too late
    line += ["--part", "4", "--batch", "4", "--dtype", "int8", "--output"]
    straight, output = tmp_path / "straight.parquet", tmp_path / "killed.parquet"
    code, _, err = command(*line, straight)
    assert code == 0, err
    program = Path(sys.executable).with_name("contrastive-jax")
    parts, environment = (
        tmp_path / "killed.parquet.parts",
        {**os.environ, **caches, "JAX_NUM_CPU_DEVICES": "1"},
    )
    times = {}
    for wanted in (3, 60):
        process = subprocess.Popen([program, *line, output], env=environment, stderr=subprocess.PIPE)
        while len(list(parts.glob("0*.parquet"))) < wanted:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert not output.exists()
        assert all((parts / name).stat().st_mtime_ns == at for name, at in times.items())
        times = {file.name: file.stat().st_mtime_ns for file in parts.glob("0*.parquet")}
        assert wanted <= len(times) < 200
    code, _, err = command(*line, output)
    assert code == 0, err
    assert output.read_bytes() == straight.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["killed.parquet", "straight.parquet"]


def test_records_that_cannot_be_read_are_left_out_by_name(
    in_process, line, expected, small, tmp_path, caplog
):
    lines = (small / "pairs.jsonl").read_text().splitlines()
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    (tmp_path / "torn.png").write_bytes((small / "pictures" / "3.png").read_bytes()[:200])
    lines[3] = lines[3].replace("pictures/3.png", "torn.png")
    lines[7] = lines[7].replace("pictures/7.png", "pictures/none.png")
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    line[4] = f"jsonl:{tmp_path}/pairs.jsonl"
    code, out, err = in_process(*line, "--output", str(tmp_path / "e.npy"), "--json")
    assert code == 0, err
    assert (json.loads(out)["records"], json.loads(out)["broken"]) == (38, 2)
    for key in ("k3", "k7"):
        assert f"({key})" in caplog.text
    kept = [n for n in range(40) if n not in (3, 7)]
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), expected[kept], atol=1e-6)
    assert Embeddings(tmp_path / "e.npy").records.tolist() == kept
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"key": "a", "image": "nowhere.png", "text": "x"}))
    refused(in_process(*line, "--output", str(tmp_path / "f.npy")), "not one of its 1 records can be read")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--brnch", "image"], "'--brnch': did you mean --branch?"),
        (["--sorce", "x"], "did you mean --source?"),
        (["--dtpe", "int8"], "did you mean --dtype?"),
        (["--outpt", "x"], "did you mean --output?"),
        (["--prt", "3"], "did you mean --part?"),
        (["--dtype", "int4"], "invalid choice: 'int4'"),
        (["--batch", "0"], "'0': give a whole number from 1"),
        (["--part", "many"], "'many': give a whole number from 1"),
        (["--branch", "imag"], "--branch imag: branch 'imag' is unknown; did you mean image?"),
        (["--branch", "image.hed"], "has no stage 'hed'"),
        (["--step", "3"], "no checkpoint of step 3"),
        (["--source", "jsnl:x"], "did you mean jsonl?"),
        (["--source", " "], "--source: it is empty"),
        (["--output", "e.csv"], "--output e.csv: give a file that ends in .parquet or .npy"),
        (["--output", "/nowhere/e.npy"], "there is no folder /nowhere"),
        (["--workdir", "/nowhere"], "no run there"),
        (["--config.steps=3"], "embed takes the config of the work directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_refused_in_one_line(in_process, line, tmp_path, changes, words):
    refused(in_process(*line, "--output", str(tmp_path / "e.npy"), *changes), words)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_none_of_ours_is_left_alone(in_process, line, tmp_path):
    output, content = tmp_path / "e.parquet", b"PAR1" * 30
    output.write_bytes(content)
    refused(in_process(*line, "--output", str(output)), "no embeddings that `contrastive-jax embed` wrote")
    assert output.read_bytes() == content
