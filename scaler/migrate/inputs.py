"""Reads manifests from files, directories and pipes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scaler.config.document import Document, parse
from scaler.config.files import Unreadable, decoded, files_of, read_all, read_text
from scaler.config.problems import Problem

STDIN: Final = frozenset({"-", "/dev/stdin", "/dev/fd/0"})
DESCRIPTORS: Final = "/dev/fd/"
"""Directory of a process's open files. A shell names the pipe of ``<(kubectl get hpa -o yaml)`` by a path in it."""


def documents_of(paths: Sequence[Path]) -> tuple[list[Document], list[Problem]]:
    """Return the YAML documents of files, directories and pipes, and the problems.

    ``-`` stands for standard input. A problem does not prevent the other documents.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    names: list[str] = []
    for name, text in _texts(paths, problems):
        names.append(name)
        parsed, yaml_problems = parse(name, text, old_numbers=True)
        hint = "render the template first: helm template" if "{{" in text else ""
        documents += parsed
        problems += [Problem(p.file, p.line, p.path, p.value, p.rule, hint or p.hint) for p in yaml_problems]
    if not documents and not problems:
        hint = "kubectl get hpa,scaledobject -o yaml"
        problems.append(Problem(", ".join(names), 1, "", "", "contains no YAML document", hint))
    return documents, problems


def cluster_documents(objects: Iterable[Mapping[str, Any]]) -> list[Document]:
    """Return objects of a cluster as documents.

    Their findings have kind, namespace and name instead of file and line.
    """
    return [Document(_object_name(o), o, {(): 0}) for o in objects]


def _object_name(o: Mapping[str, Any]) -> str:
    metadata = o.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    names = [str(metadata[key]) for key in ("namespace", "name") if key in metadata]
    return f"{o.get('kind')} {'/'.join(names)}".rstrip()


def _texts(paths: Sequence[Path], problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file and pipe, and add the problems of the others."""
    names = dict.fromkeys("-" if str(path) in STDIN else str(path) for path in paths)
    for name in names:
        is_pipe = name == "-" or name.startswith(DESCRIPTORS)
        files, missing = ([Path(name)], []) if is_pipe else files_of([Path(name)])
        problems += missing
        for file in files:
            shown = "stdin" if name == "-" else str(file)
            try:
                yield shown, _pipe_text(name) if is_pipe else read_text(file)
            except Unreadable as e:
                problems.append(Problem(shown, 1, "", "", e.rule, e.hint))


def _pipe_text(name: str) -> str:
    """Return the text of standard input or of another open file. Raises `Unreadable`."""
    try:
        descriptor = os.dup(0) if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return decoded(read_all(descriptor))
        finally:
            os.close(descriptor)
    except Unreadable:
        raise
    except OSError as e:
        raise Unreadable(f"cannot be read: {e.strerror}") from e
