"""Writes workload files as YAML with comments, in the order of their blocks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from scaler.migrate.findings import Remark

WIDTH: Final = 116
STEP: Final = "  "
MAX_INLINE: Final = 60
"""Maximum length of a line with a comment after its value. After a longer one the comment stands above it."""


@dataclass(slots=True)
class YamlEntry:
    """A key and its value, with comments.

    The value is plain, a block, or a list of blocks. A comment `label` is after it, and remarks are above it.
    """

    key: str
    value: Any
    label: str = ""
    remarks: tuple[Remark, ...] = ()


@dataclass(slots=True)
class Block:
    """A mapping in the order of writing, with remarks between its keys."""

    parts: list[YamlEntry | Remark] = field(default_factory=list)

    def add(self, key: str, value: Any, label: str = "", *remarks: Remark) -> Block:
        self.parts.append(YamlEntry(key, value, label, remarks))
        return self

    def remark(self, *remarks: Remark) -> Block:
        self.parts += remarks
        return self

    def __bool__(self) -> bool:
        return any(isinstance(part, YamlEntry) for part in self.parts)


def document(head: list[str], block: Block) -> str:
    """Return a YAML document with its heading, in which each text of `head` is a paragraph."""
    return "\n".join([*(line for text in head for line in comment(text, "")), *lines(block, "")]) + "\n"


def comment(text: str, indent: str) -> Iterator[str]:
    """Yield the lines of a wrapped comment."""
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
        yield _with_label(f"{indent}{entry.key}:", entry.label)
        yield from lines(entry.value, indent + STEP)
    elif isinstance(entry.value, list) and entry.value and all(isinstance(item, Block) for item in entry.value):
        yield _with_label(f"{indent}{entry.key}:", entry.label)
        for item in entry.value:
            yield from _item(item, indent + STEP)
    else:
        line = f"{indent}{entry.key}: {flow(entry.value)}"
        if entry.label and len(line) > MAX_INLINE:
            yield from comment(entry.label, indent)
            yield line
        else:
            yield _with_label(line, entry.label)


def _item(block: Block, indent: str) -> Iterator[str]:
    """Yield the lines of a list's item. Its leading remarks stand above the dash."""
    first = next(i for i, part in enumerate(block.parts) if isinstance(part, YamlEntry))
    yield from lines(Block(block.parts[:first]), indent)
    below = list(lines(Block(block.parts[first:]), indent + STEP))
    start = next(i for i, line in enumerate(below) if not line.lstrip().startswith("#"))
    yield from (line.removeprefix(STEP) for line in below[:start])
    yield f"{indent}- {below[start].strip()}"
    yield from below[start + 1 :]


def _with_label(line: str, label: str) -> str:
    return f"{line:<{22}}  # {label}" if label else line


def flow(value: Any) -> str:
    """Return a value on one line, and a float with an integer value without its fraction."""
    plain = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=1_000_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()
