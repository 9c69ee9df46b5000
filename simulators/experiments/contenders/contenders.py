"""Who takes part in a comparison: the scenario's own workload, workload files, peers by name, and the oracle.

A contender is named in words such as ``hpa``, ``static:replicas=8`` or ``mine.yaml:scale_down.window_s=60``. A name is
looked up as a file, then beside the scenario in ``workloads/``, then among the peers shipped here. What stands after
the colon changes the document before it is read.
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
from scaler.config.document import Document, read, value_in
from scaler.config.load import Workload, workload_from
from scaler.config.problems import ConfigError, Problem
from scaler.registry import REGISTRIES, did_you_mean, kind_of, resolve
from simulators.experiments.scenario import Case
from simulators.world import ports

TEMPLATES: Final = Path(__file__).parent
SELF: Final = "self"
ORACLE: Final = "oracle"
TAKEN_OVER: Final = ("min_replicas", "max_replicas", "interval_s", "deadline_s")
"""What a peer takes over from the scenario's own workload, beside its pools."""
SETTINGS: Final = tuple(f.name for f in fields(WorkloadSpec))
COMMAND_LINE: Final = "command line"


@dataclass(frozen=True, slots=True)
class Contender:
    """One that takes part: its name in tables, and the case it runs. The oracle plans the case, no policy scales it."""

    name: str
    case: Case
    oracle: bool = False


def names() -> list[str]:
    """Return the peers that are shipped, sorted."""
    return sorted(path.stem for path in TEMPLATES.glob("*.yaml"))


def contenders(case: Case, words: Sequence[str], *, with_self: bool = True) -> list[Contender]:
    """Those named, the scenario's own workload first unless it is left out. Raises `ConfigError` with all problems."""
    wanted = list(dict.fromkeys([SELF, *words] if with_self else words))
    found: list[Contender] = []
    problems: list[Problem] = []
    for word in wanted:
        try:
            one = _contender(case, word)
        except ConfigError as e:
            problems += e.problems
            continue
        if any(one.name == other.name for other in found):
            problems.append(
                _problem(word, f"two contenders would be called {one.name}", "leave one out, or rename its workload")
            )
        found.append(one)
    if not wanted:
        problems.append(_problem("", "names nobody to compare", f"give some of {', '.join([ORACLE, *names()])}"))
    if problems:
        raise ConfigError(problems)
    return found


def split(text: str) -> list[str]:
    """Contenders' words, separated by commas; those within brackets belong to a value."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth <= 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


def _contender(case: Case, word: str) -> Contender:
    name, _, told = word.partition(":")
    if name in {SELF, ORACLE} and not told:
        return Contender(case.workload.name if name == SELF else ORACLE, case, name == ORACLE)
    own = Document(case.workload.name, case.workload.document, {})
    source = own if name == SELF else _found(case, name)
    shipped = source.file.startswith(str(TEMPLATES))
    data = _changed(copy.deepcopy(source.data), told, word)
    if shipped and all(isinstance(data[key], int | float) for key in ("interval_s", "deadline_s")):
        data["deadline_s"] = min(data["deadline_s"], data["interval_s"] / 2)  # must stay below a shorter interval
    file = f"--policies {word}" if told or shipped else source.file
    return Contender(word if told or shipped else _called(source), _under(case, workload_from(data, file), file))


def _called(source: Document) -> str:
    """Return a file's workload by its own name."""
    data = source.data
    return str(data.get("workload", source.file)) if isinstance(data, dict) else source.file


def _found(case: Case, name: str) -> Document:
    """The document that a name stands for: of a file as it is, of a peer with the scenario's own bounds and pools."""
    for path in (Path(name), case.folder / "workloads" / f"{name}.yaml"):
        if path.is_file():
            return _only(path)
    if name in names():
        template = _only(TEMPLATES / f"{name}.yaml")
        return Document(template.file, _filled(case, name, template.data), template.lines)
    own = case.folder / "workloads"
    known = [SELF, ORACLE, *names(), *sorted(path.stem for path in own.glob("*.yaml"))]
    hint = did_you_mean(name, known) or f"there are {', '.join(known)}, and any workload's file"
    raise ConfigError([_problem(name, f"is no file, no workload in {own}, and no peer", hint)])


def _only(path: Path) -> Document:
    documents, problems = read(path)
    found = [d for d in documents if not (isinstance(d.data, dict) and "daemon" in d.data)]
    if not problems and len(found) != 1:
        problems = [Problem(str(path), 1, "", "", f"must hold one workload, not {len(found)}")]
    elif not problems and not isinstance(found[0].data, dict):
        problems = [found[0].problem((), "must be a mapping: a workload's keys and their values")]
    if problems:
        raise ConfigError(problems)
    return found[0]


