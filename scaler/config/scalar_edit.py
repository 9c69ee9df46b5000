"""Sets one setting in the text of a YAML file, which keeps its comments, order and layout."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from scaler.config.document import parse
from scaler.config.files import Unreadable


class NoPlace(Exception):
    """A text has no place for a setting.

    An anchor shares its mapping, its parent is missing, empty or no mapping, or the text is no YAML.
    """


def with_word(text: str, number: int, keys: Sequence[str], word: str) -> str:
    """Return YAML text with a word as the value of a setting. Raises `NoPlace`.

    `number` is that of the document, without empty ones. The text must have been loaded without a problem.

    In ``pools: {claude: {kind: a}}`` the keys pools, claude, approve and the word x give
    ``pools: {claude: {approve: "x", kind: a}}``.
    """
    roots = [root for root in yaml.compose_all(text, Loader=yaml.SafeLoader) if not _is_empty(root)]
    start, end, prefix, suffix = _span(roots[number], keys)
    edited = text[:start] + prefix + json.dumps(word) + suffix + text[end:]
    expected = [document.data for document in parse("", text)[0]]
    expected[number] = _changed(expected[number], keys, word)
    documents, problems = parse("", edited)
    if problems or [document.data for document in documents] != expected:
        raise NoPlace(".".join(keys))
    return edited


def replace_text(path: Path, text: str) -> None:
    """Write a file's text at once: a reader sees the old or the new one. Raises `Unreadable`.

    A symbolic link stays, and the file keeps its mode.
    """
    target, temporary = path.resolve(), ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(target.stat().st_mode & 0o7777)
        Path(temporary).replace(target)
    except OSError as e:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise Unreadable(f"cannot be written: {e.strerror}") from e


def _is_empty(root: yaml.Node | None) -> bool:
    return root is None or root.tag == "tag:yaml.org,2002:null"


def _span(node: yaml.Node, keys: Sequence[str]) -> tuple[int, int, str, str]:
    """Return the start and end of the text to replace, and the text around the value."""
    for depth, key in enumerate(keys):
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise NoPlace(".".join(keys))
        child = next((value for name, value in node.value if name.value == key), None)
        if child is not None:
            node = child
        elif depth < len(keys) - 1:
            raise NoPlace(".".join(keys))
        else:
            first = node.value[0][0].start_mark
            separator = ", " if node.flow_style else "\n" + " " * first.column
            return first.index, first.index, f"{key}: ", separator
    if not isinstance(node, yaml.ScalarNode):
        raise NoPlace(".".join(keys))
    start, end = node.start_mark.index, node.end_mark.index
    return start, end, "" if end > start else " ", ""


def _changed(data: Any, keys: Sequence[str], word: str) -> Any:
    """Return a copy of nested mappings with one value changed."""
    return {**data, keys[0]: _changed(data.get(keys[0]), keys[1:], word)} if keys else word
