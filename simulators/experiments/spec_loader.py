"""Loader of the simulator's records from YAML documents, by the metadata of their fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from scaler.config import document as yaml
from scaler.config.checks import own_problems
from scaler.config.document import Document
from scaler.config.problems import ConfigError, Problem
from scaler.config.schema import model_of, record
from scaler.config.validation import problem_of
from scaler.config.yaml_composer import MAX_PROBLEMS, Place
from scaler.registry import did_you_mean, import_object

COMMAND_LINE: Final = "command line"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Marker of a field with a record chosen by its ``kind``.

    The field may also have a mapping of names to such records. `kinds` maps a kind to its "module:Class", which is
    imported on use.
    """

    kinds: Mapping[str, str]


def read_file(kinds: Mapping[str, str], path: Path) -> Any:
    """Return the record of any of `kinds` in a YAML file. Raises `ConfigError`."""
    documents, problems = yaml.read(path)
    if len(documents) != 1 and not problems:
        problems.append(Problem(str(path), 1, "", "", f"must contain one document, not {len(documents)}"))
    if problems:
        raise ConfigError(problems)
    return read_kind(kinds, documents[0].data, documents[0])


def read_kind(kinds: Mapping[str, str], data: Any, source: Document | str = COMMAND_LINE) -> Any:
    """Return the record that `data` describes, of the class that its ``kind`` names.

    Raises `ConfigError`.
    """
    loader = _Loader(source)
    return loader.validated(loader.record_of_kind(kinds, data, ()))


def read(cls: type[Any], data: Any, source: Document | str = COMMAND_LINE) -> Any:
    """Return `data` as a record of `cls`. Raises `ConfigError` with all problems."""
    loader = _Loader(source)
    return loader.validated(loader.record(cls, data, ()))


class _Loader:
    """The reading of one document and its problems."""

    def __init__(self, source: Document | str) -> None:
        self.document = source if isinstance(source, Document) else Document(source, {}, {})
        self.problems: list[Problem] = []

    def validated(self, loaded: Any) -> Any:
        """Return the record. Raises `ConfigError` if it or the document has problems."""
        if loaded is not None:
            self.problems += [self.document.problem(place, rule, hint) for place, rule, hint in own_problems(loaded)]
        if self.problems:
            raise ConfigError(self.problems)
        return loaded

    def record_of_kind(self, kinds: Mapping[str, str], data: Any, place: Place) -> Any:
        """Return the record of the kind that `data` names, or None if it has a problem."""
        if not isinstance(data, dict):
            return self._fault(place, "must be a mapping", "", data)
        kind = data.get("kind", ...)
        if not isinstance(kind, str) or kind not in kinds:
            hint = "" if kind is ... else did_you_mean(str(kind), list(kinds))
            return self._fault((*place, "kind"), f"must be one of {', '.join(kinds)}", hint, kind)
        return self.record(
            import_object(kinds[kind]), {key: value for key, value in data.items() if key != "kind"}, place
        )

    def record(self, cls: type[Any], data: Any, place: Place) -> Any:
        """Return the record of `cls`, or None if it has a problem."""
        hashable: Any = cls
        model: Any = model_of(hashable)
        try:
            validated = model.model_validate(data)
        except ValidationError as e:
            for error in e.errors(include_url=False)[:MAX_PROBLEMS]:
                self.problems.append(problem_of(self.document, error, (*place, *error["loc"]), model))
            return None
        loaded = record(cls, validated)
        fields = {name: self._field(marker, getattr(loaded, name), (*place, name)) for name, marker in _marked(cls)}
        return dataclasses.replace(loaded, **fields) if fields else loaded

    def _field(self, marker: Chosen, data: Any, place: Place) -> Any:
        """Return the value of a marked field: a record, or records by name."""
        if isinstance(data, dict) and "kind" in data:
            return self.record_of_kind(marker.kinds, data, place)
        if not isinstance(data, dict):
            return data  # null, or a default that is a record already
        return {name: self.record_of_kind(marker.kinds, value, (*place, str(name))) for name, value in data.items()}

    def _fault(self, place: Place, rule: str, hint: str, value: Any) -> None:
        self.problems.append(self.document.problem(place, rule, hint, value))


def _marked(cls: type[Any]) -> list[tuple[str, Chosen]]:
    """Return the fields of `cls` that are chosen by kind."""
    marked = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated:
            marked += [(name, marker) for marker in get_args(hint)[1:] if isinstance(marker, Chosen)]
    return marked
