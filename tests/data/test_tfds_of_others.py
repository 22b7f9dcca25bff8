import json
import os
import re
import shutil
import sys

import pytest
from shades import Shades

from contrastive_jax.data.sources import open_source
from contrastive_jax.data.tfds import TFDS
from contrastive_jax.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Shades(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


WAYS = ("argument", "data_dir", "TFDS_DATA_DIR", "home", "linked version", "linked file")


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module on the path that leaves a file behind when it is imported."""
    sprung, modules = tmp_path / "sprung", tmp_path / "modules"
    modules.mkdir()
    lines = ["import pathlib, tensorflow_datasets as tfds", f"pathlib.Path({str(sprung)!r}).touch()"]
    (modules / "trap_features.py").write_text("\n".join([*lines, "class Text(tfds.features.Text): ..."]))
    monkeypatch.syspath_prepend(str(modules))
    return sprung


@pytest.mark.parametrize("way", WAYS)
def test_classes_of_others_are_not_imported(folder, tmp_path, trap, monkeypatch, way):
    own = "tensorflow_datasets.core.features.text_feature.Text"
    sets, elsewhere = tmp_path / "home" / "tensorflow_datasets", tmp_path / "elsewhere"
    shutil.copytree(folder / "shades", sets / "shades")
    version = sets / "shades" / "1.0.0"
    file = version / "features.json"
    assert own in file.read_text()
    file.write_text(file.read_text().replace(own, "trap_features.Text"))
    source = "tfds:shades/train"
    if way == "argument":
        source = f"tfds:{version}/train"
    elif way == "TFDS_DATA_DIR":
        monkeypatch.setenv("TFDS_DATA_DIR", str(sets))
        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(sets))
    elif way == "home":
        monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(sets))
    else:
        source = f"tfds:shades/train?data_dir={sets}"
    if way == "linked version":
        version.rename(elsewhere)
        version.symlink_to(elsewhere)
    elif way == "linked file":
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"the class 'trap_features\.Text', whose code is not loaded"):
        open_source(source)
    assert not trap.exists()
    assert "trap_features" not in sys.modules


def with_features(folder, tmp_path, change):
    shutil.copytree(folder / "shades", tmp_path / "shades")
    file = tmp_path / "shades" / "1.0.0" / "features.json"
    content = json.loads(file.read_text())
    change(content["featuresDict"]["features"])
    file.write_text(json.dumps(content))
    return f"tfds:{tmp_path}/shades/1.0.0/train"


OF_TFDS = "tensorflow_datasets.core.features"
CHANGES = {
    "another class of TFDS": ({"pythonClassName": "tensorflow_datasets.core.Dataset"}, "code is not loaded"),
    "no class": ({"text": {}}, "code is not loaded"),
    "JSON of its own": (
        {"pythonClassName": f"{OF_TFDS}.class_label_feature.ClassLabel", "jsonFeature": {"json": "{}"}},
        "code is not loaded",
    ),
    "compressed": (
        {
            "pythonClassName": f"{OF_TFDS}.tensor_feature.Tensor",
            "tensor": {"shape": {"dimensions": ["2"]}, "dtype": "int64", "encoding": "zlib"},
        },
        "compressed Tensor",
    ),
    "large": (
        {
            "pythonClassName": f"{OF_TFDS}.tensor_feature.Tensor",
            "tensor": {"shape": {"dimensions": ["100000", "100000"]}, "dtype": "int64", "encoding": "none"},
        },
        "10,000,000,000 values",
    ),
    "a type with a language": (
        {
            "pythonClassName": f"{OF_TFDS}.tensor_feature.Tensor",
            "tensor": {"shape": {}, "dtype": "(1000000,1000000)i4", "encoding": "none"},
        },
        "which is not read",
    ),
    "another's content": (
        {"pythonClassName": f"{OF_TFDS}.sequence_feature.Sequence", "text": {}},
        "cannot be read",
    ),
    "inside": (
        {
            "pythonClassName": f"{OF_TFDS}.sequence_feature.Sequence",
            "sequence": {"feature": {"pythonClassName": "trap_features.Text", "text": {}}, "length": "-1"},
        },
        "the class 'trap_features.Text'",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_descriptions_that_are_not_read(folder, tmp_path, name):
    feature, words = CHANGES[name]
    source = with_features(folder, tmp_path, lambda features: features.update(text=feature))
    with pytest.raises(InputError, match=re.escape(words)) as error:
        open_source(source)
    assert "\n" not in str(error.value)


TEMPLATES = (
    "../{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    "/etc/{SPLIT}",
    "{SPLIT:>99999999999}",
    "{SPLIT.__class__}",
    "{SPLIT}/x",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_files_elsewhere_are_not_read(folder, tmp_path, template):
    shutil.copytree(folder / "shades", tmp_path / "shades")
    file = tmp_path / "shades" / "1.0.0" / "dataset_info.json"
    content = json.loads(file.read_text())
    content["splits"][0]["filepathTemplate"] = template
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="by a template that is not read"):
        open_source(f"tfds:{tmp_path}/shades/1.0.0/train")


def test_what_is_no_file_or_no_json(folder, tmp_path):
    shutil.copytree(folder / "shades", tmp_path / "shades")
    version = tmp_path / "shades" / "1.0.0"
    for name in ("features.json", "dataset_info.json"):
        content = (version / name).read_bytes()
        for damage in (b"{", b"[]", b"[" * 100_000, b'{"a": ' * 100_000):
            (version / name).write_bytes(damage)
            with pytest.raises(InputError, match=rf"{name} cannot be read|is not prepared as"):
                open_source(f"tfds:{version}/train")
        (version / name).unlink()
        os.mkfifo(version / name)
        with pytest.raises(InputError, match="is a pipe, and no regular file"):
            open_source(f"tfds:{version}/train")
        (version / name).unlink()
        (version / name).write_bytes(content)
    (shard,) = version.glob("*array_record*")
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(InputError, match="is no regular file"):
        open_source(f"tfds:{version}/train")


@pytest.mark.parametrize("name", ["../shades", "shades/..", "sha des"])
def test_names_that_leave_the_folder(folder, name):
    with pytest.raises(InputError, match="no name of a set"):
        TFDS(f"{name}/train", str(folder / "shades"))


def test_a_store_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/sets")
    with pytest.raises(
        InputError, match="gs://bucket/sets is no folder of this machine; copy the prepared set"
    ):
        open_source("tfds:mnist/train")
