"""What a new run's parameters start from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.branches import Graph
from contrastive_jax.configuration import nearest
from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import InputError
from contrastive_jax.training.origins import Library, Run, Shapes, config_of, is_run
from contrastive_jax.training.stored_steps import NoIntactCheckpoint
from contrastive_jax.training.stores.paths import place
from contrastive_jax.training.structure import named_leaves, part_of, path_name

if TYPE_CHECKING:
    from jaxtyping import PyTree

log = logging.getLogger(__name__)

SHOWN = 8
"""So many of the parameters that do not fit are named."""


@dataclass(frozen=True)
class InitFrom:
    """Weights that a run starts from; read once, when it begins.

    path: the work directory of another run, or a folder or hub name of another library's weights;
    step: of a work directory, None for its newest checkpoint;
    parts: what starts from there: encoders/image, patterns such as encoders/* or *, and
    encoders/image=encoders/a for what has another name there. In other libraries' weights there are
    encoders/image, encoders/text, heads/image, heads/text and losses/scale. None given: the encoder that is
    called like this entry, and the head called so if both sides have one.
    """

    path: str
    step: int | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Start:
    """The weights of one entry: the names of the parameters that start from `origin`, and its parts taken."""

    key: str
    origin: Run | Library
    names: tuple[str, ...]
    parts: tuple[str, ...]


def architecture(path: str, part: str) -> dict[str, Any]:
    """The config section of an encoder that is to start from `path`.

    part: its name in a work directory; `image` or `text` in another library's weights.
    Raises InputError where there is none.
    """
    if is_run(path):
        encoders = config_of(place(path)).get("encoders", {})
        if part not in encoders:
            raise InputError(f"{path} has no encoder {part!r}; {nearest(part, encoders)}")
        return encoders[part]
    from contrastive_jax import interop

    return interop.architecture(path, part)


def find(entries: Mapping[str, InitFrom], graph: Graph, params: PyTree, group: Group) -> list[Start]:
    """What `init_from` names, looked up and compared with the parameters.

    params: their structure. Raises InputError, naming the key, for what is not there; for another
    architecture it names the parameters that do not fit.
    """
    structures = {n: x for n, x in named_leaves(params).items() if not n.startswith("lora/")}
    ours = list(dict.fromkeys(map(part_of, structures)))
    starts: list[Start] = []
    owner: dict[str, str] = {}
    for key, entry in entries.items():
        where = f"config.init_from.{key}"
        try:
            origin = Run(entry.path, entry.step, group) if is_run(entry.path) else _library(entry, graph)
            parts = matched(key, entry.parts, ours, origin.parts)
            shapes = {}
            for here, there in parts.items():
                shapes |= origin.take(here, there)
        except (InputError, NoIntactCheckpoint) as error:
            raise InputError(f"{where}.path={entry.path}: {error}") from error
        for part in parts:
            if part in owner:
                raise InputError(f"{where}.parts: {part} starts from config.init_from.{owner[part]} already")
            owner[part] = key
        wanted = {name: tuple(x.shape) for name, x in structures.items() if part_of(name) in parts}
        shapes, wanted = _of_either_loss(key, shapes, wanted)
        _check_fit(f"{where}.path={entry.path}", shapes, wanted)
        _check_same(f"{where}.path={entry.path}", origin, group)
        starts.append(Start(key, origin, tuple(wanted), tuple(parts.values())))
    return starts


def check_views(starts: Sequence[Start], graph: Graph, views: Mapping[str, Any]) -> None:
    """Raises InputError for a view that gives an encoder other texts than its weights were made for."""
    for start in starts:
        if not isinstance(start.origin, Library):
            continue
        own = {name.split("/")[1] for name in start.names if name.startswith("encoders/")}
        read = {b.view for b in graph.branches.values() if b.encoder in own}
        try:
            start.origin.check_views({f"config.data.views.{name}": views[name] for name in sorted(read)})
        except InputError as error:
            raise InputError(f"config.init_from.{start.key}.path={start.origin.title}: {error}") from error


def started(starts: Sequence[Start], params: PyTree) -> PyTree:
    """The parameters, those of `starts` read into the places of their own; the log says which."""
    if not starts:
        return params
    own = named_leaves(params)
    found: dict[str, jax.Array] = {}
    for start in starts:
        log.info("init_from.%s: %s from %s", start.key, listed(own, start.names), start.origin.title)
        found |= start.origin.read({name: _structure(own[name]) for name in start.names})
    for origin in {start.origin.title: start.origin for start in starts}.values():
        taken = {part for start in starts if start.origin.title == origin.title for part in start.parts}
        if left := [part for part in origin.parts if part not in taken]:
            log.info("not taken from %s: %s", origin.title, ", ".join(left))
    fresh = [name for name in own if name not in found]
    log.info("new: %s", listed(own, fresh) or "nothing")
    return jax.tree_util.tree_map_with_path(lambda path, leaf: found.get(path_name(path), leaf), params)


def matched(key: str, wanted: Sequence[str], ours: list[str], theirs: list[str]) -> dict[str, str]:
    """{part here: part there}; see `InitFrom`. Raises InputError for a part that is missing on a side."""
    if not wanted:
        encoder, head = f"encoders/{key}", f"heads/{key}"
        if encoder not in ours:
            raise InputError(f"no encoder here is called {key!r}: say which parts; {nearest(encoder, ours)}")
        optional = [head] if head in ours and head in theirs else []
        return {encoder: _present(encoder, theirs), **{part: part for part in optional}}
    found: dict[str, str] = {}
    for item in wanted:
        pattern, renamed, there = item.partition("=")
        matching = [part for part in ours if fnmatchcase(part, pattern)]
        if not matching:
            raise InputError(f"parts: nothing here is called {pattern!r}; {nearest(pattern, ours)}")
        both = [part for part in matching if part in theirs]
        if renamed:
            if wrong := [part for part in matching if part.split("/")[0] != there.split("/")[0]]:
                raise InputError(f"parts: {item}: {wrong[0]} and {there} are of two kinds; give two of one")
            found |= dict.fromkeys(matching, _present(there, theirs))
        elif pattern in ours or not both:
            found[pattern] = _present(pattern, theirs)
        else:
            found |= {part: part for part in both}
    return found


def listed(leaves: Mapping[str, Any], names: Sequence[str]) -> str:
    """The parts that some parameters belong to, each with how many numbers they hold."""
    counts: dict[str, int] = {}
    for name in names:
        part = part_of(name) if not name.startswith("lora/") else "lora"
        counts[part] = counts.get(part, 0) + leaves[name].size
    return ", ".join(f"{part} {count:,}" for part, count in counts.items())


def _library(entry: InitFrom, graph: Graph) -> Library:
    if entry.step is not None:
        raise InputError(
            f"step={entry.step} and no work directory is there: give the folder of a run, or no step"
        )
    return Library(entry.path, {name: (graph.encoders[name], x) for name, x in graph.examples().items()})


def _of_either_loss(key: str, there: Shapes, here: Shapes) -> tuple[Shapes, Shapes]:
    """Without what only one of two losses learns, as the bias of the sigmoid loss; the log names it.

    A loss of which there is nothing at all, as any other part, is left for `_check_fit`.
    """
    both = {part_of(name) for name in there if name in here and name.startswith("losses/")}
    dropped, fresh = (
        [name for name in one if name not in other and part_of(name) in both]
        for one, other in ((there, here), (here, there))
    )
    if dropped:
        log.warning("init_from.%s: no loss here has %s: left there", key, ", ".join(dropped))
    if fresh:
        log.warning("init_from.%s: %s is not there: it starts anew", key, ", ".join(fresh))
    return tuple(
        {name: shape for name, shape in shapes.items() if name not in left}
        for shapes, left in ((there, dropped), (here, fresh))
    )


def check_scales(losses: Mapping[str, Any], starts: Sequence[Start], params: PyTree) -> None:
    """InputError for a scale that starts beyond its bound: the first update would cut it."""
    for name, loss in losses.items():
        own = f"losses/{name}/log_scale"
        if not any(own in start.names for start in starts):
            continue
        found = params["losses"][name]
        scale, kept = (float(np.exp(x["log_scale"])) for x in (found, loss.project(found)))
        if scale > kept * 1.001:  # CLIP's own lie at 100, give or take rounding
            raise InputError(
                f"config.losses.{name}.scale_max={kept:.6g}: the scale that config.init_from brings is "
                f"{scale:.6g}; give a larger one, or None"
            )


def _present(part: str, theirs: list[str]) -> str:
    if part not in theirs:
        raise InputError(f"it has no {part}; {nearest(part, theirs)}")
    return part


def _check_fit(where: str, there: Mapping[str, tuple], here: Mapping[str, tuple]) -> None:
    def show(shapes: Mapping[str, tuple], name: str) -> str:
        return str(list(shapes[name])) if name in shapes else "absent"

    differ = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    if differ:
        shown = [f"{name} is {show(there, name)} there, {show(here, name)} here" for name in differ[:SHOWN]]
        more = f"; and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        raise InputError(f"{where}: another architecture: {'; '.join(shown)}{more}")


def _check_same(where: str, origin: Run | Library, group: Group) -> None:
    """All processes of a run have found the same weights; each reads for itself, maybe from its own disk."""
    if group.count == 1:
        return
    digests = group.gather(origin.digest())
    other = next((index for index, found in enumerate(digests) if found != digests[0]), None)
    if other is not None:
        raise InputError(f"{where}: process {other} finds other weights there than process 0")


def _structure(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
