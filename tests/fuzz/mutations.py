"""Damage to files and to JSON, drawn from a generator of random numbers."""

from __future__ import annotations

import json
import random
from typing import Any

NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, float("nan"), float("inf"), -0.0, 1e-320, 0.5)
TEXTS = (
    "",
    " ",
    "[/b]",
    "a.b",
    "\x00",
    "\x1b[2J",
    "\ud83d",
    "\u202e",
    "None",
    "../../etc/passwd",
    "x" * 5000,
)
TEXTS += ("{}", "%s", "$\\frac", "nan", "1e999", "a\nb", "image", "🙂", "C:\\x")
NESTED: tuple[Any, ...] = (
    [],
    {},
    [[]],
    [None],
    {"": {}},
    {"kind": ["x"]},
    {"a.b": 1},
    [1, "a", None],
    True,
    None,
)


def value(rng: random.Random) -> Any:
    """What may stand anywhere in JSON."""
    return rng.choice(rng.choice((NUMBERS, TEXTS, NESTED)))


def of_json(rng: random.Random, tree: Any) -> Any:
    """The tree with one place changed: another value, a name more or less, or a part doubled."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        name = rng.choice(list(tree))
        rest = {key: inner for key, inner in tree.items() if key != name}
        way = rng.random()
        if way < 0.12:
            return rest
        if way < 0.2:
            return {**tree, str(value(rng)): value(rng)}
        if way < 0.28:
            return {**rest, str(rng.choice(TEXTS)): tree[name]}
        return {**rest, name: of_json(rng, tree[name])}
    if isinstance(tree, list) and tree and rng.random() < 0.7:
        place = rng.randrange(len(tree))
        if rng.random() < 0.2:
            return tree[:place] + tree[place + 1 :]
        return [*tree[:place], of_json(rng, tree[place]), *tree[place + 1 :]]
    return value(rng)


def json_file(rng: random.Random, content: bytes) -> bytes:
    """A file of JSON, changed as JSON mostly, else as bytes."""
    if rng.random() < 0.2:
        return of_bytes(rng, content)
    if rng.random() < 0.05:
        return b"[" * rng.choice((10, 2000, 200_000))
    try:
        changed = json.loads(content)
    except (ValueError, RecursionError):  # it is damaged already
        return of_bytes(rng, content)
    for _ in range(rng.choice((1, 1, 1, 3))):
        changed = of_json(rng, changed)
    return json.dumps(changed).encode()


def json_lines(rng: random.Random, content: bytes) -> bytes:
    """Lines of JSON, some of which are changed."""
    lines = content.splitlines()
    for _ in range(rng.choice((1, 1, 5))):
        place = rng.choice((0, rng.randrange(len(lines))))
        lines[place] = json_file(rng, lines[place]).replace(b"\n", b" ") or b"{}"
    return b"\n".join(lines) + b"\n" * rng.randrange(3)


def text_lines(rng: random.Random, content: bytes) -> bytes:
    """Lines of text, some of which are changed, doubled or gone."""
    lines = content.split(b"\n")
    place = rng.choice((0, rng.randrange(len(lines))))
    way = rng.randrange(5)
    if way == 0:
        del lines[place]
    elif way == 1:
        lines.insert(place, lines[place])
    elif way == 2:
        lines[place] = str(value(rng)).encode("utf-8", "surrogatepass")
    elif way == 3:
        lines[place] = lines[place].replace(
            rng.choice((b",", b"\t", b'"', b"a")), rng.choice((b"", b'"', b";", b"\0"))
        )
    else:
        return of_bytes(rng, content)
    return b"\n".join(lines)


def of_bytes(rng: random.Random, content: bytes) -> bytes:
    """Bits turned, a stretch lost, doubled, blanked or drawn, or the end cut off."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not content:
            return b"\0" * rng.randrange(9)
        start = rng.choice((0, rng.randrange(len(content)), max(0, len(content) - rng.randrange(1, 64))))
        end = min(len(content), start + rng.choice((1, 4, 8, 64, 1000)))
        way = rng.randrange(6)
        if way == 0:
            content[start] ^= 1 << rng.randrange(8)
        elif way == 1:
            content[start:end] = rng.choice((b"\0", b"\xff")) * (end - start)
        elif way == 2:
            content[start:end] = rng.randbytes(end - start)
        elif way == 3:
            del content[start:end]
        elif way == 4:
            content[start:start] = content[start:end]
        else:
            del content[start:]
    return bytes(content)
