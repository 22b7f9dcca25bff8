"""What the command makes of a method that is wired wrongly: one line with its key, and nothing is made."""

import pytest
from refusals import CONFIGS, refused

METHODS = f"{CONFIGS}/methods"


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("moco_v2", "memory.keys.size=100", ("config.memory.keys.size=100", "do not divide over 8 devices")),
        ("moco_v2", "memory.keys.size=104", ("config.memory.keys.size=104 is no multiple of the 16", "112")),
        (
            "moco_v2",
            "memory.keys.branch=kee",
            ("config.memory.keys.branch: branch 'kee'", "did you mean key?"),
        ),
        (
            "moco_v2",
            "teachers.key.branch=qery",
            ("config.teachers.key.branch: 'qery'", "did you mean query?"),
        ),
        ("moco_v2", "teachers.key.stage=projektor", ("config.teachers.key.stage", "did you mean projector?")),
        ("moco_v2", "teachers.key.momentum=2", ("config.teachers.key: momentum=2.0", "from 0 to 1")),
        ("moco_v2", "branches.key.teacher=kex", ("config.branches.key.teacher: 'kex'", "did you mean key?")),
        ("moco_v2", "losses.moco.queries=qery", ("config.losses.moco: branch 'qery'", "did you mean query?")),
        ("moco_v2", "losses.moco.keys=query.nose", ("config.losses.moco", "no stage 'nose'")),
        ("moco_v2", "losses.moco.memory=kees", ("config.losses.moco.memory: 'kees'", "did you mean keys?")),
        ("moco_v2", "heads.projector.norm=bach", ("config.heads.projector: norm: 'bach'", "batch")),
        ("moco_v2", "losses.moco.memory_labels=label", ("config.losses.moco.memory_labels", "is one queue")),
        ("moco_v2", "memory.keys.labels=label", ("config.memory.keys: labels=label", "2 or more")),
        ("simcse_unsupervised", "data.views.text.either=('nope',)", ("data.views.text.either", "no field")),
        ("mixed_barlow_twins", "data.views.b.count=2", ("config.branches.mixed.mix=b", "not the shape")),
        ("mixed_barlow_twins", "branches.mixed.mix=c", ("config.branches.mixed.mix: 'c' is unknown",)),
        ("mixed_barlow_twins", "mode=out_of_core", ("config.branches.mixed.mix=b", "out_of_core")),
        ("cacr", "data.views.crops.count=1", ("config.losses.cacr.views", "at least 2 examples")),
        (
            "moco_v2",
            "memory.keys.branch=key.encoder",
            ("config.losses.moco compares branch 'query', which has ", "with 'key.encoder', which has "),
        ),
        (
            "byol",
            "losses.ab.targets=target_b.encoder",
            ("config.losses.ab compares branch 'a', which has", "with 'target_b.encoder', which has "),
        ),
        ("simclr", "data.views.a.count=2", ("branch 'a' gives 2 embeddings", "config.data.views.a.count=2")),
        ("simclr", "batch_size=1", ("config.batch_size=1 leaves config.losses.", "give 2 or more")),
        ("byol", "batch_size=1", ("config.batch_size=1: config.heads.", "norm=batch", "give 2 or more")),
        ("supcon", "losses.supcon.labels=lable", ("config.losses.supcon", "no field 'lable'", "label")),
        ("simclr", "data.views.a.field=picture", ("config.data.views.a.field", "no field 'picture'")),
        ("clip_reident", "batch_size=968", ("batch_size=968", "964 values of class_name")),
        (
            "clip_reident",
            "data.sampler.group=class",
            ("sampler.group='class' is no field", "did you mean class_name?"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_by_its_key(in_process, data_folder, tmp_path, method, changes, words):
    folder = tmp_path / "new" / "run"
    spec = f"{METHODS}/{method}.py:small,data={data_folder}"
    more = ["--config.microbatch=2"] if "out_of_core" in changes else []
    command = "train", "--config", spec, "--workdir", str(folder), f"--config.{changes}", *more
    refused(in_process(*command), *words)
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("lit:stage=foo", "stage=foo"),
        ("contriever:task=foo", "task=foo"),
        ("weak_then_supervised:stage=3", "stage=3"),
        ("siglip:batch=1", "batch=1"),
    ],
)
def test_an_unknown_argument(in_process, tmp_path, method, words):
    name, _, argument = method.partition(":")
    spec = f"{METHODS}/{name}.py:{argument}"
    refused(in_process("train", "--config", spec, "--workdir", str(tmp_path / "run")), words)


def test_an_unknown_ablation(in_process, tmp_path):
    spec = f"{METHODS}/byol.py:ablation=no_teacher"
    refused(
        in_process("train", "--config", spec, "--workdir", str(tmp_path / "run")),
        "ablation=no_teacher",
        "no_predictor",
    )
