"""What the command makes of wrong input: one clear line, exit code 2, and nothing made."""

import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import CONFIGS, GLYPHS, refused

# What is refused before anything is trained. `{run}` is a folder that is not there.
TRAIN = ["train", "--config", GLYPHS, "--workdir", "{run}"]
LIT = ["train", "--config", f"{CONFIGS}/lit.py:small", "--workdir", "{run}"]
LINES = [
    ([], "required: command", "contrastive-jax --help"),
    (["trian"], "'trian'", "train"),
    (["--vrsion"], "unknown argument '--vrsion': did you mean --version?"),
    (["train"], "required: --workdir"),
    (["train", "--workdir", "{run}"], "no run there", "begun by --config FILE"),
    (["train", "--config"], "--config: expected one argument"),
    (["train", "--config", GLYPHS, "--workdir"], "--workdir: expected one argument"),
    (["train", "--confg", GLYPHS, "--workdir", "{run}"], "'--confg': did you mean --config?"),
    (["train", "--config", GLYPHS, "--workdr", "{run}"], "'--workdr': did you mean --workdir?"),
    (["train", "--config", GLYPHS, "--workdr={run}"], "did you mean --workdir?"),
    ([*TRAIN, "--extnd"], "'--extnd': did you mean --extend?"),
    ([*TRAIN, "--jsn"], "'--jsn': did you mean --json?"),
    ([*TRAIN, "--step", "3"], "unknown argument '--step'"),
    ([*TRAIN, "more"], "unknown argument 'more'", "contrastive-jax train --help"),
    ([*TRAIN, "--confg.steps=3"], "'--confg.steps=3': did you mean --config?"),
    ([*TRAIN, "--config.steps"], "--config.steps needs a value"),
    ([*TRAIN, "--config.data.source", "--config.seed=3"], "--config.data.source needs a value"),
    ([*TRAIN, "--config.data.source", "--extend"], "--config.data.source needs a value"),
    ([*TRAIN, "--cordinator", "h:1"], "'--cordinator': did you mean --coordinator?"),
    ([*TRAIN, "--proceses", "2"], "'--proceses': did you mean --processes?"),
    ([*TRAIN, "--proces-id", "0"], "'--proces-id': did you mean --process-id?"),
    ([*TRAIN, "--profle", "1:2"], "'--profle': did you mean --profile?"),
    ([*TRAIN, "--coordinator", "h:1"], "--coordinator without --processes: give all three"),
    ([*TRAIN, "--processes", "2", "--process-id", "0"], "--processes and --process-id without --coordinator"),
    ([*TRAIN, "--processes", "two"], "--processes", "'two': give a whole number from 1"),
    (
        [*TRAIN, "--coordinator", "h", "--processes", "2", "--process-id", "0"],
        "--coordinator h: give host:port",
    ),
    (
        [*TRAIN, "--coordinator", "h:1", "--processes", "2", "--process-id", "2"],
        "--process-id 2: give 0 to 1",
    ),
    ([*LIT, "--config.init_from.image.path=/nowhere"], "config.init_from.image.path=/nowhere: ", "no such"),
    ([*TRAIN, "--profile", "3"], "--profile=3: give start:stop"),
    ([*TRAIN, "--profile", "5:5"], "--profile=5:5 holds no step"),
    (["eval"], "required: --workdir"),
    (["eval", "--workdr", "{run}"], "'--workdr': did you mean --workdir?"),
    (["eval", "--workdir"], "--workdir: expected one argument"),
    (["eval", "--workdir", "{run}"], "--workdir", "no run there", "No such file"),
    (["eval", "--workdir", "{run}", "--stp", "3"], "'--stp': did you mean --step?"),
    (["eval", "--workdir", "{run}", "--step", "three"], "--step", "'three'"),
    (["eval", "--workdir", "{run}", "--step"], "--step: expected one argument"),
    (["eval", "--workdir", "{run}", "--evalator", "x"], "did you mean --evaluator?"),
    (["eval", "--workdir", "{run}", "--evaluator"], "--evaluator: expected one argument"),
    (["eval", "--workdir", "{run}", "--jason"], "'--jason': did you mean --json?"),
    (["eval", "--workdir", "{run}", "--config.steps=3"], "--config.steps=3", "config of the work directory"),
]
CONFIG_FILES = [
    (f"{CONFIGS}/glyphs.py:smal", "'smal' is unknown: did you mean small?"),
    (f"{CONFIGS}/glyphs.py:loss", "loss=softmax"),
    (f"{CONFIGS}/glyphs.py:small=7", "small=7: give True or False"),
    (f"{CONFIGS}/glyph.py", "glyph.py: no such file"),
    (f"{CONFIGS}/lit.py:small,image=/nowhere", "/nowhere: no such folder"),
    (str(CONFIGS), "no such file"),
    ("", "no such file"),
]
OVERRIDES = [
    ("stepz=3", "--config.stepz=3: unknown key; did you mean steps?"),
    ("optimizer.lerning_rate=3", "did you mean optimizer.learning_rate?"),
    ("learning_rate=3", "did you mean optimizer.learning_rate?"),
    ("steps.more=3", "unknown key"),
    ("steps.kind=3", "unknown key"),
    ("=3", "unknown key"),
    ("losses=3", "unknown key"),
    ("steps=many", "--config.steps=many: give a whole number"),
    ("steps=1.5", "give a whole number"),
    ("steps=True", "give a whole number"),
    ("steps=0", "config.steps=0: give 1 or more"),
    ("logging.tensorboard=3", "give True or False"),
    ("microbatch=few", "give a whole number or None"),
    ("losses.clip.scale=hot", "--config.losses.clip.scale=hot: give a number"),
    ("optimizer.learning_rate=1e999", "give a number"),
    ("optimizer.learning_rate=-1", "learning_rate=-1.0: give a positive number"),
    ("branches.image.heads=image", "give a list"),
    ("seed=-1", "config.seed=-1: give a whole number from 0"),
    ("seed=99999999999999999999", "config.seed=99999999999999999999: give a whole number from 0"),
    ("data.workers=-1", "config.data.workers=-1"),
    ("losses.clip.kind=sofmax", "did you mean softmax?"),
    ("losses.clip.rows=imag", "branch 'imag' is unknown; did you mean image?"),
    ("losses.clip.positives=charcter", "config.losses.clip", "did you mean character?"),
    ("branches.image.encoder=imgae", "did you mean image?"),
    ("encoders.image.patch=7", "config.encoders.image", "7 does not divide"),
    ("data.views.text.field=txt", "config.data.views.text.field", "no field 'txt'; did you mean text?"),
    ("data.views.image.member=1", "member=1, but the sampler draws 1"),
    ("data.sampler.group=charcter", "no field"),
    ("heads.text.features=24", "config.losses.clip compares branch 'image', which has 32 numbers", "has 24"),
    ("export=('hugingface',)", "config.export=hugingface: unknown format; did you mean huggingface?"),
    ("batch_size=1", "config.batch_size=1 leaves config.losses.clip nothing to tell an example from"),
    ("batch_size=80000", "batch_size=80000", "lower batch_size"),
    ("batch_size=60", "config.batch_size=60 does not divide over 8 devices", "64"),
    ("microbatch=5", "config.microbatch=5 does not divide the 8 examples", "config.batch_size=64"),
    ("mode=out_of_cor", "config.mode=out_of_cor", "did you mean out_of_core?"),
    ("mode=out_of_core", "config.mode=out_of_core", "config.microbatch is None: give a divisor of 8"),
    ("mesh.data=3", "config.mesh (data=3, fsdp=1, tensor=1)", "8 devices"),
    ("mesh.tensor=8", "encoders/image/", "axis 'heads' of size 4 does not divide over 8 devices"),
    ("frozen=('encoders/imge/*',)", "config.frozen", "did you mean encoders/image/*?"),
    ("processes.lost_seconds=1", "config.processes: lost_seconds=1: give 5 or more"),
    ("checkpoint.every=15m", "config.checkpoint.every=15m", "as 15min"),
    ("checkpoint.keep_every=0", "config.checkpoint.keep_every=0: give 1 or more"),
    ("checkpoint.best=retreival/R@5", "config.checkpoint.best=retreival/R@5", "did you mean retrieval?"),
    ("data.stall_seconds=0", "config.data.stall_seconds=0.0: give a positive number"),
    ("logging.peak_flops=-1", "config.logging.peak_flops=-1: give a positive number"),
    ("data.source=glyfs", "config.data.source", "unknown kind 'glyfs'; did you mean glyphs?"),
    ("data.source=glyphs:held", "did you mean held_out?"),
    ("data.source=jsonl:/nowhere.jsonl", "config.data.source", "no file /nowhere.jsonl"),
    ("evaluation.source=jsonl:/nowhere.jsonl", "config.evaluation.source", "no file /nowhere.jsonl"),
    ("evaluation.evaluators.retrieval.right=('pictur',)", "evaluators.retrieval", "did you mean picture?"),
]
CASES = [
    *LINES,
    *((["train", "--config", file, "--workdir", "{run}"], *words) for file, *words in CONFIG_FILES),
    *(([*TRAIN, f"--config.{text}"], *words) for text, *words in OVERRIDES),
    *(
        (["train", "--config", GLYPHS, "--workdir", place], f"--workdir {place}", "cannot be used")
        for place in ("/proc/run", "/sys/run", "/dev/null/run")
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[0][-2:]) or "nothing")
def test_refused_before_anything_is_made(in_process, tmp_path, case):
    arguments, *words = case
    folder = tmp_path / "new" / "run"
    refused(in_process(*(text.replace("{run}", str(folder)) for text in arguments)), *words)
    assert not folder.parent.exists()


