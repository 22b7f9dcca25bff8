"""What a run tells while it goes: metrics.jsonl, TensorBoard, a progress bar."""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from google.protobuf.message import DecodeError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from contrastive_jax.training.stored_json import FIGURES, parsed
from contrastive_jax.training.workdir import replace_file
from contrastive_jax.written import encodable

_SECONDS_BETWEEN_LINES = 10.0


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, `step` first; every line is durable once written.

    JSON knows no NaN and no infinity: they are written as `null`.

    Args:
      path: made with the first line; its folder must be there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def append(self, step: int, values: dict[str, Any]) -> None:
        """Adds a line.

        Args:
          step: updates done.
          values: numbers (Python's, numpy's or jax's scalars) and strings by their names.

        Raises:
          ValueError: the file ends in a torn line (`truncate_after` was not called on resuming), or
            `values` names "step".
          TypeError: a value is no number, string or None.
        """
        with open(self.path, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    raise ValueError(f"{self.path} ends in a torn line: call truncate_after before append")
            file.write(_line(step, values))
            file.flush()
            os.fsync(file.fileno())

    def amend(self, step: int, values: dict[str, Any], instead_of: tuple[str, ...] = ()) -> None:
        """Adds `values` to the last line of `step`, or as a line of their own if it has none.

        instead_of: beginnings of names; what is called so in the line goes.
        """
        lines = self.lines()
        places = [place for place, line in enumerate(lines) if line["step"] == step]
        if not places:
            return self.append(step, values)
        kept = {k: v for k, v in lines[places[-1]].items() if not k.startswith(instead_of)}
        lines[places[-1]] = kept | values
        return self._rewrite(lines)

    def truncate_after(self, step: int) -> None:
        """Drops the lines after `step`, and a torn last line: what a run that resumes will write again.

        Raises:
          InputError: another line than the last is damaged.
        """
        if self.path.exists():
            self._rewrite([line for line in self.lines() if line["step"] <= step])

    def lines(self) -> list[dict[str, Any]]:
        """All lines as dictionaries; what follows the last line feed is torn, or nothing."""
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = []
        for number, text in enumerate(content.split(b"\n")[:-1], 1):
            where = f"{self.path}, line {number}"
            lines.append(parsed(text, where, "repair or move the file", FIGURES, flat=True))
        return lines

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        texts = [_line(line["step"], {k: v for k, v in line.items() if k != "step"}) for line in lines]
        replace_file(self.path, b"".join(texts))


def _line(step: int, values: dict[str, Any]) -> bytes:
    if "step" in values:
        raise ValueError("'step' is the name of the step itself: give the value another name")
    plain = {"step": int(step)} | {name: _plain(value) for name, value in values.items()}
    return encodable(json.dumps(plain, allow_nan=False, ensure_ascii=False)).encode() + b"\n"


def _plain(value: Any) -> bool | int | float | str | None:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} is no number, string or None")


class TensorBoard:
    """Scalars for TensorBoard, each step once whatever kills and resumes the run.

    Args:
      folder: made when it is not there.
      resumed_after: the step that was restored. Events after it are taken out of the files that are
        there: some readers let a later file override an earlier one and others show both. None for
        a fresh start.
    """

    def __init__(self, folder: str | os.PathLike[str], resumed_after: int | None = None) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        last = -1 if resumed_after is None else resumed_after
        for file in sorted(folder.glob("events.out.tfevents.*")):
            _drop_events_after(file, last)
        # The name has whole seconds: without the suffix a second start would write over the first.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        # A TensorBoard that is open meanwhile drops what it has read after this step.
        start = Event(wall_time=time.time(), step=last + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.write_event(start)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Writes each number of `values` at `step` and flushes; what is no number is left out."""
        for name, value in values.items():
            number = value.item() if hasattr(value, "item") else value
            if isinstance(number, int | float):
                summary = Summary(value=[Summary.Value(tag=encodable(name), simple_value=number)])
                self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def _records(content: bytes) -> Iterator[tuple[bytes, Event]]:
    """The whole records of an event file with their events; what is torn at its end is left out."""
    start = 0
    while start + 12 <= len(content):
        # TFRecord: length (8 bytes), its checksum (4), the event, its checksum (4).
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length + 4
        if end > len(content):
            return
        try:
            event = Event.FromString(content[start + 12 : end - 4])
        except DecodeError:
            return
        yield content[start:end], event
        start = end


def _drop_events_after(file: Path, step: int) -> None:
    content = file.read_bytes()
    kept = b"".join(record for record, event in _records(content) if event.step <= step)
    if not kept:
        file.unlink()
    elif kept != content:
        replace_file(file, kept)


class Progress:
    """How far training is, on standard error: a bar on a terminal, a plain line now and then elsewhere.

    Args:
      total: steps of the whole run.
      start: steps done before this start.
      description: the words before the bar.
    """

    def __init__(self, total: int, start: int = 0, description: str = "train") -> None:
        self._total, self._description = total, description
        self._printed_at = -math.inf
        self._unprinted: str | None = None
        self._bar: RichProgress | None = None
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(description, total=total, completed=start, loss="", rate="")
            self._bar.start()
            # Shown all the time: a run that is killed cannot bring a hidden cursor back.
            self._bar.console.show_cursor(True)

    def update(self, step: int, values: Mapping[str, Any]) -> None:
        """Shows the state after `step` updates: of `values` loss, pairs_per_second and, if there, mfu."""
        loss_text, rate = f"loss {values['loss']:.4f}", f"{values['pairs_per_second']:,.0f} pairs/s"
        if "mfu" in values:
            rate += f", MFU {values['mfu']:.1%}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=loss_text, rate=rate)
            return
        self._unprinted = f"{self._description}: step {step}/{self._total}, {loss_text}, {rate}"
        if step >= self._total or time.monotonic() - self._printed_at >= _SECONDS_BETWEEN_LINES:
            self._print()

    def close(self) -> None:
        """Ends the bar, or prints the last line if that has not been done."""
        if self._bar is not None:
            self._bar.stop()
        self._print()

    def _print(self) -> None:
        if self._unprinted is not None:
            print(self._unprinted, file=sys.stderr, flush=True)
            self._unprinted, self._printed_at = None, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bar() -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,  # standard output belongs to the command's answer
    )
