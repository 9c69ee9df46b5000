"""Loads configuration files into a `Config`, or reports all their problems."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from policies.model import WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.config import checks, derived, groups, limits
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

IMPORTED_KINDS: Final = ("HorizontalPodAutoscaler", "ScaledObject")
"""Kubernetes kinds that `forescale import` reads."""
KINDS: Final = {"sources": "source", "policies": "policy", "pools": "pool", "routes": "route"}
"""Keys whose entries have a kind, each with its registry."""

Rules: TypeAlias = Callable[[WorkloadSpec], Iterable[derived.Finding]]
"""Rules between the settings of a workload, as the problems that they find."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """A configured workload.

    It has its record, its document with all defaults as JSON, and the document's fingerprint.
    """

    spec: WorkloadSpec
    text: str = dataclasses.field(repr=False)
    fingerprint: str

    @property
    def document(self) -> dict[str, Any]:
        """The document with all defaults.

        It is decoded at each call, since its text takes less than half of the memory.
        """
        document: dict[str, Any] = json.loads(self.text)
        return document

    @property
    def name(self) -> WorkloadName:
        return WorkloadName(self.spec.workload)


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """The configuration of a daemon."""

    daemon: DaemonSpec
    workloads: Mapping[WorkloadName, Workload]


def load(paths: Iterable[Path], *, check_members: bool = True) -> Config:
    """Load files and directories. Raises `ConfigError` with every problem.

    Without `check_members`, backends may name workloads that are configured elsewhere.
    """
    with _collector_paused():
        return _load(paths, check_members=check_members)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    The collector takes a third of the time and finds nothing, since all objects stay.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(paths: Iterable[Path], *, check_members: bool) -> Config:
    files, problems = files_of(list(paths))
    daemons: list[tuple[Document, DaemonSpec]] = []
    workloads: dict[WorkloadName, Workload] = {}
    documents: dict[WorkloadName, Document] = {}
    for document in _documents(files, problems):
        if len(problems) > MAX_PROBLEMS:
            rule = f"is not read: there are more than {MAX_PROBLEMS} problems before it"
            problems.append(document.problem((), rule, "fix these first"))
            break
        if (other := _other_kind(document)) is not None:
            problems.append(other)
            continue
        if isinstance(document.data, dict) and "daemon" in document.data:
            daemons += _daemon(document, problems)
            continue
        workload = _workload(document, problems)
        if workload is None:
            continue
        if workload.name in documents:
            first = documents[workload.name]
            problems.append(
                document.problem(
                    ("workload",),
                    f"must be unique: {first.file}:{first.line(())} has a workload of the same name",
                    "rename one",
                )
            )
            continue
        workloads[workload.name] = workload
        documents[workload.name] = document
    specs = {name: workload.spec for name, workload in workloads.items()}
    for name, spec in specs.items() if check_members and not problems else ():
        problems += _located(documents[name], groups.member_problems(spec, specs))
    problems += _conflicts(workloads, documents)
    for document, daemon in daemons:
        live = checks.live_kinds(w.spec for w in workloads.values()) if daemon.clock != EmbeddedClock() else []
        problems += [document.problem(("daemon", "clock"), rule, hint) for rule, hint in live]
        problems += _located(document, limits.fleet_limits(daemon.fleet, (w.spec for w in workloads.values())))
        if daemon.ha is not None:
            problems += _located(document, limits.lease_limits(daemon.ha, (w.spec for w in workloads.values())))
    for document, _ in daemons[1:]:
        problems.append(
            document.problem(
                ("daemon",), f"must be unique: {daemons[0][0].file} has one too", "keep one daemon: document"
            )
        )
    if not workloads and not problems and not any(daemon.kubernetes_workloads for _, daemon in daemons):
        problems.append(
            Problem(
                ", ".join(map(str, files)),
                1,
                "",
                "",
                "no workload is configured",
                "add a workload; config/example has every setting",
            )
        )
    if problems:
        raise ConfigError(problems)
    return Config(daemons[0][1] if daemons else DaemonSpec(), workloads)


def _conflicts(
    workloads: Mapping[WorkloadName, Workload], documents: Mapping[WorkloadName, Document]
) -> Iterator[Problem]:
    """Yield the pools and routes that write the same object, of one or several workloads."""
    claims = Claims()
    for name, workload in workloads.items():
        writers: list[tuple[str, str, Any]] = [("pools", *item) for item in workload.spec.pools.items()]
        writers += [("routes", *item) for item in workload.spec.routes.items()]
        for key, entry, spec in writers:
            holder = functools.partial(_writer_place, documents[name], name, (key, entry))
            if broken_rule := claims.claim(spec.targets(name, entry), holder):
                hint = f"remove one of the two {key}, or set it to another object"
                yield documents[name].problem((key, entry), broken_rule, hint)


def _writer_place(document: Document, workload: WorkloadName, place: Place) -> str:
    return f"{document.file}:{document.line(place)} {'.'.join(map(str, place))} of workload {workload}"


def workload_from(document: Mapping[str, Any], file: str = "journal") -> Workload:
    """Return the workload of a document from another place, such as the journal.

    It is not run here, so its secrets need not exist. Raises `ConfigError`.
    """
    return workload_in(Document(file, document, {}), lambda _: ())


def workload_in(document: Document, rules: Rules) -> Workload:
    """Return the workload in a document that also follows `rules`. Raises `ConfigError`."""
    problems: list[Problem] = []
    workload = _workload(document, problems, rules)
    if workload is None:
        raise ConfigError(problems)
    return workload


def file_rules(spec: WorkloadSpec) -> Iterator[derived.Finding]:
    """Yield the problems of a workload of a file, whose secrets must exist."""
    yield from checks.own_problems(spec)
    yield from checks.bounds(spec)
    yield from checks.named_pools(spec)
    yield from checks.routed_pools(spec)
    yield from checks.residency(spec)
    yield from checks.localities(spec)
    yield from groups.group_settings(spec)


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a workload's document with the credentials of its adapters masked.

    The result can be stored and shown.
    """
    return {key: masked(value) if key in {"sources", "pools", "routes"} else value for key, value in document.items()}


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
        documents, file_problems = read(file)
        problems += file_problems
        yield from documents


