"""`contrastive-jax search`: the records of a source that are nearest to a text or a picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import IO, Any

from contrastive_jax.commands.output import console, progress, reserved_stdout, shown
from contrastive_jax.errors import DONE, InputError, kind_of
from contrastive_jax.written import encodable, printable

_TEXT_FIELDS = ("text", "docstring", "title")
_LETTERS = 300  # of a text in the JSON


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        found, results = _search(options)
        if options.json:
            results = [{k: v for k, v in one.items() if k != "content"} for one in results]
            print(json.dumps({**found, "results": results}, ensure_ascii=False, default=str), file=stream)
        else:
            _table(stream, found, results)
        return DONE


def _search(options) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import jax

    from contrastive_jax.commands.embed import check_source
    from contrastive_jax.evaluation.asking import choose_branches, picture_of
    from contrastive_jax.evaluation.embedding import Listed
    from contrastive_jax.training.stores.paths import place
    from contrastive_jax.training.trained import open_experiment, restore

    if options.approximate and options.index is None:
        raise InputError("--approximate: give --index, a file that `contrastive-jax embed` wrote")
    path = place(options.workdir)
    experiment = open_experiment(path)
    stored = _index(options)
    branch = options.branch or (stored and stored.metadata["branch"])
    picture = picture_of(options.query)
    query_branch, branch = choose_branches(
        experiment.graph.branches,
        experiment.config.data.views,
        compared(experiment.config),
        picture is not None,
        options.query_branch,
        branch,
    )
    check_compared("--query-branch", query_branch, "--branch", branch, experiment.graph)
    spec, source = _source(options, stored, experiment)
    if stored is None:
        check_source("--source", source, branch, experiment)
    trained = restore(path, experiment, options.step)
    with jax.set_mesh(experiment.mesh):
        embed = trained.embedder(options.batch)
        if stored is None:
            stored = _embedded(embed, branch, source)
        else:
            _check_index(options, stored, branch, trained, spec, source)
        if picture is None:
            query = embed.texts(query_branch, [options.query])
        else:
            view = embed.view(query_branch)
            query = embed(query_branch, Listed("query", [{view.field: picture.under(view)}]))
        found = {"workdir": str(path), "step": trained.step, "query": options.query}
        found |= {
            "query_branch": query_branch,
            "branch": branch,
            "source": spec,
            "records": len(stored),
        }
        scores, rows, how = _nearest(options, stored, query, experiment.mesh)
    results = list(_results(stored, source, scores[0], rows[0], embed.view(branch).field))
    if options.output:
        how["contact_sheet"] = _write_sheet(options, picture, results)
    return found | how, results


def compared(config) -> list[tuple[str, ...]]:
    """The pairs of branches that an evaluator compares, or else a loss."""
    evaluators = config.evaluation.evaluators.values() if config.evaluation else ()
    return [tuple(part.branches[:2]) for part in (*evaluators, *config.losses.values())]


def check_compared(flag: str, name: str, other_flag: str, other: str, graph) -> None:
    """Raises InputError for two branches that are not of one width, or that are not there."""
    from contrastive_jax.evaluation.embedding import staged_width

    one, two = staged_width(graph, name), staged_width(graph, other)
    if one != two:
        raise InputError(
            f"{flag} {name} has {one} numbers and {other_flag} {other} has {two}: give two of one width, or "
            f"cut the wider one, as in {(other if two > one else name).partition('@')[0]}@{min(one, two)}"
        )


def _index(options):
    from contrastive_jax.evaluation.embeddings import Embeddings

    if options.index is None:
        return None
    try:
        stored = Embeddings(options.index)
    except InputError as error:
        raise InputError(f"--index {error}") from error
    if not {"branch", "model", "step", "source"} <= stored.metadata.keys():
        raise InputError(f"--index {options.index}: it is a part of a file that `embed` has not finished")
    return stored


def _check_index(options, stored, branch: str, trained, spec: str, source) -> None:
    from contrastive_jax.data.contents import difference, from_json
    from contrastive_jax.training.fingerprint import fingerprint

    there = stored.metadata
    if there["branch"] != branch:
        raise InputError(f"--branch {branch}: --index {options.index} is of the branch {there['branch']}")
    if there["model"] != fingerprint(trained):
        raise InputError(
            f"--index {options.index} is of another model (step {there['step']} of {there['workdir']}, not "
            f"step {trained.step} of {trained.path}): give its --step, or embed again"
        )
    if there["source_records"] != len(source):
        raise InputError(
            f"--index {options.index} is of {there['source_records']} records and {there['source']} has "
            f"{len(source)}: it has changed; embed again"
        )
    # Of records from elsewhere, perhaps in another form, the keys are compared later.
    known = from_json(there["data"]) if "data" in there and spec == there["source"] else None
    if known is not None and (words := difference(source.contents(), known)):
        raise InputError(f"--index {options.index}: {words}: the source has changed; embed again")


def _source(options, stored, experiment):
    from contrastive_jax.data.sources import open_source

    evaluation = experiment.config.evaluation
    spec = options.source or (stored and stored.metadata["source"]) or (evaluation and evaluation.source)
    if spec is None:
        raise InputError("--source: give the records to search; the config has no evaluation.source")
    return spec, open_source(spec)


def _embedded(embed, branch: str, source):
    """Every record's embedding, in memory."""
    from contrastive_jax.evaluation.bulk import Bulk
    from contrastive_jax.evaluation.embeddings import Held

    print(
        f"embedding {len(source)} records of {source.name}; `embed` does it once, for --index",
        file=sys.stderr,
    )
    with progress("records", len(source)) as advance:
        bulk = Bulk(embed, branch, source, advance)
        try:
            part, broken = bulk(range(len(source)))
        finally:
            bulk.close()
    if not part.keys:
        raise InputError(f"{source.name}: not one of its {len(broken)} records can be read")
    return Held(part)


