"""The lines of `embed`, `search` and `export`."""

from __future__ import annotations

from contrastive_jax.commands.arguments.parser import Parser, add_checkpoint, add_source, filled, local, whole

FORMATS = ("safetensors", "open_clip", "huggingface", "sentence-transformers", "jax")
DTYPES = ("float32", "int8", "binary")


def embed(command: Parser) -> None:
    command.epilog = "Exit codes: 0 done, 2 the input is wrong, 75 stopped early (run it again), 1 other."
    add_checkpoint(command)
    add_source(command)
    command.add_argument("--branch", required=True, metavar="NAME", help="that embeds the records")
    command.add_argument(
        "--output", required=True, type=local, metavar="FILE", help="ends in .parquet, or in .npy"
    )
    command.add_argument("--dtype", choices=DTYPES, default="float32", help="of the numbers; float32")
    command.add_argument("--batch", type=whole(1), metavar="N", help="records at a time")
    command.add_argument(
        "--part", type=whole(1), default=16384, metavar="N", help="records that a kill may cost; 16384"
    )


def search(command: Parser) -> None:
    add_checkpoint(command)
    command.add_argument("query", type=filled, help="a text, or the path of a picture")
    add_source(command, required=False, what="what is searched; that of --index, or the one evaluated on")
    command.add_argument(
        "--index", type=local, metavar="FILE", help="embeddings that `embed` wrote; made by default"
    )
    command.add_argument("--branch", metavar="NAME", help="that embeds the records")
    command.add_argument("--query-branch", metavar="NAME", help="that embeds the query")
    command.add_argument("--k", type=whole(1), default=10, metavar="N", help="records wanted; 10")
    command.add_argument(
        "--approximate", action="store_true", help="by a usearch index, for large sets; its recall is stated"
    )
    command.add_argument("--output", type=local, metavar="DIR", help="for the contact sheet")
    command.add_argument("--batch", type=whole(1), metavar="N", help="records embedded at a time")


def export(command: Parser) -> None:
    add_checkpoint(command)
    command.add_argument("--format", required=True, choices=FORMATS, help="whose files are written")
    command.add_argument(
        "--branch", action="append", metavar="NAME", help="only this one; may be repeated; all by default"
    )
    command.add_argument("--output", required=True, type=local, metavar="DIR", help="a new or empty folder")
