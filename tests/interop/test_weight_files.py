"""Folders of weights from elsewhere that would exhaust or stop who reads them."""

import os
import struct

import numpy as np
import pytest

from contrastive_jax.errors import InputError
from contrastive_jax.interop.reading import read
from contrastive_jax.interop.text_folder import write_tensors


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    write_tensors(tmp_path / "model.safetensors", {"a": np.zeros(3, np.float32)})
    return tmp_path


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_json_that_is_nested_without_end(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: no readable JSON"):
        read(folder)


def test_json_that_is_sparse(folder):
    os.truncate(folder / "config.json", 1 << 40)
    with pytest.raises(InputError, match=r"config\.json' has more than 67108864 bytes"):
        read(folder)


def test_a_pipe_for_an_index_is_none(folder):
    os.mkfifo(folder / "model.safetensors.index.json")
    assert read(folder).names == ("a",)


@pytest.mark.parametrize("length", [1 << 60, (1 << 64) - 1, 1 << 30])
def test_a_safetensors_header_longer_than_its_file(folder, length):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(InputError, match=r"model\.safetensors: damaged, or no safetensors"):
        read(folder)


def test_a_tensor_larger_than_its_file(folder):
    header = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match=r"model\.safetensors: damaged, or no safetensors"):
        read(folder)


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_weights_have_the_mode_that_the_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "model.safetensors", {"a": np.zeros(3, np.float32)})
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == mode
