"""Paths that are addresses of a store, or look so: refused by name, before a folder `s3:` is made."""

import argparse

import pytest

from contrastive_jax import cli
from contrastive_jax.data import cache
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.trec import check_run_file

OF_A_PATH = ("DIR", "FILE", "FILE.jsonl")
ADDRESSES = ("gd://bucket/run", "s3:/bucket/run", "file:///tmp/run", "simplecache::s3://bucket/run", "S3:/x")


def arguments_of_paths(parser, words=()):
    """(the words of a command, its flag, what else it requires) of every argument that takes a path."""
    for name, command in parser.commands().items():
        yield from arguments_of_paths(command, (*words, name))
    for action in parser._actions:
        if action.metavar in OF_A_PATH:
            others = [other for other in parser._actions if other.required and other is not action]
            yield words, action, others


PATHS = [found for found in arguments_of_paths(cli.parser()) if found[1].dest != "peer_python"]


def test_there_are_such_arguments():
    assert {" ".join((*words, action.dest)) for words, action, _ in PATHS} >= {
        *("train workdir", "eval workdir", "embed workdir", "search workdir", "export workdir"),
        *("embed output", "search output", "search index", "export output"),
        *("data inspect output", "data prepare output", "data balance output", "data balance metadata"),
        *("data mine workdir", "data mine output"),
    }


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    ("words", "action", "others"), PATHS, ids=[" ".join((*words, a.dest)) for words, a, _ in PATHS]
)
def test_what_only_looks_like_an_address_is_refused(words, action, others, address):
    line = [*words]
    for other in others:
        value = other.choices[0] if other.choices else "1"
        line += [*other.option_strings[:1], value]
    flag = action.option_strings[0]
    with pytest.raises(InputError) as error:
        cli.parse([*line, flag, address])
    assert flag in str(error.value)
    assert address in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(cli.parse([*line, flag, f"./{address}"]), argparse.Namespace)


@pytest.mark.parametrize("address", ["s3://bucket/run", "gs://bucket/run"])
@pytest.mark.parametrize(
    ("words", "action", "others"), PATHS, ids=[" ".join((*words, a.dest)) for words, a, _ in PATHS]
)
def test_runs_live_in_stores_and_nothing_else_does(words, action, others, address):
    line = [*words]
    for other in others:
        line += [*other.option_strings[:1], other.choices[0] if other.choices else "1"]
    line += [action.option_strings[0], address]
    if action.dest == "workdir":
        assert cli.parse(line).workdir == address
    else:
        with pytest.raises(InputError, match="only a local path will do here"):
            cli.parse(line)


def test_what_else_names_a_folder(monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", "s3://bucket/cache")
    with pytest.raises(InputError, match="CONTRASTIVE_JAX_CACHE: s3://bucket/cache is an address"):
        cache.folder()
    with pytest.raises(InputError, match="run_file: gs://bucket/run is an address"):
        check_run_file("gs://bucket/run")
