"""Workload files with comments: YAML in the order and with the words that the importer gives."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from scaler.migrate.findings import Remark

WIDTH: Final = 116
STEP: Final = "  "
SIDE: Final = 60
"""A comment stands beside its value up to this column, and above it beyond."""


@dataclass(slots=True)
class YamlEntry:
    """A key, its value (plain, a block, or a list of blocks), what it was in the manifest, and remarks above it."""

    key: str
    value: Any
    said: str = ""
    remarks: tuple[Remark, ...] = ()


@dataclass(slots=True)
class Block:
    """A mapping in the order in which it is written, with remarks between its keys."""

    parts: list[YamlEntry | Remark] = field(default_factory=list)

    def add(self, key: str, value: Any, said: str = "", *remarks: Remark) -> Block:
        self.parts.append(YamlEntry(key, value, said, remarks))
        return self

    def remark(self, *remarks: Remark) -> Block:
        self.parts += remarks
        return self

    def __bool__(self) -> bool:
        return any(isinstance(part, YamlEntry) for part in self.parts)


def document(head: list[str], block: Block) -> str:
    """Return a YAML document under its heading, one paragraph a line of `head`."""
    return "\n".join([*(line for text in head for line in comment(text, "")), *lines(block, "")]) + "\n"


def comment(text: str, indent: str) -> Iterator[str]:
    """Yield a comment, wrapped."""
    for line in textwrap.wrap(text, WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False):
        yield f"{indent}# {line}"


def lines(block: Block, indent: str) -> Iterator[str]:
    """Yield a block's lines."""
    for part in block.parts:
        if isinstance(part, Remark):
            yield from comment(part.text, indent)
        else:
            yield from _entry(part, indent)


def _entry(entry: YamlEntry, indent: str) -> Iterator[str]:
    for remark in entry.remarks:
        yield from comment(remark.text, indent)
    if isinstance(entry.value, Block):
        yield _beside(f"{indent}{entry.key}:", entry.said)
        yield from lines(entry.value, indent + STEP)
    elif isinstance(entry.value, list) and entry.value and all(isinstance(item, Block) for item in entry.value):
        yield _beside(f"{indent}{entry.key}:", entry.said)
        for item in entry.value:
            yield from _item(item, indent + STEP)
    else:
        line = f"{indent}{entry.key}: {flow(entry.value)}"
        if entry.said and len(line) > SIDE:
            yield from comment(entry.said, indent)
            yield line
        else:
            yield _beside(line, entry.said)


def _item(block: Block, indent: str) -> Iterator[str]:
    """Yield a list's item: remarks that stand first go above its dash."""
    first = next(i for i, part in enumerate(block.parts) if isinstance(part, YamlEntry))
    yield from lines(Block(block.parts[:first]), indent)
    below = list(lines(Block(block.parts[first:]), indent + STEP))
    start = next(i for i, line in enumerate(below) if not line.lstrip().startswith("#"))
    yield from (line.removeprefix(STEP) for line in below[:start])
    yield f"{indent}- {below[start].strip()}"
    yield from below[start + 1 :]


def _beside(line: str, said: str) -> str:
    return f"{line:<{22}}  # {said}" if said else line


def flow(value: Any) -> str:
    """Return a value on one line; a whole number without its fraction."""
    plain = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=1_000_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()
