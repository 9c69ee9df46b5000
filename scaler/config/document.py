"""YAML files to plain documents that remember the line of every key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

from scaler.config.problems import Problem, shown

Key = str | int
Place = tuple[Key, ...]
MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Beyond any fleet (2,000 workloads take 2 MB); a larger file is a mistake, and would stall a reload."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as configuration has it: a time is text, whether quoted or not, and is read by whoever knows its zone."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its data, and the line of each key in its file."""

    file: str
    data: Any
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest key above it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def problem(self, place: Place, rule: str, hint: str = "", value: object = ...) -> Problem:
        text = "" if value is ... else shown(value)
        return Problem(self.file, self.line(place), dotted(place), text, rule, hint)


def dotted(place: Place) -> str:
    """``("windows", 0, "start")`` as ``windows[0].start``."""
    text = ""
    for key in place:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def files_of(paths: list[Path]) -> tuple[list[Path], list[Problem]]:
    """The YAML files named, directories opened (not their subdirectories, nor hidden files), sorted by name."""
    files: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix in {".yaml", ".yml"} and not p.name.startswith("."))
            if not found:
                problems.append(Problem(str(path), 1, "", "", "the directory has no .yaml or .yml file"))
            files += found
        elif path.is_file():
            files.append(path)
        else:
            problems.append(Problem(str(path), 1, "", "", "no such file or directory"))
    return list(dict.fromkeys(files)), problems


def read(path: Path) -> tuple[list[Document], list[Problem]]:
    """The documents of a file; empty ones are passed over."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return [], [Problem(str(path), 1, "", "", f"larger than {MAX_FILE_BYTES >> 20} MiB")]
        return parse(str(path), path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as e:
        return [], [Problem(str(path), 1, "", "", f"not UTF-8: {e.reason} at byte {e.start}")]
    except OSError as e:
        return [], [Problem(str(path), 1, "", "", f"cannot be read: {e.strerror}")]


def parse(file: str, text: str) -> tuple[list[Document], list[Problem]]:
    """The documents in `text`, and what is wrong with its YAML."""
    documents: list[Document] = []
    problems: list[Problem] = []
    loader = Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            lines: dict[Place, int] = {}
            problems += _walk(file, node, (), lines)
            data = loader.construct_document(node)
            if data is not None:
                documents.append(Document(file, data, lines))
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        problems.append(Problem(file, line, "", "", f"not YAML: {e.problem or e.context}"))
    except (yaml.YAMLError, ValueError) as e:
        problems.append(Problem(file, 1, "", "", f"not YAML: {e}"))
    except RecursionError:
        problems.append(Problem(file, 1, "", "", "nested too deeply"))
    finally:
        loader.dispose()
    return documents, problems


def _walk(file: str, node: yaml.Node, place: Place, lines: dict[Place, int]) -> Iterator[Problem]:
    """Note the line of every key below `node`; tell of keys given twice and of YAML that is not plain."""
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key_node.tag)
            below = (*place, key)
            line = key_node.start_mark.line + 1
            if key == "<<" or not isinstance(key_node, yaml.ScalarNode):
                yield Problem(file, line, dotted(below), "", "keys must be plain words (no merge keys)")
            elif below in lines:
                yield Problem(file, line, dotted(below), "", f"given twice, first in line {lines[below]}")
            yield from _walk(file, value_node, below, lines)
            lines[below] = line
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _walk(file, item, (*place, i), lines)