def _daemon(document: Document, problems: list[Problem]) -> list[tuple[Document, DaemonSpec]]:
    place: Place = ("daemon",)
    settings = {} if document.data["daemon"] is None else document.data["daemon"]
    other_keys = document.data.keys() - {"daemon"}
    problems += [
        document.problem(
            (key,), "is not allowed in a document with daemon:", "move it to a separate document, after a line ---"
        )
        for key in other_keys
    ]
    model = _validate(document, model_of(DaemonSpec), settings, place, problems)
    if model is None:
        return []
    spec = record(DaemonSpec, model)
    problems += _located(document, checks.own_problems(spec, place))
    return [(document, spec)]


def _other_kind(document: Document) -> Problem | None:
    """Return the problem of a document that another command reads; None for any other document."""
    if not isinstance(document.data, dict):
        return None
    if "scenario" in document.data:
        rule, hint = "is a scenario, not a workload", f"run forescale simulate {document.file}"
        return document.problem(("scenario",), rule, hint)
    if document.data.keys() >= {"apiVersion", "kind"}:
        objects = items if isinstance(items := document.data.get("items"), list) else [document.data]
        imported = any(isinstance(o, dict) and o.get("kind") in IMPORTED_KINDS for o in objects)
        remedy = f"run forescale import {document.file}" if imported else "remove it from the configuration"
        return document.problem(("kind",), "is a Kubernetes object, not a workload", remedy, document.data["kind"])
    return None


def _located(document: Document, findings: Iterable[derived.Finding]) -> list[Problem]:
    """Return findings as problems with their lines and values in the document."""
    return [document.problem(place, rule, hint, _at(document.data, place)) for place, rule, hint in findings]


def _workload(document: Document, problems: list[Problem], rules: Rules = file_rules) -> Workload | None:
    """Return the workload in a document; None with `problems` added where it is invalid."""
    model = _validate(document, model_of(WorkloadSpec), document.data, (), problems)
    if model is None:
        return None
    spec: WorkloadSpec = record(WorkloadSpec, model)
    if derived.has_default_policy(spec):
        model = model_of(WorkloadSpec).model_validate(derived.with_default_policy(document.data))
        spec = record(WorkloadSpec, model)
    spec, findings = derived.complete(spec)
    findings += rules(spec)
    if findings:
        problems += _located(document, findings)
        return None
    resolved = model.model_dump(mode="json")
    shown = json.dumps(without_secrets(resolved), sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(shown.encode()).hexdigest()[:12]
    return Workload(spec, json.dumps(resolved, separators=(",", ":")), fingerprint)


def _validate(
    document: Document, model: type[BaseModel], data: Any, place: Place, problems: list[Problem]
) -> BaseModel | None:
    references = list(itertools.islice(_references(data, place), MAX_PROBLEMS))
    rule, hint = "must not contain ${...}: only secrets come from the environment", "write a secret as {env: NAME}"
    problems += [document.problem(reference, rule, hint, value) for reference, value in references]
    try:
        validated = model.model_validate(data)
    except ValidationError as e:
        problems += [_problem(document, error, place, model) for error in e.errors(include_url=False)[:MAX_PROBLEMS]]
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


def _problem(document: Document, error: ErrorDetails, parent: Place, model: type[BaseModel]) -> Problem:
    """Translate an error of pydantic below `parent`.

    A wrong or missing kind lists the known kinds.
    """
    place, value = (*parent, *_without_tags(error["loc"])), error["input"]
    if error["type"] == "union_tag_invalid":
        kinds = list(REGISTRIES[KINDS[str(place[0])]])
        kind = value.get("kind") if isinstance(value, dict) else None
        rule, hint = f"must be one of {', '.join(kinds)}", did_you_mean(str(kind), kinds)
        return document.problem((*place, "kind"), rule, hint, kind)
    if error["type"] == "union_tag_not_found":
        rule = f"is required; must be one of {', '.join(REGISTRIES[KINDS[str(place[0])]])}"
        return document.problem((*place, "kind"), rule)
    return problem_of(document, error, place, model)


def _without_tags(loc: tuple[Any, ...]) -> Place:
    """Return a place without the kind that pydantic adds.

    Example: ("pools", "a", "asg", "group") gives ("pools", "a", "group").
    """
    return (*loc[:2], *loc[3:]) if len(loc) > 3 and loc[0] in KINDS and loc[2] != "[key]" else loc


def _at(data: Any, place: Place) -> Any:
    """Return the value at `place`; ... where there is none, or a mapping."""
    for key in place:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return ...
    return data if not isinstance(data, dict) else ...
