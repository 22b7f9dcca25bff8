"""`contrastive-jax <command>`: reads the command line, and imports a command's code only to run it."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from contrastive_jax import __version__
from contrastive_jax.errors import FAILED, WRONG_INPUT, CommandError, InputError

COMMANDS = {
    "train": "train or resume",
    "eval": "run the evaluators on a checkpoint",
    "plan": "what a config needs of machines, before they are paid for",
    "bench": "measure the loss or the train step on this machine",
}
FLAGS = {
    None: ("--help", "--version"),
    "train": (
        *("--config", "--workdir", "--extend", "--profile"),
        *("--coordinator", "--processes", "--process-id", "--json", "--help"),
    ),
    "eval": ("--workdir", "--evaluator", "--step", "--json", "--help"),
    "plan": ("--config", "--topology", "--devices", "--search", "--json", "--help"),
    "bench": ("--help",),
    "bench loss": (
        *("--batch", "--dim", "--loss", "--dtype", "--scale", "--mesh", "--block", "--backend"),
        *("--communication", "--keep", "--against", "--peer-python", "--runs", "--json", "--help"),
    ),
    "bench step": ("--config", "--batch", "--microbatch", "--mesh", "--runs", "--json", "--help"),
}
_WITH_OVERRIDES = ("train", "plan", "bench step")


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="contrastive-jax", description="Contrastive pre-training in JAX.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"contrastive-jax {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command", required=True, parser_class=Parser)
    train = commands.add_parser(
        "train",
        help=COMMANDS["train"],
        allow_abbrev=False,
        epilog="--config.KEY=VALUE overrides a key of the config, as --config.optimizer.learning_rate=1e-3. "
        "Exit codes: 0 done, 2 the input is wrong, 75 stopped early (run the same command again), 1 other.",
    )
    train.add_argument(
        "--config", required=True, metavar="FILE[:ARGUMENTS]", help="such as configs/glyphs.py:loss=sigmoid"
    )
    train.add_argument(
        "--workdir", required=True, metavar="DIR", help="where the run lives; resumed if it has begun"
    )
    train.add_argument("--extend", action="store_true", help="let a run that is there go on to more steps")
    train.add_argument(
        "--profile", metavar="START:STOP", help="trace these steps into the work directory's profile/"
    )
    train.add_argument(
        "--coordinator", metavar="HOST:PORT", help="of process 0, where no launcher tells it by itself"
    )
    train.add_argument("--processes", type=_whole(1), metavar="N", help="of the run, with --coordinator")
    train.add_argument("--process-id", type=_whole(0), metavar="I", help="of this process, 0 to N - 1")
    evaluate = commands.add_parser("eval", help=COMMANDS["eval"], allow_abbrev=False)
    evaluate.add_argument("--workdir", required=True, metavar="DIR", help="of a run")
    evaluate.add_argument(
        "--evaluator", action="append", metavar="NAME", help="only this one; may be repeated"
    )
    evaluate.add_argument(
        "--step", type=int, metavar="N", help="the checkpoint of this step; the newest by default"
    )
    for command in (train, evaluate, _plan(commands), *_bench(commands)):
        command.add_argument(
            "--json", action="store_true", help="print one JSON object on the last line of stdout"
        )
    return top


def _plan(commands) -> Parser:
    plan = commands.add_parser("plan", help=COMMANDS["plan"], allow_abbrev=False)
    plan.add_argument("--config", required=True, metavar="FILE[:ARGUMENTS]", help="as for train")
    plan.add_argument(
        "--topology", metavar="SLICE", help="a TPU slice that need not be there, such as v5p:8x8x16"
    )
    plan.add_argument(
        "--devices", type=_whole(1), metavar="N", help="virtual ones of the CPU; neither: the devices here"
    )
    plan.add_argument(
        "--search", action="store_true", help="try microbatches, remat and meshes for the cheapest that fits"
    )
    return plan


def _bench(commands) -> tuple[Parser, Parser]:
    bench = commands.add_parser("bench", help=COMMANDS["bench"], allow_abbrev=False)
    nouns = bench.add_subparsers(dest="noun", metavar="noun", required=True, parser_class=Parser)
    loss = nouns.add_parser(
        "loss", help="one loss, forward and backward, beside other libraries", allow_abbrev=False
    )
    pairs = dict(type=_whole(2), metavar="N")
    loss.add_argument("--batch", default=4096, help="pairs; 4096", **pairs)
    loss.add_argument("--dim", default=512, type=_whole(1), metavar="N", help="numbers an embedding; 512")
    loss.add_argument("--loss", choices=("softmax", "sigmoid"), default="softmax")
    loss.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the embeddings")
    loss.add_argument("--scale", type=_scale, metavar="X", help="factor of the logits; 14.3 or 10")
    loss.add_argument("--block", metavar="N[,N]", help="rows and columns a tile")
    loss.add_argument("--backend", choices=("scan", "pallas"))
    loss.add_argument("--communication", choices=("ring", "gather"))
    loss.add_argument(
        "--keep", metavar="auto|off|BYTES", help="bytes that products kept for the backward sweep may take"
    )
    loss.add_argument(
        "--against",
        metavar="NAME[,NAME]",
        help="dense, optax, open_clip, sentence-transformers, inf_cl, siglip_kernel",
    )
    loss.add_argument("--peer-python", metavar="FILE", help="a Python that has torch and the libraries")
    step = nouns.add_parser("step", help="the train step of a config", allow_abbrev=False)
    step.add_argument("--config", required=True, metavar="FILE[:ARGUMENTS]", help="as for train")
    step.add_argument("--batch", help="in place of the config's batch_size", **pairs)
    step.add_argument("--microbatch", type=_whole(1), metavar="N", help="in place of the config's")
    for noun in (loss, step):
        noun.add_argument(
            "--mesh", metavar="data=N,fsdp=N", help="devices along each axis; on a CPU they are virtual"
        )
        noun.add_argument(
            "--runs", type=_whole(7), default=7, metavar="N", help="in turn; the fastest counts"
        )
    return loss, step


def _whole(least: int):
    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text[:20]) < 2**31:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from {least} to {2**31 - 1}")

    return parse


def _scale(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1000:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}: give a number over 0 and up to 1000")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed line; `overrides` holds (dotted key, text) of every --config.key=value."""
    command = next((c for c in (" ".join(arguments[:2]), *arguments[:1]) if c in FLAGS), None)
    # Before argparse, which would call the flag that was meant missing and not name the misspelt one.
    for text in arguments if command else arguments[:1]:
        if text.startswith("--") and text.partition("=")[0] not in FLAGS[command]:
            _check_override(text, command)
    top = parser()
    options, rest = top.parse_known_args(arguments)
    options.overrides = []
    rest = list(rest)
    while rest:
        text = rest.pop(0)
        key, equals, value = text.removeprefix("--config.").partition("=")
        _check_override(text, command)
        if not equals and (not rest or rest[0].startswith("--")):
            raise InputError(f"{text} needs a value: {text}=...")
        options.overrides.append((key, value if equals else rest.pop(0)))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("contrastive_jax").setLevel(logging.INFO)
    # What the compiler says of its own internals is no news to the user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        module = importlib.import_module(f"contrastive_jax.commands.{options.command}")
        return module.run(options)
    except InputError as error:
        print("contrastive-jax:", *str(error).splitlines(), file=sys.stderr)
        return WRONG_INPUT
    except CommandError as error:
        print("contrastive-jax:", *str(error).splitlines(), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


def _check_override(text: str, command: str | None) -> None:
    if text.startswith("--config.") and command in _WITH_OVERRIDES:
        return
    close = difflib.get_close_matches(text.partition("=")[0], FLAGS[command], n=1, cutoff=0.5)
    if text.startswith("--config") and command == "eval":
        hint = ": eval takes the config of the work directory"
    elif close:
        hint = f": did you mean {close[0]}?"
    else:
        hint = f" (see contrastive-jax {command} --help)" if command else " (see contrastive-jax --help)"
    raise InputError(f"unknown argument {text!r}{hint}")
