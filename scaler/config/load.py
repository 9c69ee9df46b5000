"""Configuration files to a `Config`, or to all that is wrong with them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from policies.model import PoolName, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.config import checks, limits
from scaler.config.daemon import DaemonSpec, EmbeddedClock
from scaler.config.document import Document, read
from scaler.config.files import files_of
from scaler.config.problems import ConfigError, Problem
from scaler.config.resize_claims import Claims
from scaler.config.schema import model_of, record
from scaler.config.validation import problem_of
from scaler.config.yaml_composer import MAX_PROBLEMS, Place
from scaler.masking import masked
from scaler.registry import REGISTRIES, did_you_mean

KINDS: Final = {"sources": "source", "policies": "policy", "pools": "pool"}
"""Keys whose entries are chosen by kind, and the registry they come from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """A workload as configured: its record, the document with every default filled in, and the fingerprint of that."""

    spec: WorkloadSpec
    document: Mapping[str, Any]
    fingerprint: str

    @property
    def name(self) -> WorkloadName:
        return WorkloadName(self.spec.workload)


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """All that the daemon was told."""

    daemon: DaemonSpec
    workloads: Mapping[WorkloadName, Workload]


def load(paths: Iterable[Path]) -> Config:
    """Read files and directories of them. Raises `ConfigError` with every problem found."""
    with _collector_paused():
        return _load(paths)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: what is loaded stays, and passes over it cost a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(paths: Iterable[Path]) -> Config:
    files, problems = files_of(list(paths))
    daemons: list[tuple[Document, DaemonSpec]] = []
    workloads: dict[WorkloadName, Workload] = {}
    places: dict[WorkloadName, Document] = {}
    for document in _documents(files, problems):
        if len(problems) > MAX_PROBLEMS:
            rule = f"is read no further: there are more than {MAX_PROBLEMS} problems before it"
            problems.append(document.problem((), rule, "mend these first"))
            break
        if isinstance(document.data, dict) and "daemon" in document.data:
            daemons += _daemon(document, problems)
            continue
        workload = _workload(document, problems)
        if workload is None:
            continue
        if workload.name in places:
            first = places[workload.name]
            problems.append(document.problem(("workload",), f"given twice, first in {first.file}:{first.line(())}"))
            continue
        workloads[workload.name] = workload
        places[workload.name] = document
    problems += _conflicts(workloads, places)
    for document, daemon in daemons:
        live = checks.live_kinds(w.spec for w in workloads.values()) if daemon.clock != EmbeddedClock() else []
        problems += [document.problem(("daemon", "clock"), rule, hint) for rule, hint in live]
        across = limits.across(daemon.fleet, (w.spec for w in workloads.values()))
        problems += [document.problem(where, rule, hint, _at(document.data, where)) for where, rule, hint in across]
    for document, _ in daemons[1:]:
        problems.append(document.problem(("daemon",), f"given twice, first in {daemons[0][0].file}"))
    if not workloads and not problems:
        problems.append(
            Problem(", ".join(map(str, files)), 1, "", "", "no workload is configured", "see config/example")
        )
    if problems:
        raise ConfigError(problems)
    return Config(daemons[0][1] if daemons else DaemonSpec(), workloads)


def _conflicts(
    workloads: Mapping[WorkloadName, Workload], places: Mapping[WorkloadName, Document]
) -> Iterator[Problem]:
    """Pools, of whichever workloads, that resize the same object."""
    claims = Claims()
    for name, workload in workloads.items():
        for pool, spec in workload.spec.pools.items():
            where = functools.partial(_pool_place, places[name], name, pool)
            if broken := claims.claim(spec.targets(name, pool), where):
                hint = "keep one of the two pools, or name another object"
                yield places[name].problem(("pools", pool), broken, hint)


def _pool_place(document: Document, workload: WorkloadName, pool: PoolName) -> str:
    return f"{document.file}:{document.line(('pools', pool))} pools.{pool} of workload {workload}"


