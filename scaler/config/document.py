"""Reads YAML files into plain documents that retain the line of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaler.config.files import Unreadable, read_text
from scaler.config.problems import Problem, shown_at
from scaler.config.yaml_composer import Composer, Place, dotted


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its data, and the line of each key in its file.

    An object that comes from no file, as one of a cluster, has line 0 everywhere.
    """

    file: str
    data: Any
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of `place`, or of the nearest key above it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def location(self, place: Place) -> str:
        """Return the file and the line of `place`."""
        line = self.line(place)
        return f"{self.file}:{line}" if line else self.file

    def problem(self, place: Place, rule: str, hint: str = "", value: object = ...) -> Problem:
        text = "" if value is ... else shown_at(place, value)
        return Problem(self.file, self.line(place), dotted(place), text, rule, hint)


def read(path: Path, *, old_numbers: bool = False) -> tuple[list[Document], list[Problem]]:
    """Return the documents of a file, without empty ones, and its problems.

    All YAML files are read here.

    With `old_numbers` 010 and 1:30 are numbers, as in Kubernetes manifests; otherwise they are refused.
    """
    try:
        return parse(str(path), read_text(path), old_numbers=old_numbers)
    except Unreadable as e:
        return [], [Problem(str(path), 1, "", "", e.rule, e.hint)]


def parse(file: str, text: str, *, old_numbers: bool = False) -> tuple[list[Document], list[Problem]]:
    """Return the documents in `text`, and the problems of its YAML."""
    composer = Composer(file, text, old_numbers=old_numbers)
    documents = [Document(file, data, lines) for data, lines in composer.documents() if data is not None]
    return documents, composer.problems


def value_in(text: str) -> Any:
    """Return the YAML value of a text such as ``[1, 2]``; None for an empty text.

    Raises `ValueError`.
    """
    documents, problems = parse("", text)
    if problems or len(documents) > 1:
        raise ValueError(problems[0].rule if problems else "more than one document")
    return documents[0].data if documents else None
