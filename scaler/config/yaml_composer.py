"""Composes plain data from YAML events, with bounds on depth, size and aliases.

The bounds are checked before building.

PyYAML's own composer recurses in C: 100 KB of ``[`` end the process by SIGSEGV. This one does not recurse. Its time and
memory are proportional to the text, and an alias counts with all values that it stands for.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import yaml

from scaler.config.problems import Problem, plain_key, yaml_rule
from scaler.config.yaml_scalars import CORE, BadScalar, Loader, value_of
from scaler.masking import is_secret_name

Key = str | int
Place = tuple[Key, ...]
MAX_DEPTH: Final = 64
"""Maximum nesting of collections. The deepest setting has nine levels, Kubernetes objects up to thirty."""
MAX_NODES: Final = 2_000_000
"""Maximum number of values in a file, with aliases expanded. 10,000 workloads of 60 values have 600,000."""
MAX_PROBLEMS: Final = 1000
"""Maximum number of problems reported of one file."""
MAX_DIRECTIVES: Final = 100
DIRECTIVE: Final = re.compile("[\n\r\x85\u2028\u2029]%")
TAB: Final = re.compile(r" *\t")
"""Indentation with a tab."""
MAX_KEY: Final = 80
"""Maximum length of a key in an error, in characters."""


def dotted(place: Place) -> str:
    """Return a place as a dotted key, without keys that may be secrets.

    Example: ``("windows", 0, "start")`` gives ``windows[0].start``.
    """
    text, below_secret = "", False
    for key in place:
        if isinstance(key, int):
            text += f"[{key}]"
            continue
        below_secret, word = is_secret_name(key), plain_key(key, below_secret=below_secret)
        word = word if len(word) <= MAX_KEY else f"{word[: MAX_KEY - 1]}…"
        text += f".{word}" if text else word
    return text


def quoted(name: str) -> str:
    """Return the name of a tag or an anchor for an error, cut to `MAX_KEY`.

    It may be a misplaced text.
    """
    return f"'{name.lstrip('!')[:MAX_KEY]}'"


class Lines(Mapping[Place, int]):
    """The line of every place in a document, computed on first use.

    `numbers` are the lines of the document, then of each key or item in reading order.
    """

    def __init__(self, data: Any, numbers: array[int]) -> None:
        self._data = data
        self._numbers = numbers
        self._cached: dict[Place, int] | None = None

    @property
    def _lines(self) -> dict[Place, int]:
        if self._cached is None:
            self._cached = dict(zip(_places(self._data, ()), self._numbers, strict=True))
        return self._cached

    def __getitem__(self, place: Place) -> int:
        return self._lines[place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._numbers)


def _places(data: Any, place: Place) -> Iterator[Place]:
    yield place
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from _places(value, (*place, key))


@dataclass(slots=True)
class OpenCollection:
    """A collection that is being read.

    `start` is the index of its first line, `keys` the line of each key so far.
    """

    data: Any
    start: int
    anchor: str | None
    is_map: bool
    keys: dict[str, int] = field(default_factory=dict)
    key: str | None = None
    discard_from: int | None = None
    """Index of the first line of a value to be dropped because its key is a duplicate."""


class DocumentRefused(Exception):
    """The document exceeds a limit, and reading it stops."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Composer:
    """Reads the documents of one file, and collects their `problems`."""

    def __init__(self, file: str, text: str, *, old_numbers: bool = False) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._old_numbers = old_numbers
        self._text = text
        self._loader = Loader(text)
        self._earlier_nodes = 0
        """Number of values in the earlier documents."""
        self._stack: list[OpenCollection] = []
        self._anchors: dict[str, tuple[Any, array[int]]] = {}
        self._open: set[str] = set()
        """Anchors of the collections that are being read."""
        self._lines: array[int] = array("I")
        self._root: Any = None

    def documents(self) -> Iterator[tuple[Any, Lines]]:
        """Yield the data and lines of each document, up to the first one that is refused."""
        try:
            self._require_few_directives()
            while (event := self._loader.get_event()) is not None:
                if isinstance(event, yaml.DocumentStartEvent):
                    yield self._document()
        except DocumentRefused as e:
            self.problems.append(e.problem)
        except yaml.MarkedYAMLError as e:
            line = e.problem_mark.line + 1 if e.problem_mark else 1
            if any(map(TAB.match, self._text.split("\n")[line - 1 : line])):
                rule, hint = "is indented with a tab, which YAML does not allow", "indent with spaces"
            else:
                rule, hint = f"is not valid YAML: {yaml_rule(str(e.problem or e.context))}", ""
            self.problems.append(Problem(self._file, line, "", "", rule, hint))
        except yaml.YAMLError as e:
            self.problems.append(Problem(self._file, 1, "", "", f"is not valid YAML: {yaml_rule(str(e))}"))
        finally:
            self._loader.dispose()

    def _require_few_directives(self) -> None:
        """Refuse many directives: libyaml compares each ``%TAG`` with all earlier ones.

        Raises `DocumentRefused`.
        """
        if sum(1 for _ in islice(DIRECTIVE.finditer(self._text), MAX_DIRECTIVES + 1)) > MAX_DIRECTIVES:
            raise self._refused(1, f"has more than {MAX_DIRECTIVES} lines that begin with %", "remove the directives")

    def _document(self) -> tuple[Any, Lines]:
        self._earlier_nodes += len(self._lines)
        self._lines = array("I")
        self._anchors.clear()
        self._root = None
        get_event, process = self._loader.get_event, self._process
        while type(event := get_event()) is not yaml.DocumentEndEvent:
            process(event, event.start_mark.line + 1)
        return self._root, Lines(self._root, self._lines)

    def _process(self, event: Any, line: int) -> None:
        """Process one event of a document: the end of a collection, a key, or a value."""
        kind = type(event)
        if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end()
            return
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.is_map and frame.key is None:
            self._key(frame, event, line)
            return
        if frame is None or not frame.is_map:
            self._lines.append(line)  # the value of a key has the key's line
        self._check_size(line, 0)
        if kind is yaml.ScalarEvent:
            value = self._scalar(event, line)
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, self._lines[-1:])
            self._attach(value)
        elif kind is yaml.AliasEvent:
            self._alias(event.anchor, line)
        else:
            self._begin(event, line, is_map=kind is yaml.MappingStartEvent)

    def _check_size(self, line: int, added: int) -> None:
        if self._earlier_nodes + len(self._lines) + added > MAX_NODES:
            raise self._refused(line, f"has more than {MAX_NODES:,} values after expanding aliases", "split the file")

    def _begin(self, event: Any, line: int, *, is_map: bool) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise self._refused(
                line, f"is nested more than {MAX_DEPTH} levels deep", "remove the nesting: no setting needs it"
            )
        if event.tag not in {None, "!", f"{CORE}{'map' if is_map else 'seq'}"}:
            self._problem(line, f"has the YAML tag {quoted(event.tag)}, which is not supported", "remove the tag")
        if event.anchor is not None:
            self._open.add(event.anchor)
        self._stack.append(OpenCollection({} if is_map else [], len(self._lines) - 1, event.anchor, is_map))

    def _end(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._open.discard(frame.anchor)
            self._anchors[frame.anchor] = (frame.data, self._lines[frame.start :])
        self._attach(frame.data)

    def _attach(self, value: Any) -> None:
        """Add a finished value to the collection that contains it."""
        if not self._stack:
            self._root = value
            return
        frame = self._stack[-1]
        if not frame.is_map:
            frame.data.append(value)
            return
        if frame.discard_from is None:
            frame.data[frame.key] = value
        else:
            del self._lines[frame.discard_from :]
        frame.key = frame.discard_from = None

    def _key(self, frame: OpenCollection, event: Any, line: int) -> None:
        """Set a mapping's next key to its text, so that 1.5 and ~ are "1.5" and "~"."""
        word = event.value if isinstance(event, yaml.ScalarEvent) else None
        if word is None or word == "<<":
            raise self._refused(
                line,
                "must have plain words as keys: merge keys (<<), lists and mappings are not supported",
                "write the keys out",
            )
        frame.key = word
        if "\0" in word:
            self._problem(line, "has a key with a NUL character", "remove the character")
        if word in frame.keys:
            self._problem(line, f"is a duplicate of line {frame.keys[word]}", "remove one of the two")
            frame.discard_from = len(self._lines)
        else:
            frame.keys[word] = line
        if event.anchor is not None:
            self._anchors[event.anchor] = (word, array("I", [line]))
        self._lines.append(line)

    def _alias(self, anchor: str, line: int) -> None:
        if anchor in self._open:
            raise self._refused(line, f"has the alias {quoted(anchor)} inside its own anchor", "write the value out")
        if anchor not in self._anchors:
            raise self._refused(line, f"uses the alias {quoted(anchor)} without an anchor", "define &NAME before *NAME")
        value, lines = self._anchors[anchor]
        self._check_size(line, len(lines) - 1)
        self._lines.extend(lines[1:])
        self._attach(value)

    def _scalar(self, event: Any, line: int) -> Any:
        try:
            return value_of(event, old_numbers=self._old_numbers)
        except BadScalar as e:
            self._problem(line, e.rule, e.hint)
            return None

    def _problem(self, line: int, rule: str, hint: str) -> None:
        self.problems.append(Problem(self._file, line, dotted(self._place()), "", rule, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise self._refused(line, f"has more than {MAX_PROBLEMS} problems; the rest is not read", "fix these first")

    def _refused(self, line: int, rule: str, hint: str) -> DocumentRefused:
        return DocumentRefused(Problem(self._file, line, dotted(self._place()), "", rule, hint))

    def _place(self) -> Place:
        """Return the place of the current event."""
        steps = (frame.key if frame.is_map else len(frame.data) for frame in self._stack)
        return tuple(step for step in steps if step is not None)
