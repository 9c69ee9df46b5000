"""Settings changed in the text of a workload's file: its comments, order and layout stay as its owner wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.util import load_yaml_guess_indent

from simulators.tune.space import Value, written

WIDTH: Final = 1_000_000
"""Columns of a line: a long line stays one."""


class NoPlace(Exception):
    """The text has no place where a setting could be written: it is no mapping, or cannot be read."""


def edited(text: str, changes: Mapping[str, Value]) -> str:
    """Return the text of one YAML document with settings changed or added. Raises `NoPlace`.

    The caller reads the result again: a setting behind an anchor would change in two places.
    """
    yaml, out = YAML(), StringIO()
    yaml.preserve_quotes, yaml.width = True, WIDTH
    try:
        document, indent, offset = load_yaml_guess_indent(text, yaml=yaml)
        yaml.indent(mapping=2, sequence=indent or 4, offset=2 if offset is None else offset)
        yaml.explicit_start = any(line.startswith("---") for line in text.splitlines())
        for path, value in changes.items():
            _set(document, path.removeprefix(".").split("."), yaml.load(written(value)))
        yaml.dump(document, out)
    except YAMLError as e:
        raise NoPlace(str(e)) from e
    return out.getvalue()


def _set(place: Any, keys: Sequence[str], value: Any) -> None:
    """Set one setting, with the mappings above it that are missing. Raises `NoPlace`."""
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, CommentedSeq) and key.isdigit() and int(key) < len(place):
            at: str | int = int(key)
        elif isinstance(place, CommentedMap):
            at = key
            if key not in place:
                place.insert(_position(place), key, value if last else CommentedMap())
        else:
            raise NoPlace(".".join(keys))
        if last and isinstance(place[at], CommentedMap | CommentedSeq):
            raise NoPlace(".".join(keys))
        if last:
            place[at] = value
        place = place[at]


def _position(place: CommentedMap) -> int:
    """Return where a new key stands: second, or first where a comment on the next key would come to stand above it."""
    first = next(iter(place), None)
    comment = place.ca.items.get(first, [None] * 3)[2]
    nested = isinstance(place.get(first), CommentedMap | CommentedSeq)
    return 0 if first is None or nested or (comment is not None and "\n" in comment.value.strip()) else 1
