"""`contrastive-jax <command>`: reads the command line, and imports a command's code only to run it."""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence

from contrastive_jax import __version__
from contrastive_jax.commands.arguments import bench, data, models, runs
from contrastive_jax.commands.arguments.parser import Parser, add_json
from contrastive_jax.errors import FAILED, WRONG_INPUT, CommandError, InputError
from contrastive_jax.written import printable

# What each does, and what it takes on its line. Its code is in commands/ under the same name.
COMMANDS = {
    "train": ("train or resume", runs.train),
    "eval": ("run the evaluators on a checkpoint", runs.evaluate),
    "embed": ("the embeddings of a source's records", models.embed),
    "search": ("the records nearest to a text or a picture", models.search),
    "export": ("weights in the formats of other libraries", models.export),
    "data": ("look into a source, convert it, mine hard negatives", data.data),
    "plan": ("what a config needs of machines, before they are paid for", runs.plan),
    "bench": ("measure the loss, the train step or the input on this machine", bench.bench),
}
# The third is what the CPU's own kernels say where they cannot have the memory that they want.
_OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|Out of memory|NNPACK operation failed")
_LESS_MEMORY = (
    "lower batch_size, microbatch or --batch, take mode=out_of_core or a smaller model "
    "(`contrastive-jax plan` says what fits)"
)
_LETTERS = 1800  # of a refusal
_WITH_OVERRIDES = ("train", "plan", "bench step", "bench input")
_OF_A_RUN = ("eval", "embed", "search", "export", "data mine")


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="contrastive-jax", description="Contrastive pre-training in JAX.")
    top.add_argument("--version", action="version", version=f"contrastive-jax {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command", required=True, parser_class=Parser)
    for name, (does, add) in COMMANDS.items():
        command = commands.add_parser(name, help=does)
        add(command)
        if not command.commands():
            add_json(command)
    return top


def _known_flags(top: Parser) -> dict[str | None, tuple[str, ...]]:
    """The flags of every command by its name, those of `bench loss` too; None has those before a command."""
    known: dict[str | None, tuple[str, ...]] = {None: top.flags()}
    for name, command in top.commands().items():
        known[name] = command.flags()
        known |= {f"{name} {noun}": found.flags() for noun, found in command.commands().items()}
    return known


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed line; `overrides` holds (dotted key, text) of every --config.key=value."""
    top = parser()
    known = _known_flags(top)
    command = next((c for c in (" ".join(arguments[:2]), *arguments[:1]) if c in known), None)
    # Before argparse, which would call the flag that was meant missing and not name the misspelt one.
    for text in arguments if command else arguments[:1]:
        if text == "--":
            break
        if text.startswith("--") and text.partition("=")[0] not in known[command]:
            _check_override(text, command, known)
    options, rest = top.parse_known_args(arguments)
    options.overrides = []
    rest = list(rest)
    while rest:
        text = rest.pop(0)
        key, equals, value = text.removeprefix("--config.").partition("=")
        _check_override(text, command, known)
        if not equals and (not rest or rest[0].startswith("--")):
            raise InputError(f"{text} needs a value: {text}=...")
        options.overrides.append((key, value if equals else rest.pop(0)))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code."""
    logging.basicConfig(handlers=[_handler()], level=logging.WARNING)
    logging.getLogger("contrastive_jax").setLevel(logging.INFO)
    # What the compiler says of its own internals is no news to the user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        module = importlib.import_module(f"contrastive_jax.commands.{options.command}")
        return module.run(options)
    except InputError as error:
        _tell(error)
        return WRONG_INPUT
    except CommandError as error:
        _tell(error)
        return FAILED
    except BrokenPipeError:
        print("contrastive-jax: whoever read the answer has gone", file=sys.stderr)
        return FAILED
    except (MemoryError, RuntimeError) as error:
        # The devices' own memory ends in JAX's error, which is known here without importing JAX.
        told = next(iter(str(error).splitlines()), "")
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(told):
            raise
        wanted = f" ({told[:200]})" if told else ""
        _tell(f"out of memory{wanted}: {_LESS_MEMORY}")
        return FAILED
    except KeyboardInterrupt:
        return 130


def _tell(error: Exception | str) -> None:
    text = printable(" ".join(str(error).splitlines()))
    if len(text) > _LETTERS:  # what data hold may be of any length
        text = f"{text[: _LETTERS // 2]} ... {text[-_LETTERS // 2 :]}"
    print("contrastive-jax:", text, file=sys.stderr)


def _handler() -> logging.Handler:
    """Tells each message in one line, whatever names of data stand in it."""

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            lines = super().format(record).split("\n")
            return "\n".join(map(printable, lines))

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(message)s"))
    return handler


def _check_override(text: str, command: str | None, known: Mapping[str | None, Sequence[str]]) -> None:
    if text.startswith("--config.") and command in _WITH_OVERRIDES:
        return
    close = difflib.get_close_matches(text.partition("=")[0], known[command], n=1, cutoff=0.5)
    if text.startswith("--config") and command in _OF_A_RUN:
        hint = f": {command} takes the config of the work directory"
    elif close:
        hint = f": did you mean {close[0]}?"
    else:
        hint = f" (see contrastive-jax {command} --help)" if command else " (see contrastive-jax --help)"
    raise InputError(f"unknown argument {text!r}{hint}")
