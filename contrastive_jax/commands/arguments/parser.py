"""argparse with one-line errors, and the values that several commands take."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import Any, NoReturn

from contrastive_jax.addresses import check_local, check_place
from contrastive_jax.errors import InputError

CONFIG = "FILE[:ARGUMENTS]"
_LARGEST = 2**31 - 1


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **keywords})

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")

    def nouns(self) -> argparse._SubParsersAction:
        """The second words of a command of two, such as `bench loss`."""
        return self.add_subparsers(dest="noun", metavar="noun", required=True, parser_class=Parser)

    def flags(self) -> tuple[str, ...]:
        """Every flag of this command itself."""
        return tuple(flag for flag in self._option_string_actions if flag.startswith("--"))

    def commands(self) -> dict[str, Parser]:
        """The commands below this one, by their names."""
        return {
            name: found
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name, found in action.choices.items()
        }


def whole(least: int) -> Callable[[str], int]:
    """A whole number from `least`, as the type of an argument."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text[:20]) <= _LARGEST:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from {least} to {_LARGEST}")

    return parse


def positive(most: float) -> Callable[[str], float]:
    """A number over 0 and up to `most`, as the type of an argument."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 < float(text) <= most:
                return float(text)
        raise argparse.ArgumentTypeError(f"{text!r}: give a number over 0 and up to {most:g}")

    return parse


def filled(text: str) -> str:
    """A text that is not empty, as the type of an argument."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def local(text: str) -> str:
    """A path on this machine, as the type of an argument."""
    try:
        return check_local(filled(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def place(text: str) -> str:
    """A path on this machine or in a store that a run can live in, as the type of an argument."""
    try:
        return check_place(filled(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_checkpoint(command: Parser) -> None:
    """--workdir and --step: which checkpoint of which run."""
    command.add_argument("--workdir", required=True, type=place, metavar="DIR", help="of a run")
    command.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of this step; the newest by default"
    )


def add_source(command: Parser, required: bool = True, what: str = "") -> None:
    """--source: which records."""
    command.add_argument(
        "--source",
        required=required,
        type=filled,
        metavar="KIND:PATH",
        help=what or "such as jsonl:captions.jsonl or 'webdataset:shards/*.tar'",
    )


def add_json(command: Parser) -> None:
    """--json, which every command takes."""
    command.add_argument(
        "--json", action="store_true", help="print one JSON object on the last line of stdout"
    )
