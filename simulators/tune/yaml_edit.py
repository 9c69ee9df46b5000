"""Edits of settings in the text of a workload's file.

The edits keep the file's comments, order and layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.util import load_yaml_guess_indent

from scaler.config.scalar_edit import NoPlace
from simulators.tune.space import Value, to_yaml

WIDTH: Final = 1_000_000
"""The maximum line width in columns: long lines are not wrapped."""


def edit_yaml(text: str, changes: Mapping[str, Value]) -> str:
    """Return the text of one YAML document with settings changed or added. Raises `NoPlace`.

    The caller must load the result and compare: a setting behind an anchor changes in two places.
    """
    yaml, out = YAML(), StringIO()
    yaml.preserve_quotes, yaml.width = True, WIDTH
    try:
        document, indent, offset = load_yaml_guess_indent(text, yaml=yaml)
        yaml.indent(mapping=2, sequence=indent or 4, offset=2 if offset is None else offset)
        yaml.explicit_start = any(line.startswith("---") for line in text.splitlines())
        for path, value in changes.items():
            _set(document, path.removeprefix(".").split("."), yaml.load(to_yaml(value)))
        yaml.dump(document, out)
    except YAMLError as e:
        raise NoPlace(str(e)) from e
    return out.getvalue()


def _set(place: Any, keys: Sequence[str], value: Any) -> None:
    """Set one setting and create its missing parents. Raises `NoPlace`."""
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, CommentedSeq) and key.isdigit() and int(key) < len(place):
            index: str | int = int(key)
        elif isinstance(place, CommentedMap):
            index = key
            if key not in place:
                place.insert(_position(place), key, value if last else CommentedMap())
        else:
            raise NoPlace(".".join(keys))
        if last and isinstance(place[index], CommentedMap | CommentedSeq):
            raise NoPlace(".".join(keys))
        if last:
            place[index] = value
        place = place[index]


def _position(place: CommentedMap) -> int:
    """Return the index at which to insert a new key.

    It is 1, or 0 where a comment of the next key would end up above the new one.
    """
    first_key = next(iter(place), None)
    comment = place.ca.items.get(first_key, [None] * 3)[2]
    nested = isinstance(place.get(first_key), CommentedMap | CommentedSeq)
    return 0 if first_key is None or nested or (comment is not None and "\n" in comment.value.strip()) else 1
