"""Settings changed in the text of a workload's file: its comments, order and layout stay as its owner wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import yaml

from scaler.config.yaml_scalars import Loader
from simulators.tune.space import Value, written

STEP: Final = "  "


class NoPlace(Exception):
    """The text has no place where a setting could be written: it is an alias, or no mapping."""


def edited(text: str, changes: Mapping[str, Value]) -> str:
    """The text of one YAML document with settings changed or added. Raises `NoPlace`, `yaml.YAMLError`.

    Whoever calls this reads the result again: a setting behind an anchor would change in two places.
    """
    for path, value in changes.items():
        text = _set(text, path.removeprefix(".").split("."), written(value))
    return text


def _set(text: str, keys: Sequence[str], value: str) -> str:
    loader = Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    if node is None:
        raise NoPlace(".".join(keys))
    for depth, key in enumerate(keys):
        below = _below(node, key)
        if below is None:
            return _added(text, node, keys[depth:], value)
        node = below
    if not isinstance(node, yaml.ScalarNode):
        raise NoPlace(".".join(keys))
    start, end = _offset(text, node.start_mark), _offset(text, node.end_mark)
    before = text[start:end]
    space = " " if start and text[start - 1] == ":" else ""  # a null may be nothing at all
    return text[:start] + space + value + before[len(before.rstrip()) :] + text[end:]


def _below(node: yaml.Node, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((v for k, v in node.value if isinstance(k, yaml.ScalarNode) and k.value == key), None)
    if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
        found: yaml.Node = node.value[int(key)]
        return found
    raise NoPlace(key)


def _added(text: str, node: yaml.Node, keys: Sequence[str], value: str) -> str:
    """A key that the mapping does not hold, written below its first, or before it where that is more than a line."""
    if not isinstance(node, yaml.MappingNode) or (not node.value and not node.flow_style):
        raise NoPlace(".".join(keys))
    if node.flow_style:
        inside = _offset(text, node.start_mark) + 1
        added = ": {".join(keys) + f": {value}" + "}" * (len(keys) - 1)
        return text[:inside] + added + (", " if node.value else "") + text[inside:].lstrip()
    key, first = node.value[0]
    indent = " " * key.start_mark.column
    added = "\n".join(_lines(keys, value, indent))
    if isinstance(first, yaml.ScalarNode) and first.end_mark.line == key.start_mark.line and "\n" in text:
        lines = text.split("\n")
        lines.insert(key.start_mark.line + 1, added)
        return "\n".join(lines)
    at = _offset(text, key.start_mark)
    return f"{text[:at]}{added.removeprefix(indent)}\n{indent}{text[at:]}"


def _lines(keys: Sequence[str], value: str, indent: str) -> Iterator[str]:
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        yield f"{indent}{STEP * depth}{key}:" + (f" {value}" if last else "")


def _offset(text: str, mark: yaml.Mark) -> int:
    """Where a mark stands in the text: the C loader counts bytes, or nothing, in `index`."""
    lines = text.split("\n")
    return sum(len(line) + 1 for line in lines[: mark.line]) + mark.column
