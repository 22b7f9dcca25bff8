"""The lines of `bench loss`, `bench step` and `bench input`."""

from __future__ import annotations

from contrastive_jax.commands.arguments.parser import (
    CONFIG,
    Parser,
    add_json,
    add_source,
    positive,
    whole,
)


def bench(command: Parser) -> None:
    nouns = command.nouns()
    loss = nouns.add_parser("loss", help="one loss, forward and backward, beside other libraries")
    _loss(loss)
    step = nouns.add_parser("step", help="the train step of a config")
    _step(step)
    reading = nouns.add_parser("input", help="examples a second from a source, beside other loaders")
    _input(reading)
    for noun in (loss, step):
        noun.add_argument(
            "--mesh", metavar="data=N,fsdp=N", help="devices along each axis; on a CPU they are virtual"
        )
        noun.add_argument("--runs", type=whole(7), default=7, metavar="N", help="in turn; the fastest counts")
    for noun in (loss, step, reading):
        add_json(noun)


def _loss(loss: Parser) -> None:
    loss.add_argument("--batch", type=whole(2), default=4096, metavar="N", help="pairs; 4096")
    loss.add_argument("--dim", default=512, type=whole(1), metavar="N", help="numbers an embedding; 512")
    loss.add_argument("--loss", choices=("softmax", "sigmoid"), default="softmax")
    loss.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the embeddings")
    loss.add_argument("--scale", type=positive(1000), metavar="X", help="factor of the logits; 14.3 or 10")
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


def _step(step: Parser) -> None:
    step.add_argument("--config", required=True, metavar=CONFIG, help="as for train")
    step.add_argument("--batch", type=whole(2), metavar="N", help="in place of the config's batch_size")
    step.add_argument("--microbatch", type=whole(1), metavar="N", help="in place of the config's")


def _input(reading: Parser) -> None:
    add_source(reading, required=False, what="what is read, such as 'webdataset:shards/*.tar'")
    reading.add_argument("--config", metavar=CONFIG, help="the views and the sampler of this one")
    reading.add_argument("--batch", type=whole(1), metavar="N", help="examples a batch")
    reading.add_argument("--workers", type=whole(0), metavar="N", help="processes that read; 0: a thread")
    reading.add_argument("--resolution", type=whole(1), metavar="N", help="side of the pictures in pixels")
    reading.add_argument("--against", metavar="NAME[,NAME]", help="webdataset")
    reading.add_argument("--peer-python", metavar="FILE", help="a Python that has torch and the libraries")
    reading.add_argument("--runs", type=whole(1), metavar="N", help="in turn; the fastest counts")
    reading.add_argument("--seconds", type=positive(3600), metavar="S", help="of each run")
