"""`contrastive-jax data`: looks into a source, converts it, balances it, mines hard negatives from it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import IO, Any

from contrastive_jax.commands.output import answer, console, progress, reserved_stdout, shown
from contrastive_jax.errors import DONE, STOPPED_EARLY, CommandError, InputError, kind_of
from contrastive_jax.written import encodable, printable

_CELLS = 48  # of a contact sheet
_LINES = 20  # of each kind of complaint


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        if options.noun == "mine":
            from contrastive_jax.commands.mine import mine

            return mine(options, stream)
        if options.noun == "balance":
            from contrastive_jax.commands.balance import balance

            return balance(options, stream)
        return {"inspect": _inspect, "prepare": _prepare}[options.noun](options, stream)


def _prepare(options, stream: IO[str]) -> int:
    from contrastive_jax.data.contents import as_json
    from contrastive_jax.data.preparation import choose_shards, finish, opened_folder, remaining
    from contrastive_jax.data.shards import Plan
    from contrastive_jax.data.sources import open_source
    from contrastive_jax.distributed.stopping import StopRequest

    if options.beam_option and options.runner != "beam":
        raise InputError(f"--beam-option {options.beam_option[0]}: give --runner beam with it")
    source, folder = open_source(options.source), Path(options.output)
    records, contents = len(source), json.dumps(as_json(source.contents()))
    shards = options.shards or choose_shards(records)
    if shards > records:
        raise InputError(f"--shards {shards}: {options.source} has {records} records")
    plan = Plan(options.source, records, shards, options.resize, contents)
    # A pipeline heeds no such request: a signal ends it, and finished shards stay.
    stopping = StopRequest() if options.runner == "local" else contextlib.nullcontext()
    with stopping as stop, opened_folder(folder, plan):
        left = remaining(folder, plan)
        if len(left) < shards:
            print(f"{folder}: {shards - len(left)} of {shards} shards are there", file=sys.stderr)
        if left and not _write(options, plan, folder, left, lambda: stop.requested is not None):
            print(f"{stop.requested}: run the same command again to go on", file=sys.stderr)
            return STOPPED_EARLY
        made = finish(folder, plan)
    broken = [one for shard in made for one in shard["broken"]]
    written = sum(shard["records"] for shard in made)
    if not written:
        raise CommandError(f"{options.source}: not one record can be read: {broken[0]['why']}")
    for one in broken[:_LINES]:
        print(f"left out: record {one['record']}: {one['why']}", file=sys.stderr)
    figures = {"source": options.source, "records": written, "broken": len(broken), "shards": shards}
    figures |= {"bytes": sum(shard["bytes"] for shard in made), "prepared": f"arrayrecord:{folder}"}
    answer(stream, figures, options.json)
    return DONE


def _write(options, plan, folder: Path, left: list[int], stopped) -> bool:
    if options.runner == "beam":
        from contrastive_jax.data.beam import run_pipeline

        run_pipeline(plan, folder, left, options.beam_option)
        return True
    from contrastive_jax.data.cores import cores
    from contrastive_jax.data.preparation import write_shards

    workers = options.workers if options.workers is not None else cores()
    with progress("shards", len(left)) as advance:
        return write_shards(plan, folder, left, min(workers, len(left)), lambda summary: advance(1), stopped)


def _inspect(options, stream: IO[str]) -> int:
    from contrastive_jax.data.inspection import inspect, spread
    from contrastive_jax.data.sources import open_source

    source = open_source(options.source)
    indices = spread(len(source), None if options.all else options.limit)
    with progress("records", len(indices)) as advance:
        found = inspect(source, indices, advance)
    if options.output:
        _write_report(source, found, Path(options.output))
    if options.json:
        print(json.dumps(found, ensure_ascii=False, default=str), file=stream)
    else:
        _table(stream, found)
    return DONE


def _write_report(source, found: dict[str, Any], folder: Path) -> None:
    """The report, and a contact sheet where a record can be read; `found` then says where the sheet is."""
    from contrastive_jax.data.inspection import spread, written
    from contrastive_jax.data.records import BrokenRecord
    from contrastive_jax.evaluation.cells import cell_of, sheet

    cells = []
    for index in spread(len(source), _CELLS):
        with contextlib.suppress(BrokenRecord):
            fields = source[index].items()
            texts = {name: written(value) for name, value in fields if isinstance(value, str)}
            cells.append(cell_of(dict(fields) | texts))
    file = folder / "contact_sheet.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if cells:
            sheet(cells, f"{source.name}: {len(source)} records").savefig(file, dpi=110)
            found["contact_sheet"] = str(file)
        text = json.dumps(found, indent=1, ensure_ascii=False, default=str)
        (folder / "inspection.json").write_text(f"{encodable(text)}\n", encoding="utf-8")
    except OSError as error:
        raise kind_of(error)(f"--output {folder} cannot be used ({error.strerror or error})") from error


def _table(stream: IO[str], found: dict[str, Any]) -> None:
    from rich.table import Table

    out = console(stream, wide=160)

    def say(line: str) -> None:
        out.print(printable(line), soft_wrap=True)

    say(
        f"{found['source']}: {found['records']} records, {found['read']} read, {found['broken']} broken, "
        f"{found['duplicate_keys']} keys twice"
    )
    table = Table("field", "type", "missing", "empty", "range", "examples", box=None)
    for name, field in found["fields"].items():
        types = ", ".join(field["types"])
        counts = str(field["missing"] or ""), str(field["empty"] or "")
        examples = " | ".join(shown(example, 40) for example in field["examples"])
        table.add_row(*map(printable, (name, types, *counts, _range(field), examples)))
    out.print(table)
    for name, pictures in found["pictures"].items():
        sizes = " x ".join("-".join(map(str, dict.fromkeys(pictures[side]))) for side in ("width", "height"))
        kinds = ", ".join(
            f"{n} {kind}" for part in ("formats", "modes") for kind, n in pictures[part].items()
        )
        say(f"{name}: {pictures['decoded']} pictures, {sizes} ({kinds})")
    for one in found["broken_records"][:_LINES]:
        say(f"broken: record {one['record']} ({one['key']}): {one['why']}")
    for key in found["duplicate_key_examples"][:_LINES]:
        say(f"key twice: {key}")
    if "contact_sheet" in found:
        say(f"see {found['contact_sheet']}")


def _range(field: dict[str, Any]) -> str:
    if "characters" in field:
        return "{}-{}-{} characters".format(*field["characters"])
    return f"{shown(field['minimum'])} to {shown(field['maximum'])}" if "minimum" in field else ""
