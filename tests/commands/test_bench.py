"""`contrastive-jax bench`: the real command, small; and one line for every wrong input."""

import json

import pytest
from refusals import GLYPHS, refused

from contrastive_jax.data.reading import ReaderFailed

LOSS = ["bench", "loss", "--batch", "48", "--dim", "8"]
STEP = ["bench", "step", "--config", GLYPHS]
INPUT = ["bench", "input"]
LINES = [
    (["bench"], "required: noun"),
    (["bench", "los"], "'los'", "loss"),
    (["bench", "--batch", "4"], "unknown argument '--batch'"),
    (["bench", "loss", "--btch", "48", "--dim", "8"], "'--btch': did you mean --batch?"),
    ([*LOSS, "--bach=48"], "did you mean --batch?"),
    ([*LOSS, "--agianst", "dense"], "did you mean --against?"),
    ([*LOSS, "--jsn"], "did you mean --json?"),
    ([*LOSS, "more"], "unknown argument 'more'", "contrastive-jax bench loss --help"),
    ([*LOSS, "--config.steps=3"], "unknown argument '--config.steps=3'"),
    ([*LOSS, "--microbatch", "3"], "unknown argument '--microbatch'"),
    ([*LOSS, "--runs"], "--runs: expected one argument"),
    *(
        ([*LOSS, flag, value], f"argument {flag}", value)
        for flag, value in [
            *(("--batch", text) for text in ("0", "1", "-4", "1.5", "many", "", "2147483648", "9" * 30)),
            *(("--dim", text) for text in ("0", "-1", "few")),
            *(("--runs", text) for text in ("6", "0", "-7", "seven")),
            *(("--scale", text) for text in ("0", "-1", "nan", "inf", "1e9", "hot")),
            ("--loss", "sofmax"),
            ("--dtype", "float16"),
            ("--backend", "triton"),
            ("--communication", "rign"),
        ]
    ),
    ([*LOSS, "--block", "0"], "--block 0: give rows and columns"),
    ([*LOSS, "--block", "8,8,8"], "--block 8,8,8"),
    ([*LOSS, "--block", "x"], "--block x"),
    ([*LOSS, "--block="], "--block"),
    ([*LOSS, "--keep", "on"], "--keep on: give auto, off or a number of bytes"),
    ([*LOSS, "--keep=-1"], "--keep -1"),
    ([*LOSS, "--mesh", "dta=2"], "--mesh dta=2: unknown axis 'dta'; did you mean data?"),
    ([*LOSS, "--mesh", "data"], "--mesh data: give each axis a whole number"),
    ([*LOSS, "--mesh", "data=0"], "--mesh data=0"),
    ([*LOSS, "--mesh", "data=-1"], "--mesh data=-1"),
    ([*LOSS, "--mesh", "data=2,data=2"], "an axis stands there twice"),
    ([*LOSS, "--mesh", ""], "unknown axis ''"),
    ([*LOSS, "--mesh", "data=9"], "9 devices, and here are 8"),
    ([*LOSS, "--against", "dens"], "--against dens: unknown; did you mean dense?"),
    ([*LOSS, "--against", "dense,"], "--against : unknown"),
    ([*LOSS, "--against", "inf_cl"], "--against inf_cl: needs a GPU"),
    ([*LOSS, "--against", "open_clip", "--peer-python", "/nowhere"], "--peer-python /nowhere: does not run"),
    ([*LOSS, "--loss", "sigmoid", "--against", "sentence-transformers"], "it has no sigmoid loss"),
    (["bench", "step"], "required: --config"),
    (["bench", "step", "--confg", GLYPHS], "did you mean --config?"),
    (["bench", "step", "--config", "/nowhere.py"], "/nowhere.py: no such file"),
    ([*STEP, "--config.stepz=3"], "did you mean steps?"),
    ([*STEP, "--config.steps"], "--config.steps needs a value"),
    ([*STEP, "--batch", "1"], "argument --batch", "'1'"),
    ([*STEP, "--batch", "60"], "batch_size=60 does not divide over 8 devices"),
    ([*STEP, "--microbatch", "0"], "argument --microbatch"),
    ([*STEP, "--batch", "64", "--microbatch", "3"], "microbatch=3 does not divide"),
    ([*STEP, "--mesh", "tensr=2"], "did you mean tensor?"),
    ([*STEP, "--against", "dense"], "unknown argument '--against'"),
    ([*INPUT, "--bach", "8"], "did you mean --batch?"),
    ([*INPUT, "--workers", "-1"], "argument --workers", "'-1'"),
    ([*INPUT, "--seconds", "0"], "argument --seconds"),
    ([*INPUT, "--source", "webdatset:x.tar"], "unknown kind 'webdatset'; did you mean webdataset?"),
    ([*INPUT, "--source", "webdataset:/nowhere/*.tar"], "/nowhere/*.tar"),
    ([*INPUT, "--against", "tensorflow"], "--against tensorflow: ", "known: webdataset"),
    ([*INPUT, "--against", "webdataset", "--config", GLYPHS], "--against webdataset with --config"),
    ([*INPUT, "--against", "webdataset", "--source", "glyphs"], "it reads webdataset:PATTERN", "is glyphs"),
    (
        [*INPUT, "--against", "webdataset", "--peer-python", "/nowhere"],
        "--peer-python /nowhere: does not run",
    ),
]