@pytest.mark.command
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--confg", "x"], ["did you mean --config?"]),
        (["--config.stepz=3"], ["did you mean steps?"]),
        (["--config.steps=many"], ["--config.steps=many: give a whole number"]),
        (["--config.data.source=jsonl:/nowhere.jsonl"], ["no file /nowhere.jsonl"]),
        # The same in processes of their own as in this one, above.
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (["--config.batch_size=60"], ["does not divide over 8 devices"]),
                (["--config.microbatch=3"], ["config.microbatch=3 does not divide"]),
                (["--workdir=/dev/null/run"], ["--workdir /dev/null/run cannot be used"]),
                (["--config.mesh.fsdp=3"], ["does not multiply to 8 devices"]),
            )
        ),
    ],
    ids=lambda value: value[0],
)
def test_the_real_command_refuses_in_one_line(command, tmp_path, arguments, words):
    arguments = ["train", "--config", GLYPHS, "--workdir", tmp_path / "run", *arguments]
    refused(command(*arguments, devices=8), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere", ["line 1", "ModuleNotFoundError", "nowhere"]),
        ("def get_config(arg):\n    return 1 / 0\n", ["line 2", "ZeroDivisionError"]),
        ("def get_config(arg):\n    raise ValueError('a\\nb')\n", ["line 2", "a b"]),
        ("def get_config(arg:\n", ["line 1", "SyntaxError"]),
        ("steps = 3", ["defines get_config(arg), and this one does not"]),
        ("def get_config(arg):\n    return {}\n", ["returned a dict"]),
        ("\0", ["config.py"]),
    ],
)
def test_config_files_that_fail(in_process, tmp_path, text, words):
    file = tmp_path / "config.py"
    file.write_text(text)
    refused(in_process("train", "--config", str(file), "--workdir", str(tmp_path / "run")), str(file), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["", "[]", "3", '{"steps": 3}', '{"stepz": 3}', "\0"])
