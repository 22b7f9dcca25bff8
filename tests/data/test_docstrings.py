import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from contrastive_jax.data import docstrings
from contrastive_jax.data.docstrings import Docstrings, Package, held_out
from contrastive_jax.data.functions import functions

SOURCE = b'''# -*- coding: latin-1 -*-
raise SystemExit("it was executed")

@decorated
def outer(x):
    """Adds one to a number.

    At length.
    """
    # caf\xe9
    y = x + 1

    return y

class Thing:
    """Says what it is."""

    def __len__(self):
        """Says how many there are."""
        a = 1
        return a

    async def method(self): # why
        r"""
        Waits for it
        to end: :param x
        Parameters
        ----------
        """
        a = 1
        b = 2
        return a

    def test_nothing(self):
        """Tests nothing at all."""
        a = 1
        return a

if True:
    def inside():
        "Stands in a branch."
        if 1:
            return 2

def undocumented():
    a = 1
    return a

def two_words():
    """Two words."""
    a = 1
    return a

def short():
    """Much too short for us."""
    return 1

def one_line(): "All on one line."; a = 1
'''


def test_functions_are_found_by_parsing_alone():
    found = {function["qualified_name"]: function for function in functions(SOURCE)}
    assert list(found) == ["outer", "Thing.method", "inside"]
    assert found["outer"] == {
        "docstring": "Adds one to a number.",
        "code": "def outer(x):\n    # café\n    y = x + 1\n    return y",
        "name": "outer",
        "qualified_name": "outer",
        "line": 5,
    }
    assert found["Thing.method"]["docstring"] == "Waits for it to end: :param x"
    assert found["Thing.method"]["code"].startswith("async def method(self): # why\n    a = 1")


def test_form_feeds_and_other_ends_of_lines_move_nothing():
    source = 'a = "\u2028"\n\x0c\ndef f(x):\n    """Says what it does."""\n    y = x\n    return y\n'
    for text in (source, source.replace("\n", "\r\n")):
        (found,) = functions(text.encode())
        assert found["code"] == "def f(x):\n    y = x\n    return y"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Three packages instead of those that are here; gives what is read of them."""
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "cache"))
    names = ["one", *[name for name in map("p{}".format, range(100)) if held_out(name)][:1], "two"]
    listed = []
    for name in names:
        path = tmp_path / f"{name}.py"
        own = f'def {name}(x):\n    """Is the function of {name}."""\n    y = x\n    return {name}\n'
        path.write_text(
            own + '\ndef shared(x):\n    """Says the same everywhere."""\n    y = x\n    return y\n'
        )
        listed.append(Package(name, "1.0", str(tmp_path), lambda name=name, path=path: [(name, str(path))]))
    (tmp_path / "two.py").write_bytes(b"def broken(:\n\x00")
    monkeypatch.setattr(docstrings, "packages", lambda: listed)
    return names


def test_packages_are_held_out_whole_and_nothing_comes_twice(installed):
    train, kept, every = (Docstrings(split) for split in docstrings.SPLITS)
    assert train.column("key") == ["one.one:1", "one.shared:6"]
    assert kept.column("key") == [f"{installed[1]}.{installed[1]}:1"]
    assert every.column("key") == train.column("key") + kept.column("key")
    record = kept[0]
    assert (record["package"], record["module"], record["line"]) == (installed[1], installed[1], 1)
    assert Path(record["file"]).read_text().splitlines()[record["line"] - 1].startswith("def ")


def test_only_what_is_new_is_read_again(installed, monkeypatch, caplog):
    Docstrings("train")
    assert "reading 3 source files of 3 installed packages" in caplog.text
    caplog.clear()
    assert len(Docstrings("train")) == 2
    assert not caplog.text
    first, *others = docstrings.packages()
    newer = [dataclasses.replace(first, version="1.1"), *others]
    monkeypatch.setattr(docstrings, "packages", lambda: newer)
    assert len(Docstrings("train")) == 2
    assert "reading 1 source files of 1 installed packages" in caplog.text


def test_what_is_installed_here():
    found = {package.name: package for package in docstrings.packages()}
    assert {"numpy", "jax", "json", "pytest"} <= set(found)
    assert "contrastive-jax" not in found
    assert ("json.decoder", json.decoder.__file__) in found["json"].files()
    paths = dict(found["numpy"].files())
    assert Path(paths["numpy.lib._npyio_impl"]).is_file()
    assert not any("/tests/" in path for path in paths.values())
    assert 0.08 < sum(map(held_out, found)) / len(found) < 0.25


@pytest.mark.slow
def test_the_functions_of_this_environment(tmp_path):
    code = (
        "from contrastive_jax.data.docstrings import Docstrings\n"
        "a, b = Docstrings('train'), Docstrings('held_out')\n"
        "assert not set(a.column('package')) & set(b.column('package'))\n"
        "assert not set(a.column('code')) & set(b.column('code'))\n"
        "print(len(a), len(b))"
    )
    environment = {"CONTRASTIVE_JAX_CACHE": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    train, kept = map(int, done.stdout.split())
    assert train > 10_000
    assert kept > 1_000