def workload_from(document: Mapping[str, Any], file: str = "journal") -> Workload:
    """Return a workload from a document kept elsewhere, as the journal does. Raises `ConfigError`."""
    problems: list[Problem] = []
    workload = _workload(Document(file, document, {}), problems, here=False)
    if workload is None:
        raise ConfigError(problems)
    return workload


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a workload's document as it may be kept and shown: what leads to sources and pools without credentials."""
    return {key: masked(value) if key in {"sources", "pools"} else value for key, value in document.items()}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of one configuration document."""
    daemon = {"type": "object", "properties": {"daemon": {"$ref": "#/$defs/DaemonSpec"}}, "required": ["daemon"]}
    workload = model_of(WorkloadSpec).model_json_schema(ref_template="#/$defs/{model}")
    settings = model_of(DaemonSpec).model_json_schema(ref_template="#/$defs/{model}")
    definitions = {**workload.pop("$defs"), **settings.pop("$defs"), "DaemonSpec": settings, "WorkloadSpec": workload}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Forescale configuration document",
        "anyOf": [{"$ref": "#/$defs/WorkloadSpec"}, {**daemon, "additionalProperties": False}],
        "$defs": dict(sorted(definitions.items())),
    }


def _documents(files: list[Path], problems: list[Problem]) -> Iterator[Document]:
    for file in files:
        documents, found = read(file)
        problems += found
        yield from documents


def _daemon(document: Document, problems: list[Problem]) -> list[tuple[Document, DaemonSpec]]:
    place: Place = ("daemon",)
    settings = {} if document.data["daemon"] is None else document.data["daemon"]
    others = document.data.keys() - {"daemon"}
    problems += [document.problem((key,), "a document that starts with daemon: has no other key") for key in others]
    model = _validate(document, model_of(DaemonSpec), settings, place, problems)
    if model is None:
        return []
    spec = record(DaemonSpec, model)
    own = checks.own_problems(spec, place)
    problems += [document.problem(where, rule, hint, _at(document.data, where)) for where, rule, hint in own]
    return [(document, spec)]


def _workload(document: Document, problems: list[Problem], *, here: bool = True) -> Workload | None:
    """Return the workload in a document.

    `here` is False for one that need not run here: its secrets are not looked for.
    """
    model = _validate(document, model_of(WorkloadSpec), document.data, (), problems)
    if model is None:
        return None
    spec: WorkloadSpec = record(WorkloadSpec, model)
    spec, findings = checks.name_sources(spec)
    if here:
        findings += [*checks.own_problems(spec), *checks.bounds(spec), *checks.named_pools(spec)]
    if findings:
        problems += [document.problem(where, rule, hint, _at(document.data, where)) for where, rule, hint in findings]
        return None
    resolved = model.model_dump(mode="json")
    text = json.dumps(without_secrets(resolved), sort_keys=True, separators=(",", ":"))
    return Workload(spec, resolved, hashlib.sha256(text.encode()).hexdigest()[:12])


def _validate(
    document: Document, model: type[BaseModel], data: Any, at: Place, problems: list[Problem]
) -> BaseModel | None:
    references = list(itertools.islice(_references(data, at), MAX_PROBLEMS))
    problems += [
        document.problem(
            where, "environment references are for secrets only", "fields for secrets take {env: NAME}", value
        )
        for where, value in references
    ]
    try:
        validated = model.model_validate(data)
    except ValidationError as e:
        problems += [_problem(document, error, at, model) for error in e.errors(include_url=False)[:MAX_PROBLEMS]]
        return None
    return None if references else validated


def _references(data: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(data, str) and "${" in data:
        yield place, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _references(value, (*place, str(key)))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _references(value, (*place, i))


def _problem(document: Document, error: ErrorDetails, at: Place, model: type[BaseModel]) -> Problem:
    """Return one of pydantic's errors in our words, where a kind is wrong or missing with those that there are."""
    place, given = (*at, *_without_tags(error["loc"])), error["input"]
    if error["type"] == "union_tag_invalid":
        kinds = list(REGISTRIES[KINDS[str(place[0])]])
        kind = given.get("kind") if isinstance(given, dict) else None
        rule, hint = f"must be one of {', '.join(kinds)}", did_you_mean(str(kind), kinds)
        return document.problem((*place, "kind"), rule, hint, kind)
    if error["type"] == "union_tag_not_found":
        rule = f"is required: one of {', '.join(REGISTRIES[KINDS[str(place[0])]])}"
        return document.problem((*place, "kind"), rule)
    return problem_of(document, error, place, model)


def _without_tags(loc: tuple[Any, ...]) -> Place:
    """Return a place without the kinds that pydantic puts into it."""
    return (*loc[:2], *loc[3:]) if len(loc) > 3 and loc[0] in KINDS and loc[2] != "[key]" else loc


def _at(data: Any, place: Place) -> Any:
    """Return the value at `place`, or ... where it is not given."""
    for key in place:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return ...
    return data if not isinstance(data, dict) else ...