@pytest.mark.parametrize("case", LINES, ids=lambda case: " ".join(case[0][-2:]))
def test_refused_in_one_line(in_process, case):
    arguments, *words = case
    refused(in_process(*arguments), *words)


def test_libraries_that_are_not_installed_are_named_before_anything_runs(in_process, monkeypatch):
    monkeypatch.setattr("contrastive_jax.benchmarks.peers.missing_modules", lambda python, names: set(names))
    monkeypatch.setattr("contrastive_jax.benchmarks.compare.measure", None)
    result = in_process(*LOSS, "--against", "dense,open_clip,sentence-transformers")
    refused(result, "--against open_clip,sentence-transformers: not installed", "pip install torch open_clip")


@pytest.mark.command
def test_a_loss_on_virtual_devices_as_json(command):
    code, out, err = command(
        *LOSS, "--mesh", "data=2,fsdp=2", "--block", "8,16", "--against", "dense", "--json"
    )
    assert code == 0, err
    assert len(out.splitlines()) == 1
    found = json.loads(out)
    assert (found["batch"], found["dim"], found["loss"], found["dtype"]) == (48, 8, "softmax", "float32")
    assert found["mesh"] == {"data": 2, "fsdp": 2, "tensor": 1}
    assert (found["devices"], found["runs"], found["block"]) == (4, 7, [8, 16])
    assert found["gradient_error"] < 1e-5
    assert min(found["seconds"], found["flops"], found["fraction_of_matmul"], found["temp_bytes"]) > 0
    assert set(found["against"]["dense"]) >= {"seconds", "ratio", "temp_bytes", "gradient_error"}


def test_a_step_of_the_config_as_it_is_overridden(in_process, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "contrastive_jax.benchmarks.steps.measure",
        lambda experiment, runs: seen.append((experiment, runs)) or {"seconds": 0.5, "temp_bytes": 3},
    )
    flags = ["--batch", "16", "--microbatch", "4", "--mesh", "data=2", "--runs", "9", "--config.seed=5"]
    code, out, err = in_process(*STEP, *flags, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["seconds"], found["devices"], found["runs"]) == (0.5, 2, 9)
    ((experiment, runs),) = seen
    config = experiment.config
    assert (config.batch_size, config.microbatch, config.seed, runs) == (16, 4, 5, 9)
    assert dict(experiment.mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 1}


def test_the_input_of_a_config(in_process):
    flags = ["--workers", "0", "--runs", "1", "--seconds", "0.2", "--batch", "16"]
    code, out, err = in_process(*INPUT, "--config", GLYPHS, *flags, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["source"], found["batch"], found["workers"]) == ("glyphs", 16, 0)
    for figure in ("examples_per_second", "examples_per_core_second", "tokens_per_second"):
        assert found[figure] > 0
    assert found["tokens_per_second"] > 3 * found["examples_per_second"]  # begin, a word and end at least


def test_a_table_for_people(in_process):
    code, out, _ = in_process(*LOSS, "--mesh", "data=1", "--against", "dense")
    assert code == 0
    for word in ("fraction_of_matmul", "GFLOP/s", "MiB" if "MiB" in out else "KiB", "against", "dense"):
        assert word in out


def test_input_of_a_field_that_is_not_there(in_process):
    line = [*INPUT, "--config", GLYPHS, "--workers", "0", "--config.data.views.text.field=txt"]
    refused(in_process(*line), "a text view reads the field 'txt', and glyphs has none")


def test_readers_that_die_under_the_input_are_named(in_process, monkeypatch):
    def dies(*arguments, **keywords):
        raise ReaderFailed("source glyphs: worker 1 of 1 was ended by SIGKILL")

    monkeypatch.setattr("contrastive_jax.benchmarks.inputs.measure", dies)
    refused(in_process(*INPUT, "--config", GLYPHS), "worker 1 of 1 was ended by SIGKILL", code=1)


def test_no_room_for_made_up_pictures(in_process, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("contrastive_jax.benchmarks.pictures.write_tars", full)
    refused(in_process(*INPUT), "No space left on device; set TMPDIR to another", code=1)