def test_eval_of_a_folder_that_is_no_run(in_process, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    refused(in_process("eval", "--workdir", str(tmp_path)), str(tmp_path))


@pytest.mark.command
@pytest.mark.slow
def test_a_model_that_no_memory_holds(command, tmp_path):
    line = ["train", "--config", GLYPHS, "--workdir", tmp_path / "run"]
    code, _, err = command(*line, "--config.encoders.text.width=524288")
    assert code == 1, err
    told = err.splitlines()[-1]
    assert re.match(r"contrastive-jax: out of memory \(.*Out of memory allocating \d{13} bytes", told), err
    assert "lower batch_size, microbatch or --batch" in told


def kernels_that_fail(options):
    """What `embed --batch 200000` ends with under `ulimit -v 6000000`."""
    raise jax.errors.JaxRuntimeError("INTERNAL: YNNPACK operation failed: error")


@pytest.mark.parametrize(
    ("wants", "told"),
    [
        (lambda options: jnp.zeros(10**15).block_until_ready(), "Out of memory allocating 4000000000000000"),
        (kernels_that_fail, "out of memory (INTERNAL: YNNPACK operation failed: error): lower batch_size"),
        (lambda options: np.zeros(10**15), "out of memory (Unable to allocate 7.11 PiB for an array"),
        (lambda options: [None] * sys.maxsize, "out of memory: lower batch_size"),
    ],
)
def test_a_command_that_no_memory_holds(in_process, monkeypatch, wants, told):
    monkeypatch.setattr("contrastive_jax.commands.data.run", wants)
    refused(in_process("data", "inspect", "--source", "digits"), told, code=1)


def test_a_folder_of_other_files_is_left_alone(in_process, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    result = in_process("train", "--config", GLYPHS, "--workdir", str(tmp_path))
    refused(result, "thesis.txt", "give a new or empty folder")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.command
def test_help_is_quick_and_imports_neither_jax_nor_flax(command):
    durations = []
    for arguments in (["--help"], ["train", "--help"], ["eval", "--help"]):
        began = time.perf_counter()
        code, out, err = command(*arguments)
        durations.append(time.perf_counter() - began)
        assert (code, err) == (0, "")
        assert "usage: contrastive-jax" in out
    assert min(durations) < 0.5
    check = (
        "import sys; from contrastive_jax.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "print({'jax', 'flax', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "set()\n")
