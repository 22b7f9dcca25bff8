"""The lines of `train`, `eval` and `plan`."""

from __future__ import annotations

from contrastive_jax.commands.arguments.parser import CONFIG, Parser, add_checkpoint, place, whole


def train(command: Parser) -> None:
    command.epilog = (
        "--config.KEY=VALUE overrides a key of the config, as --config.optimizer.learning_rate=1e-3. "
        "Exit codes: 0 done, 2 the input is wrong, 75 stopped early (run the same command again), 1 other."
    )
    command.add_argument(
        "--config", metavar=CONFIG, help="such as configs/glyphs.py:loss=sigmoid; by default the run's own"
    )
    command.add_argument(
        "--workdir",
        required=True,
        type=place,
        metavar="DIR",
        help="where the run lives; resumed if it has begun",
    )
    command.add_argument("--extend", action="store_true", help="let a run that is there go on to more steps")
    command.add_argument(
        "--accept-changed-data",
        action="store_true",
        help="let a run that is there go on though its training data are others by now",
    )
    command.add_argument(
        "--profile", metavar="START:STOP", help="trace these steps into the work directory's profile/"
    )
    command.add_argument(
        "--coordinator", metavar="HOST:PORT", help="of process 0, where no launcher tells it by itself"
    )
    command.add_argument("--processes", type=whole(1), metavar="N", help="of the run, with --coordinator")
    command.add_argument("--process-id", type=whole(0), metavar="I", help="of this process, 0 to N - 1")


def evaluate(command: Parser) -> None:
    add_checkpoint(command)
    command.add_argument(
        "--evaluator", action="append", metavar="NAME", help="only this one; may be repeated"
    )


def plan(command: Parser) -> None:
    command.add_argument("--config", required=True, metavar=CONFIG, help="as for train")
    command.add_argument(
        "--topology", metavar="SLICE", help="a TPU slice that need not be there, such as v5p:8x8x16"
    )
    command.add_argument(
        "--devices", type=whole(1), metavar="N", help="virtual ones of the CPU; neither: the devices here"
    )
    command.add_argument(
        "--search", action="store_true", help="try microbatches, remat and meshes for the cheapest that fits"
    )
