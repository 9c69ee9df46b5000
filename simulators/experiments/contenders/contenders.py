"""Contenders of a comparison.

They are the scenario's own workload, workload files, peers by name, and the oracle.

A text such as ``hpa``, ``static:replicas=8`` or ``mine.yaml:scale_down.window_s=60`` names a contender. The name before
the colon is a file, a workload in the scenario's folder ``workloads/``, or a peer shipped here, in this order. The
settings after the colon change the document before it is loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from policies.model.spec import WorkloadSpec
from policies.recommend.peers.static import Static
from scaler.config import checks
from scaler.config.derived import Finding
from scaler.config.document import Document, value_in
from scaler.config.load import Workload, workload_from
from scaler.config.problems import ConfigError, Problem
from scaler.registry import REGISTRIES, did_you_mean, kind_of, resolve
from simulators.engine.models.worth import engine_profile
from simulators.experiments.scenario import Case, workload_document
from simulators.world import ports

TEMPLATES: Final = Path(__file__).parent
SELF: Final = "self"
ORACLE: Final = "oracle"
INHERITED: Final = ("min_replicas", "max_replicas", "interval_s", "deadline_s")
"""The keys, in addition to the pools, that a peer inherits from the scenario's own workload."""
SETTINGS: Final = tuple(f.name for f in fields(WorkloadSpec))
COMMAND_LINE: Final = "command line"


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy of a comparison: its name in tables and its case.

    The oracle plans the case instead of a policy.
    """

    name: str
    case: Case
    oracle: bool = False


def peer_names() -> list[str]:
    """Return the names of the shipped peers, sorted."""
    return sorted(path.stem for path in TEMPLATES.glob("*.yaml"))


def contenders(case: Case, texts: Sequence[str], *, with_self: bool = True) -> list[Contender]:
    """Return the contenders named by `texts`, after the scenario's own workload if `with_self`.

    Raises `ConfigError` with all problems.
    """
    texts = list(dict.fromkeys([SELF, *texts] if with_self else texts))
    selected: list[Contender] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            contender = _contender(case, text)
        except ConfigError as e:
            problems += e.problems
            continue
        if any(contender.name == earlier.name for earlier in selected):
            problems.append(
                _problem(text, f"two policies have the name {contender.name}", "remove one, or rename its workload")
            )
        selected.append(contender)
    if not texts:
        problems.append(
            _problem("", "names no policy to compare", f"name some of {', '.join([ORACLE, *peer_names()])}")
        )
    if problems:
        raise ConfigError(problems)
    return selected


def split_texts(text: str) -> list[str]:
    """Return the contenders' texts, separated by commas outside of brackets.

    ``hpa,mine.yaml:metrics=[{quantities: [a, b]}]`` gives two texts.
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _contender(case: Case, text: str) -> Contender:
    name, _, settings = text.partition(":")
    if name in {SELF, ORACLE} and not settings:
        return Contender(case.workload.name if name == SELF else ORACLE, case, name == ORACLE)
    own = Document(case.workload.name, case.workload.document, {})
    source = own if name == SELF else _document(case, name)
    shipped = source.file.startswith(str(TEMPLATES))
    data = _with_settings(copy.deepcopy(source.data), settings, text)
    if shipped and all(isinstance(data[key], int | float) for key in ("interval_s", "deadline_s")):
        data["deadline_s"] = min(data["deadline_s"], data["interval_s"] / 2)  # must stay below a shorter interval
    file = f"--policies {text}" if settings or shipped else source.file
    return Contender(
        text if settings or shipped else _workload_name(source), _case_under(case, workload_from(data, file), file)
    )


def _workload_name(source: Document) -> str:
    """Return the name of a file's workload, or the file's."""
    data = source.data
    return str(data.get("workload", source.file)) if isinstance(data, dict) else source.file


def _document(case: Case, name: str) -> Document:
    """Return the document of a file, or of a peer with the scenario's bounds and pools."""
    for path in (Path(name), case.folder / "workloads" / f"{name}.yaml"):
        if path.is_file():
            return _workload_mapping(path)
    if name in peer_names():
        template = _workload_mapping(TEMPLATES / f"{name}.yaml")
        return Document(template.file, _filled_template(case, name, template.data), template.lines)
    folder = case.folder / "workloads"
    known = [SELF, ORACLE, *peer_names(), *sorted(path.stem for path in folder.glob("*.yaml"))]
    hint = did_you_mean(name, known) or f"use a workload file, or one of {', '.join(known)}"
    raise ConfigError([_problem(name, f"is not a file, a workload in {folder}, or a known policy", hint)])


def _workload_mapping(path: Path) -> Document:
    document = workload_document(path)
    if not isinstance(document.data, dict):
        raise ConfigError([document.problem((), "must be a mapping of workload keys to values")])
    return document


