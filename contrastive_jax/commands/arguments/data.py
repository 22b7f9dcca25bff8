"""The lines of `data inspect`, `data prepare`, `data balance` and `data mine`."""

from __future__ import annotations

import math

from contrastive_jax.commands.arguments.parser import (
    Parser,
    add_checkpoint,
    add_json,
    add_source,
    filled,
    local,
    positive,
    whole,
)


def data(command: Parser) -> None:
    nouns = command.nouns()
    inspect = nouns.add_parser("inspect", help="what a source holds, and what of it is broken")
    _inspect(inspect)
    prepare = nouns.add_parser("prepare", help="any source as ArrayRecord shards; resumable")
    _prepare(prepare)
    balance = nouns.add_parser("balance", help="which records to keep so that no subject drowns the others")
    _balance(balance)
    mine = nouns.add_parser("mine", help="hard negatives that a checkpoint finds")
    _mine(mine)
    for noun in (inspect, prepare, balance, mine):
        add_json(noun)


def _inspect(inspect: Parser) -> None:
    add_source(inspect)
    inspect.add_argument("--output", type=local, metavar="DIR", help="for a contact sheet and a report")
    number = inspect.add_mutually_exclusive_group()
    number.add_argument(
        "--limit", type=whole(1), default=1000, metavar="N", help="records read, evenly spread; 1000"
    )
    number.add_argument("--all", action="store_true", help="read every record")


def _prepare(prepare: Parser) -> None:
    prepare.epilog = "Exit codes: 0 done, 2 the input is wrong, 75 stopped early (run it again), 1 other."
    add_source(prepare)
    prepare.add_argument("--output", required=True, type=local, metavar="DIR", help="for the shards")
    prepare.add_argument(
        "--shards", type=whole(1), metavar="N", help="one for every 8192 records by default, and 4096 at most"
    )
    prepare.add_argument("--workers", type=whole(0), metavar="N", help="processes; as many as cores")
    prepare.add_argument(
        "--resize", type=whole(1), metavar="PIXELS", help="make the shorter side of larger pictures this long"
    )
    prepare.add_argument(
        "--runner", choices=("local", "beam"), default="local", help="beam: as an Apache Beam pipeline"
    )
    prepare.add_argument(
        "--beam-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the pipeline, such as runner=FlinkRunner; may be repeated",
    )


def _balance(balance: Parser) -> None:
    add_source(balance)
    balance.add_argument(
        "--field", default="text", type=filled, metavar="NAME[,NAME]", help="the texts to match; text"
    )
    balance.add_argument(
        "--metadata", required=True, type=local, metavar="FILE", help="the entries to match with, one a line"
    )
    balance.add_argument(
        "--cap",
        required=True,
        type=positive(math.inf),
        metavar="N",
        help="records that an entry keeps through itself, about; inf: all",
    )
    balance.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of the draws; 0")
    balance.add_argument(
        "--output", required=True, type=local, metavar="FILE", help="keys to keep, for a source's ?keys=FILE"
    )


def _mine(mine: Parser) -> None:
    add_checkpoint(mine)
    add_source(mine, what="records that hold a query and its document, such as beir:folder/train")
    mine.add_argument(
        "--corpus", type=filled, metavar="KIND:PATH", help="further documents, such as jsonl:corpus.jsonl"
    )
    mine.add_argument(
        "--corpus-field", metavar="NAME[,NAME]", help="their text; what the branch reads by default"
    )
    mine.add_argument("--output", required=True, type=local, metavar="FILE.jsonl", help="one line a pair")
    mine.add_argument("--queries", metavar="BRANCH", help="that embeds the queries")
    mine.add_argument("--documents", metavar="BRANCH", help="that embeds the documents")
    mine.add_argument("--negatives", type=whole(1), default=7, metavar="N", help="a query at most; 7")
    mine.add_argument(
        "--ranks", default="0:100", metavar="A:B", help="look at places A to B - 1 of the nearest; 0:100"
    )
    mine.add_argument(
        "--margin",
        metavar="X|P%",
        help="at least X below the positive's score, at most P %% of it, or both: 0.05,95%%; 95%%",
    )
    mine.add_argument("--batch", type=whole(1), metavar="N", help="records embedded at a time")
