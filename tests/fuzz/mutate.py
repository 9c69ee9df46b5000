"""Mutations of documents and of text, by seed: damaged, hostile or unusual input."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tests.fuzz.rng import Rng

Path = tuple[Any, ...]
DIGITS: Final = "9" * 400
DEPTH: Final = 50_000
"""Nesting levels of a bomb: far beyond any parser's stack."""
SURROGATE: Final = "\ud800"
STRANGE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, -1e308, 5e-324, 10**30, 2**63, int("9" * 310),
    float("inf"), float("nan"), "", " ", "strange", "NaN", "-1", "1e999", "010", "1:30", "0x10", "1_000", DIGITS,
    SURROGATE, "a\x00b", "\x1b[31m", "line\nbreak", "𝔘" * 20, "$" + "{HOME}", "../../etc/passwd", "a" * 5000,
    [], {}, [None], [[]], {"": None}, {"strange": [["strange"]]}, {"__proto__": {}}, list(range(300)),
)  # fmt: skip
"""Replacements of a value that most parsers do not expect."""


def paths_of(node: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in a document of mappings and lists."""
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from paths_of(value, (*path, key))
    elif isinstance(node, list):
        for k, value in enumerate(node):
            yield from paths_of(value, (*path, k))


def value_at(node: Any, path: Path) -> Any:
    """Return the value at a path."""
    for step in path:
        node = node[step]
    return node


def tree(rng: Rng, document: Any, changes: int = 3) -> Any:
    """Return the document after one to `changes` mutations of its parts."""
    mutated = copy.deepcopy(document)
    for _ in range(rng.randint(1, changes)):
        paths = list(paths_of(mutated))
        path = rng.choice(paths)
        if not path:
            mutated = _whole(rng, mutated)
            continue
        _change(rng, mutated, path, paths)
    return mutated


def _whole(rng: Rng, document: Any) -> Any:
    return rng.choice((document, document, document, [document], {"whole": document}, None, []))


def _change(rng: Rng, mutated: Any, path: Path, paths: Sequence[Path]) -> None:
    holder, key = value_at(mutated, path[:-1]), path[-1]
    match rng.randint(0, 7):
        case 0 | 1 | 2:
            holder[key] = copy.deepcopy(rng.choice(STRANGE))
        case 3:
            del holder[key]
        case 4:
            holder[key] = copy.deepcopy(value_at(mutated, rng.choice(paths)))
        case 5 if isinstance(holder, dict):
            holder[rng.choice((f"{key}x", "", "~", "kind", "name", f" {key}", 1, None, 1.5))] = holder.pop(key)
        case 6:
            holder[key] = rng.choice(([holder[key]], {"in": holder[key]}, str(holder[key])))
        case _:
            holder[key] = _nearby(rng, holder[key])


def _nearby(rng: Rng, value: Any) -> Any:
    """Return a value of the same kind with another size."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        third = value // 3 if isinstance(value, int) and abs(value) > sys.float_info.max else value / 3
        return rng.choice((value + 1, -value, value * 10**6, third, value * 0))
    if isinstance(value, str):
        return rng.choice((value[: len(value) // 2], value * 3, value.upper(), value + "x", value[::-1]))
    if isinstance(value, list):
        return rng.choice((value * 2, value[::-1], value[:1]))
    return dict(reversed(value.items())) if isinstance(value, dict) else value


def text(rng: Rng, data: bytes, tokens: Sequence[bytes], changes: int = 3) -> bytes:
    """Return the text after one to `changes` mutations of bytes, lines and tokens."""
    for _ in range(rng.randint(1, changes)):
        data = _OPERATIONS[rng.randrange(len(_OPERATIONS))](rng, data, tokens)
    return data


def _cut(rng: Rng, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _flip(rng: Rng, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    k = rng.randrange(len(data))
    return data[:k] + bytes([rng.randrange(256)]) + data[k + 1 :]


def _insert(rng: Rng, data: bytes, tokens: Sequence[bytes]) -> bytes:
    k = rng.randint(0, len(data))
    return data[:k] + rng.choice(tokens) + data[k:]


def _replace(rng: Rng, data: bytes, tokens: Sequence[bytes]) -> bytes:
    """Replace a word or number by a token."""
    words = data.split(b" ")
    words[rng.randrange(len(words))] = rng.choice(tokens)
    return b" ".join(words)


def _lines(rng: Rng, data: bytes, _: Sequence[bytes]) -> bytes:
    """Drop, repeat, move or join lines."""
    lines = data.split(b"\n")
    k, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randint(0, 4):
        case 0:
            del lines[k]
        case 1:
            lines.insert(k, lines[k])
        case 2:
            lines[k], lines[other] = lines[other], lines[k]
        case 3:
            lines[k] = lines[k] * rng.choice((2, 50))
        case _:
            lines[k : k + 2] = [b"".join(lines[k : k + 2])]
    return b"\n".join(lines)


def _swap(rng: Rng, data: bytes, _: Sequence[bytes]) -> bytes:
    """Replace a piece by another piece of the same text."""
    if len(data) < 2:
        return data
    (a, b), (c, d) = (sorted(rng.sample(range(len(data)), 2)) for _ in range(2))
    return data[:a] + data[c : min(d, c + 2000)] + data[b:]


_OPERATIONS: Final[tuple[Callable[[Rng, bytes, Sequence[bytes]], bytes], ...]] = (
    _cut,
    _flip,
    _insert,
    _insert,
    _replace,
    _replace,
    _lines,
    _swap,
)
JSON_TOKENS: Final = (
    b"null", b"NaN", b"-Infinity", b"1e999", b"1e308", DIGITS.encode(), b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"',
    b"\xff", b"\x00", b"{}", b"[]", b'""', b",", b":", b"-1", b"true", b"1.5", b'{"metric":[]}',
)  # fmt: skip


def json_text(rng: Rng, document: Any) -> bytes:
    """Return the document as JSON after mutations of its parts, its text or both; in 3 % of cases a bomb."""
    if rng.happens(0.03):
        return rng.choice(
            (b"[" * DEPTH, b'{"a":' * DEPTH, b"[" * DEPTH + b"]" * DEPTH, DIGITS.encode(), b'"' + b"a" * 2**20)
        )
    mutated = tree(rng, document) if rng.happens(0.8) else document
    data = json.dumps(mutated, skipkeys=True).encode()
    return text(rng, data, JSON_TOKENS) if mutated is document or rng.happens(0.25) else data