def _filled(case: Case, name: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a peer's template with what the scenario says: bounds, interval, pools, and the KV cache's size."""
    own = case.workload.document
    policies = copy.deepcopy(template["policies"])
    for policy in policies.values():
        if "kv_tokens" in policy and policy["kv_tokens"] is None:
            policy["kv_tokens"] = min(model.kv_tokens for model in case.models.values())
    taken = {key: own[key] for key in TAKEN_OVER}
    return {"workload": name, **taken, **template, "policies": policies, "pools": own["pools"]}


def _changed(data: Any, told: str, word: str) -> Any:
    """Return the document with ``key=value;key=value`` set in it."""
    problems = []
    for assignment in filter(None, told.split(";")):
        key, equals, value = assignment.partition("=")
        places = [tuple(key.removeprefix(".").split("."))] if "." in key else _places(data, key)
        if not equals or not key:
            problems.append(_problem(word, f"{assignment!r} must be key=value", "as in static:replicas=8"))
        elif len(places) > 1:
            dotted = " or ".join(".".join(map(str, place)) for place in places)
            problems.append(_problem(word, f"{key} stands in {len(places)} places", f"say which: {dotted}"))
        else:
            problems += _assigned(data, places[0], value, word)
    if problems:
        raise ConfigError(problems)
    return data


def _assigned(data: Any, place: Sequence[Any], value: str, word: str) -> Iterator[Problem]:
    """Set a place to a value, as YAML has it; why that cannot be done."""
    try:
        told = value_in(value)
    except ValueError:
        yield _problem(word, f"{value!r} is no YAML value", "close what is opened, and quote what is special")
        return
    if not _set(data, place, told):
        where = ".".join(map(str, place))
        yield _problem(word, f"there is no place {where} in this workload", "name the keys that lead there")


def _places(data: Any, key: str) -> list[tuple[Any, ...]]:
    """Where a bare key is meant: where the policies hold it already, or could; else among the workload's settings."""
    policies = data.get("policies", {})
    there: list[tuple[Any, ...]] = [("policies", *place) for place in _holding(policies, key)]
    could: list[tuple[Any, ...]] = [
        ("policies", name, key) for name, policy in policies.items() if key in _parameters(policy)
    ]
    if there or could or key in SETTINGS:
        return there or could or [(key,)]
    return [("policies", name, key) for name in policies]


def _parameters(policy: Any) -> list[str]:
    """Return the parameters that a policy's kind has."""
    kind = str(policy.get("kind")) if isinstance(policy, dict) else ""
    return [f.name for f in fields(resolve("policy", kind))] if kind in REGISTRIES["policy"] else []


def _holding(data: Any, key: str) -> Iterator[tuple[Any, ...]]:
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in below:
        if name == key:
            yield (name,)
        yield from ((name, *place) for place in _holding(value, key))


def _set(data: Any, place: Sequence[Any], value: Any) -> bool:
    """Set a place in a document; whether the way there exists."""
    for step in place[:-1]:
        if isinstance(data, list) and str(step).isdigit() and int(step) < len(data):
            data = data[int(step)]
        elif isinstance(data, dict):
            data = data.setdefault(step, {})
        else:
            return False
    if not isinstance(data, dict):
        return False
    data[place[-1]] = value
    return True


def _under(case: Case, workload: Workload, file: str) -> Case:
    """Return the scenario under another workload. Raises `ConfigError` with every reason why it cannot run there."""
    source = Document(file, workload.document, {})
    findings = [
        *checks.own_problems(workload.spec.policies, ("policies",)),
        *checks.bounds(workload.spec),
        *_stuck(workload.spec),
    ]
    problems = [source.problem(place, rule, hint) for place, rule, hint in (*findings, *_out_of_bounds(workload.spec))]
    try:
        made = case.under(workload, file)
    except ConfigError as e:
        raise ConfigError([*problems, *e.problems]) from e
    if made.scenario.queue != case.scenario.queue:
        rule = "reads a queue, and in this scenario a gateway hands requests over"
        problems.append(source.problem(("sources",), rule, "give the scenario a queue, or read the engines"))
    if problems:
        raise ConfigError(problems)
    return made


def _out_of_bounds(spec: WorkloadSpec) -> Iterator[checks.Finding]:
    """A fixed size that the workload's bounds would change without a word: the comparison would be of another size."""
    for name, policy in spec.policies.items():
        if isinstance(policy, Static) and not spec.min_replicas <= policy.replicas <= spec.max_replicas:
            rule = f"{policy.replicas} is not within the workload's {spec.min_replicas} to {spec.max_replicas} replicas"
            yield ("policies", name, "replicas"), rule, "widen them: static:replicas=1;min_replicas=1"


def _stuck(spec: WorkloadSpec) -> Iterator[checks.Finding]:
    """Yield a zero that nothing leaves: engines tell nothing while none runs."""
    told = any(kind_of("source", source) in ports.QUEUES for source in spec.sources.values())
    blind = all(policy.needs() for policy in spec.policies.values())
    if spec.min_replicas == 0 and blind and not told:
        rule = "0 needs a source that tells of work while no engine runs, and this one reads engines only"
        yield ("min_replicas",), rule, "set it to 1, as in hpa:min_replicas=1"


def _problem(value: str, rule: str, hint: str = "") -> Problem:
    return Problem(COMMAND_LINE, 1, "--policies", value, rule, hint)