def _filled_template(case: Case, name: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a peer's template with the scenario's bounds, interval, pools and smallest engine."""
    own = case.workload.document
    profile = engine_profile(min(case.models.values(), key=lambda model: model.kv_tokens))
    policies = {
        key: {k: profile[k] if v is None and k in profile else v for k, v in policy.items()}
        for key, policy in copy.deepcopy(template["policies"]).items()
    }
    inherited = {key: own[key] for key in INHERITED}
    return {"workload": name, **inherited, **template, "policies": policies, "pools": own["pools"]}


def _with_settings(data: Any, settings: str, text: str) -> Any:
    """Return the document with ``key=value;key=value`` set in it."""
    problems = []
    for assignment in filter(None, settings.split(";")):
        key, equals, value = assignment.partition("=")
        places = [tuple(key.removeprefix(".").split("."))] if "." in key else _places(data, key)
        if not equals or not key:
            problems.append(_problem(text, f"{assignment!r} must be key=value", "as in static:replicas=8"))
        elif not places:
            problems.append(_problem(text, f"the workload has no {key}", "give the full path of the key"))
        elif len(places) > 1:
            dotted = " or ".join(".".join(map(str, place)) for place in places)
            problems.append(_problem(text, f"{key} is ambiguous: it occurs in {len(places)} places", f"use {dotted}"))
        else:
            problems += _assign(data, places[0], value, text)
    if problems:
        raise ConfigError(problems)
    return data


def _assign(data: Any, place: Sequence[Any], value: str, text: str) -> Iterator[Problem]:
    """Set a place to a YAML value. Yield the problem if that fails."""
    try:
        parsed = value_in(value)
    except ValueError:
        yield _problem(
            text, f"{value!r} is not a valid YAML value", "close all brackets and quotes, and quote special characters"
        )
        return
    if not _set(data, place, parsed):
        where = ".".join(map(str, place))
        yield _problem(text, f"the workload has no {where}", "give the full path of the key")


def _places(data: Any, key: str) -> list[tuple[Any, ...]]:
    """Return the places that a bare key may mean.

    They are where the policies set it, else where a policy has it as a parameter, else the workload's own setting.
    """
    policies = data.get("policies", {})
    existing: list[tuple[Any, ...]] = [("policies", *place) for place in _occurrences(policies, key)]
    possible: list[tuple[Any, ...]] = [
        ("policies", name, key) for name, policy in policies.items() if key in _parameter_names(policy)
    ]
    if existing or possible or key in SETTINGS:
        return existing or possible or [(key,)]
    return [("policies", name, key) for name in policies]


def _parameter_names(policy: Any) -> list[str]:
    """Return the parameter names of a policy's kind."""
    kind = str(policy.get("kind")) if isinstance(policy, dict) else ""
    return [f.name for f in fields(resolve("policy", kind))] if kind in REGISTRIES["policy"] else []


def _occurrences(data: Any, key: str) -> Iterator[tuple[Any, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in children:
        if name == key:
            yield (name,)
        yield from ((name, *place) for place in _occurrences(value, key))


def _set(data: Any, place: Sequence[Any], value: Any) -> bool:
    """Set a place in a document. Return whether its parents exist."""
    for key in place[:-1]:
        if isinstance(data, list) and str(key).isdigit() and int(key) < len(data):
            data = data[int(key)]
        elif isinstance(data, dict):
            data = data.setdefault(key, {})
        else:
            return False
    if not isinstance(data, dict):
        return False
    data[place[-1]] = value
    return True


def _case_under(case: Case, workload: Workload, file: str) -> Case:
    """Return the case under another workload.

    Raises `ConfigError` with all reasons why it cannot run there.
    """
    source = Document(file, workload.document, {})
    findings = [
        *checks.own_problems(workload.spec.policies, ("policies",)),
        *checks.bounds(workload.spec),
        *_stuck_at_zero(workload.spec),
    ]
    problems = [
        source.problem(place, rule, hint) for place, rule, hint in (*findings, *_static_out_of_bounds(workload.spec))
    ]
    try:
        moved = case.under(workload, file)
    except ConfigError as e:
        raise ConfigError([*problems, *e.problems]) from e
    if moved.scenario.queue != case.scenario.queue:
        rule = "reads a queue, but the scenario has none: a gateway forwards its requests"
        problems.append(source.problem(("sources",), rule, "add a queue to the scenario, or read the engines"))
    if problems:
        raise ConfigError(problems)
    return moved


def _static_out_of_bounds(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the static policies whose size the workload's bounds would silently change."""
    for name, policy in spec.policies.items():
        if isinstance(policy, Static) and not spec.min_replicas <= policy.replicas <= spec.max_replicas:
            rule = f"{policy.replicas} must be min_replicas to max_replicas, {spec.min_replicas} to {spec.max_replicas}"
            yield ("policies", name, "replicas"), rule, "widen the bounds, as in static:replicas=1;min_replicas=1"


def _stuck_at_zero(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield a minimum of zero that no signal ends: engines report nothing while none runs."""
    has_queue = any(kind_of("source", source) in ports.QUEUES for source in spec.sources.values())
    needs_engines = all(policy.needs() for policy in spec.policies.values())
    if spec.min_replicas == 0 and needs_engines and not has_queue:
        rule = "0 needs a source that reports demand while no engine runs, but this workload reads engines only"
        yield ("min_replicas",), rule, "set it to 1, as in hpa:min_replicas=1"


def _problem(value: str, rule: str, hint: str = "") -> Problem:
    return Problem(COMMAND_LINE, 1, "--policies", value, rule, hint)
