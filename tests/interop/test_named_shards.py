"""Files that a folder of weights names: of its own, or of the blobs of the hub's cache, and regular ones."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from contrastive_jax.errors import InputError
from contrastive_jax.interop.reading import INDEX, read


def sharded(folder, name="a.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / INDEX).write_text(json.dumps({"weight_map": {"x": name}}))
    return folder


def tensors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": np.ones(3, np.float32)}, path)


def test_shards_of_the_hubs_cache_are_links_to_its_blobs(tmp_path):
    folder = sharded(tmp_path / "models--o--m" / "snapshots" / "0abc")
    tensors(tmp_path / "models--o--m" / "blobs" / "1234")
    (folder / "a.safetensors").symlink_to("../../blobs/1234")
    assert read(folder)["x"].tolist() == [1, 1, 1]


def test_shards_elsewhere_are_refused(tmp_path):
    folder = sharded(tmp_path / "weights")
    tensors(tmp_path / "other.safetensors")
    (folder / "a.safetensors").symlink_to("../other.safetensors")
    with pytest.raises(InputError, match=r"'a\.safetensors' is a link that leaves the folder"):
        read(folder)


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/x.safetensors", "http://x/a.safetensors", "a.bin"]
)
def test_names_that_are_none_of_the_folder(tmp_path, name):
    with pytest.raises(InputError, match="is no safetensors file of this folder"):
        read(sharded(tmp_path / "weights", name))


def test_pipes_do_not_hang(tmp_path):
    folder = sharded(tmp_path / "weights")
    os.mkfifo(folder / "a.safetensors")
    with pytest.raises(InputError, match="is a pipe"):
        read(folder)
    (folder / "a.safetensors").unlink()
    (folder / INDEX).unlink()
    os.mkfifo(folder / "b.safetensors")
    with pytest.raises(InputError, match="is a pipe"):
        read(folder)


def test_a_config_without_end(tmp_path):
    folder = sharded(tmp_path / "weights")
    with open(folder / "config.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"config\.json' has more than"):
        read(folder)