def _nearest(options, stored, query, mesh):
    """(scores, rows, how they were found)."""
    from contrastive_jax.evaluation.stored_search import nearest

    if not options.approximate:
        return *nearest(stored, query, options.k, mesh), {"method": "exact"}
    from contrastive_jax.evaluation.approximate import Approximate

    index = Approximate(stored, mesh)
    answer = index.nearest(query, options.k)
    if index.built:
        print(f"built {index.path}: recall@10 {index.recall:.4f} of exact search", file=sys.stderr)
    return *answer, {"method": "approximate", "recall@10": index.recall}


def _results(stored, source, scores, rows, field: str):
    from contrastive_jax.data.records import BrokenRecord

    found = [(score, row) for score, row in zip(scores.tolist(), rows.tolist()) if row >= 0]
    for rank, (score, row) in enumerate(found, 1):
        number, key = int(stored.records[row]), stored.keys[row]
        result = {"rank": rank, "score": round(score, 6), "record": number, "key": key}
        try:
            record = source[number]
        except BrokenRecord as error:
            yield {**result, "broken": str(error), "content": "cannot be read"}
            continue
        if encodable(str(record.get("key", number))) != key:
            raise InputError(
                f"record {number} of {source.name} is {record.get('key')!r} and was {key!r} when it was "
                "embedded: the source has changed; embed again"
            )
        plain = {name: _plain(value) for name, value in record.items() if not _raw(value)}
        yield {**plain, **result, "content": record.get(field, "")}


def _raw(value: Any) -> bool:
    return isinstance(value, bytes) or getattr(value, "ndim", 0) > 0


def _plain(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LETTERS:
        return f"{value[: _LETTERS - 1]}…"
    return value.item() if hasattr(value, "item") else value


def _write_sheet(options, picture, results) -> str:
    from contrastive_jax.evaluation.cells import Cell, sheet

    folder = Path(options.output)
    cells = [Cell(picture.content if picture else options.query, "query")]
    for one in results:
        cells.append(Cell(one["content"], f"{one['rank']}. {one['score']:.3f} {_words(one)}"))
    file = folder / "search.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sheet(cells, f"nearest to {shown(options.query)}", columns=6).savefig(file, dpi=110)
    except OSError as error:
        raise kind_of(error)(f"--output {folder} cannot be used ({error.strerror or error})") from error
    return str(file)


def _name(one: dict[str, Any]) -> str:
    """What a result is called: a function by its qualified name, all else by its key."""
    return str(one.get("qualified_name") or one["key"])


def _words(one: dict[str, Any]) -> str:
    """What a result says: the first of its texts, or its key."""
    from contrastive_jax.data.views.text import strings

    texts = strings([*(one.get(name) for name in _TEXT_FIELDS), one["content"]])
    return next(filter(None, texts), str(one["key"]))


def _table(stream: IO[str], found: dict[str, Any], results: list[dict[str, Any]]) -> None:
    from rich.table import Table

    out = console(stream, wide=160)
    table = Table("", "score", "record", "text", box=None, show_edge=False)
    for one in results:
        cells = str(one["rank"]), f"{one['score']:.3f}", _name(one), shown(_words(one), 80)
        table.add_row(*(_unmarked(cell) for cell in cells))
    out.print(table)
    for one in results:
        if "file" in one and "line" in one:  # not in the table, which would break a long path in two
            place = f"{one['rank']:>3}  {one['file']}:{one['line']}"
            out.print(printable(place), soft_wrap=True)
    how = f"{found['method']} search of {found['records']} records of {found['source']}"
    if "recall@10" in found:
        how += f" (recall@10 {found['recall@10']:.4f})"
    out.print(printable(f"{how}, branch {found['branch']}, step {found['step']}"), soft_wrap=True)
    if "contact_sheet" in found:
        out.print(printable(f"see {found['contact_sheet']}"), soft_wrap=True)


def _unmarked(text: str):
    from rich.text import Text

    return Text(printable(text), overflow="fold")
