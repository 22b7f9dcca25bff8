"""`contrastive-jax data mine`: pairs with hard negatives that a checkpoint found, as JSON lines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from contrastive_jax.commands.embed import check_branch, check_source
from contrastive_jax.commands.output import answer, progress
from contrastive_jax.errors import DONE, CommandError, InputError
from contrastive_jax.written import encodable


def mine(options, stream: IO[str]) -> int:
    """The exit code of the command."""
    import jax

    from contrastive_jax.commands.search import check_compared, compared
    from contrastive_jax.evaluation.asking import choose_branches
    from contrastive_jax.evaluation.mining import Rule
    from contrastive_jax.evaluation.mining import mine as mined
    from contrastive_jax.training.stores.paths import place
    from contrastive_jax.training.trained import open_experiment, restore

    rule = Rule.of(options.negatives, options.ranks, options.margin)
    path, output = place(options.workdir), _checked_output(Path(options.output))
    experiment = open_experiment(path)
    for flag, name in (("--queries", options.queries), ("--documents", options.documents)):
        if name is not None:
            check_branch(flag, name, experiment)
    config = experiment.config
    try:
        names = choose_branches(
            *(config.branches, config.data.views, compared(config), False, options.queries, options.documents)
        )
    except InputError as error:
        text = str(error).replace("--query-branch", "--queries").replace("--branch", "--documents")
        raise InputError(text) from None
    check_compared("--queries", names[0], "--documents", names[1], experiment.graph)
    pairs = _pairs(options, experiment, names)
    trained = restore(path, experiment, options.step)
    with jax.set_mesh(experiment.mesh):
        embed = trained.embedder(options.batch)
        queries = _embedded(embed, names[0], pairs.queries, "queries")
        documents = _embedded(embed, names[1], pairs.documents.texts, "documents")
        fields = [embed.view(name).field for name in names]
        figures = _write(output, pairs, mined(pairs, queries, documents, rule, experiment.mesh), fields)
    figures = {
        "workdir": str(path),
        "step": trained.step,
        "queries": names[0],
        "documents": names[1],
    } | figures
    answer(
        stream, {**figures, "output": str(output), "mined": f"jsonl:{output}?keep=negatives"}, options.json
    )
    return DONE


def _checked_output(output: Path) -> Path:
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}")
    return output


def _pairs(options, experiment, names: Sequence[str]):
    """The texts of the source's records, and of the corpus."""
    from contrastive_jax.data.sources import open_source
    from contrastive_jax.data.views import Text
    from contrastive_jax.evaluation.embedding import staged
    from contrastive_jax.evaluation.mining import Pairs
    from contrastive_jax.evaluation.texts import seen_texts

    graph, views = experiment.graph, experiment.config.data.views
    query, document = (views[graph.branches[staged(graph, name)[0]].view] for name in names)
    for flag, name, view in (("--queries", names[0], query), ("--documents", names[1], document)):
        if not isinstance(view, Text):
            raise InputError(f"{flag} {name}: it reads pictures, and negatives are mined among texts")
    if query.field == document.field:
        raise InputError(
            f"--queries {names[0]} and --documents {names[1]} both read the field {query.field!r}: "
            "a pair has two fields"
        )
    source, pairs = open_source(options.source), Pairs()
    for name in names:
        check_source("--source", source, name, experiment)
    texts = (seen_texts(source, view, view.shown) for view in (query, document))
    identifiers = _column(source, "document_id"), _column(source, "query_id")
    for record, pair in enumerate(zip(*texts, *identifiers)):
        pairs.add(record, *pair)
    keys = enumerate(_column(source, "key"))
    pairs.keys = [encodable(str(record if key is None else key)) for record, key in keys]
    if not pairs.records:
        raise InputError(f"--source {options.source}: no record has both {query.field} and {document.field}")
    if options.corpus is not None:
        corpus = open_source(options.corpus)
        fields = options.corpus_field.split(",") if options.corpus_field else document.shown
        identifiers = _identifiers(corpus)
        for text, identifier in zip(seen_texts(corpus, document, fields), identifiers):
            if text.strip():
                pairs.documents.add(text, identifier)
    elif options.corpus_field:
        raise InputError(f"--corpus-field {options.corpus_field}: give --corpus with it")
    return pairs


def _identifiers(corpus) -> Sequence[Any]:
    """What documents go by: their `_id`, or keys of their own; numbers of lines are none."""
    with contextlib.suppress(KeyError):
        return corpus.column("_id")
    keys = _column(corpus, "key")
    return [None] * len(corpus) if list(map(str, keys)) == list(map(str, range(len(keys)))) else keys


def _column(source, *names: str) -> Sequence[Any]:
    """The first of these fields that there is, of all records; else None for each."""
    for name in names:
        with contextlib.suppress(KeyError):
            return source.column(name)
    return [None] * len(source)


def _embedded(embed, branch: str, texts: Sequence[str], what: str):
    """[n, d] of texts; the view puts its other fields behind the first, so a joined text is all it needs."""
    from contrastive_jax.evaluation.bulk import Bulk
    from contrastive_jax.evaluation.embedding import Listed

    listed = Listed(what, [{embed.view(branch).field: text} for text in texts])
    with progress(what, len(texts)) as advance:
        bulk = Bulk(embed, branch, listed, advance)
        try:
            part, broken = bulk(range(len(texts)))
        finally:
            bulk.close()
    if broken:
        raise InputError(f"{what}: {texts[broken[0][0]][:60]!r}: {broken[0][1]}")
    return part.embeddings


def _write(output: Path, pairs, mined, fields: Sequence[str]) -> dict[str, Any]:
    """Writes a line a pair, all or none of them; what there is to say of them."""
    from contrastive_jax.locking import write_atomically

    lines, counts, too_near, texts = [], [], 0, pairs.documents.texts
    for one in mined:
        line = {
            "key": pairs.keys[one.record],
            fields[0]: pairs.queries[one.query],
            fields[1]: texts[one.document],
        }
        line |= {"negatives": [texts[row] for row in one.negatives], "score": round(one.score, 6)}
        line["negative_scores"] = [round(score, 6) for score in one.scores]
        lines.append(json.dumps(line, ensure_ascii=False))
        counts.append(len(one.negatives))
        too_near += one.too_near
    try:
        write_atomically(output, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise CommandError(f"--output {output}: {error.strerror or error}") from error
    return {
        "pairs": len(lines),
        "left_out": pairs.left_out,
        "corpus": len(texts),
        "with_negatives": sum(count > 0 for count in counts),
        "negatives": sum(counts),
        "too_near": too_near,
    }
