"""A scenario: traffic, engines, pools, faults and the workload that scales them.

One YAML file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

from policies.model import PoolName
from policies.model.field_metadata import FieldMetadata
from policies.model.names import NAME, BackendName
from policies.model.spec import Slo
from policies.quota.fleet_quota import FleetLimits
from scaler.config import checks, limits
from scaler.config.document import Document
from scaler.config.document import read as read_yaml
from scaler.config.load import Workload, workload_from
from scaler.config.problems import ConfigError, Problem
from scaler.registry import kind_of
from simulators.engine.kernel.event_loop import Router
from simulators.engine.models.service import ServiceModel
from simulators.experiments import group_cases, spec_loader
from simulators.experiments.offered_pools import models_of, region_problems, supply_problems
from simulators.experiments.spec_loader import Chosen
from simulators.world import ports
from simulators.world.faults import FaultSettings
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.queue import SimulatedQueue
from simulators.world.routing.provider import SimulatedProvider
from simulators.world.telemetry import Telemetry
from simulators.world.traffic.generate import GENERATORS
from simulators.world.world import MAX_S

MONDAY: Final = "2026-01-05T00:00:00+00:00"
YEARS: Final = range(1970, 2200)
"""The years in which a scenario may start: no negative Unix times, and dates of four digits."""
MAX_REPLICAS: Final = 100_000
"""The upper limit of a workload's own maximum."""
MAX_REQUESTS: Final = 100_000_000
"""This number of requests takes about 10 GB of memory."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One simulated world and the workload that scales it."""

    scenario: Annotated[str, FieldMetadata("Name of the scenario. Required.", pattern=NAME, example="chat-day")]
    workload: Annotated[
        str,
        FieldMetadata(
            "Workload file as the daemon reads it, relative to the scenario file. Its sources and pools are simulated.",
            example="../workloads/chat.yaml",
        ),
    ]
    traffic: Annotated[
        Any,
        Chosen(GENERATORS),
        FieldMetadata("Requests to simulate: a generator or a trace.", example={"kind": "poisson", "rps": 10.0}),
    ]
    pools: Annotated[
        Mapping[PoolName, PoolOffer],
        FieldMetadata("Simulated infrastructure of each pool (model, price, zones), by pool name of the workload."),
    ]
    initial_replicas: Annotated[
        Mapping[PoolName, int],
        FieldMetadata("Ready replicas at the start, by pool. Default: the minimum of the workload, in its first pool."),
    ] = field(default_factory=dict)
    duration_s: Annotated[
        float | None,
        FieldMetadata(
            "Time during which requests arrive. Default: null, the length of the traffic. Seconds.", gt=0, le=MAX_S
        ),
    ] = None
    settle_s: Annotated[
        float,
        FieldMetadata(
            "Time after the last arrivals for running requests to finish. Raise it if a run warns of unfinished"
            " requests. Seconds.",
            ge=0,
            le=86400,
        ),
    ] = 300.0
    warm_up_s: Annotated[
        float,
        FieldMetadata(
            "Warm-up: requests that arrive earlier are served but not counted. Default: 0, all count. Seconds.",
            ge=0,
            le=MAX_S,
        ),
    ] = 0.0
    start: Annotated[str, FieldMetadata("Date and time of the start with UTC offset. The default is a Monday.")] = (
        MONDAY
    )
    seed: Annotated[int, FieldMetadata("Random seed. Equal seeds give byte-identical journals.", ge=0, lt=2**63)] = 1
    slo: Annotated[
        Slo | None,
        FieldMetadata(
            "SLO by which the requests are judged. Default: null, the requests are not judged. `tune` and the oracle"
            " require one."
        ),
    ] = None
    router: Annotated[Router, FieldMetadata("Assignment of requests to replicas.")] = field(default_factory=Router)
    queue: Annotated[
        SimulatedQueue | None,
        FieldMetadata(
            "Cloud queue in front of the replicas. Default: null, a gateway forwards requests at once, unless the"
            " workload reads a queue."
        ),
    ] = None
    providers: Annotated[
        Mapping[BackendName, SimulatedProvider],
        FieldMetadata(
            "Token APIs of the workload's route, by the name of the backend: price, latency, rate limits and faults."
            " Default: {}."
        ),
    ] = field(default_factory=dict)
    round_trip_s: Annotated[
        Mapping[str, float],
        FieldMetadata(
            "Time from the traffic to each region and back, which comes before the first token of a request served"
            " there. Default: {}, no delay. Seconds.",
            example={"us-east-1": 0.01, "eu-west-1": 0.08},
        ),
    ] = field(default_factory=dict)
    telemetry: Annotated[Telemetry, FieldMetadata("Scrapes of the engine metrics.")] = field(default_factory=Telemetry)
    faults: Annotated[
        tuple[FaultSettings, ...], FieldMetadata("Fault injection in calls to sources and pools. Default: no faults.")
    ] = ()
    fleet: Annotated[
        FleetLimits,
        FieldMetadata("Limits shared with concurrent_scenarios, as in `daemon.fleet`. Default: no limits."),
    ] = field(default_factory=FleetLimits)
    concurrent_scenarios: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Files of scenarios that run at the same time and share the fleet limits. Each has a simulated world of its"
            " own. Workloads of one `group` take one another's requests, as their routes say."
        ),
    ] = ()
    prefix_hit_share: Annotated[
        float,
        FieldMetadata(
            "Share of each prompt in the prefix cache, for traffic without recorded cache hits. Default: 0, no hits.",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    quantities: Annotated[
        Mapping[str, str],
        FieldMetadata("Simulated quantity for each quantity name that only the workload knows. Default: {}."),
    ] = field(default_factory=dict)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not hasattr(self.traffic, "requests"):
            yield "traffic", f"must be a generator, with a kind: one of {', '.join(GENERATORS)}"
        try:
            start = datetime.fromisoformat(self.start)
            if start.tzinfo is None:
                yield "start", "must have a UTC offset, as in 2026-01-05T00:00:00+00:00"
            elif start.year not in YEARS:
                yield "start", f"must be in the years {YEARS[0]} to {YEARS[-1]}"
        except ValueError as e:
            yield "start", f"must be a date and time in ISO 8601: {e}"
        if not self.pools:
            yield "pools", "must name at least one pool"
        for name, replicas in self.initial_replicas.items():
            if name not in self.pools:
                yield "initial_replicas", f"{name} is not a pool of the scenario; the pools are {', '.join(self.pools)}"
            elif not 0 <= replicas <= MAX_REPLICAS:
                yield "initial_replicas", f"{name} starts with {replicas} replicas: must be 0 to {MAX_REPLICAS}"
        yield from region_problems(self.round_trip_s, self.pools, self.providers)
        if self.queue is not None and self.router.limit is not None:
            yield "router", "limit cannot be set in a scenario with a queue: set queue.per_replica"
        if self.router.patience_s is not None and self.router.patience_s > MAX_S:
            yield "router", f"patience_s must be at most {MAX_S:g}; null: no limit"
        for key in ("limit", "queue_limit"):
            if (getattr(self.router, key) or 0) > MAX_REQUESTS:
                yield "router", f"{key} must be at most {MAX_REQUESTS:,}; null: no limit"

    @property
    def epoch_s(self) -> float:
        """The Unix time of the start."""
        return datetime.fromisoformat(self.start).timestamp()

    @property
    def end_s(self) -> float:
        """The end of the traffic. Seconds from the start."""
        if self.duration_s is not None:
            return self.duration_s
        length: float = self.traffic.length_s
        return length


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario with its workload and models loaded, ready to simulate.

    `folder` holds its files.
    """

    scenario: Scenario
    workload: Workload
    models: Mapping[str, ServiceModel]
    pools: Mapping[PoolName, PoolName]
    """The scenario's pool for each pool of the workload."""
    folder: Path
    concurrent: tuple[Case, ...] = ()
    """The cases that run at the same time, under the same fleet limits and maybe in one group."""

    @property
    def target(self) -> Slo:
        """The scenario's SLO. Raises `ConfigError` if it has none."""
        if self.scenario.slo is None:
            rule = "is required here: add it, as in slo: {ttft_s: 1.0, itl_s: 0.05, share: 0.99}"
            raise ConfigError([Problem(f"scenario {self.scenario.scenario}", 1, "slo", "null", rule)])
        return self.scenario.slo

    @property
    def telemetry(self) -> Telemetry:
        """The scrapes, with the rate window that the policies expect where the scenario sets none."""
        telemetry, policies = self.scenario.telemetry, self.workload.spec.policies.values()
        windows = (getattr(policy, "rate_window_s", None) for policy in policies)
        expected_s = next((window_s for window_s in windows if window_s is not None), None)
        if telemetry.rate_window_s is not None or expected_s is None:
            return telemetry
        return dataclasses.replace(telemetry, rate_window_s=expected_s)

    def under(self, workload: Workload, file: str) -> Case:
        """Return the same world and concurrent cases under another workload. Raises `ConfigError`."""
        case = _build_case(self.scenario, workload, self.models, self.folder, file)
        return with_concurrent(case, self.concurrent, _source(file), file)

    @property
    def file(self) -> str:
        """The file of the scenario's workload."""
        return str(self.folder / self.scenario.workload)


def load(path: Path) -> Case:
    """Return the case of a scenario's file. Raises `ConfigError` with all problems."""
    case, source = _read(path)
    read = ((case, source), *_concurrent_cases(case, source))
    cases = tuple(each for each, _ in read)
    problems = [
        document.problem(("round_trip_s",), rule)
        for each, document in read
        for rule in group_cases.unused_regions(each, cases)
    ]
    if problems:
        raise ConfigError(problems)
    return with_concurrent(case, cases[1:], source, case.file)


def _read(path: Path) -> tuple[Case, Document]:
    """Return a scenario's case without the concurrent ones, and its document.

    Raises `ConfigError`.
    """
    documents, problems = read_yaml(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must contain one scenario, not {len(documents)} documents")]
    if problems:
        raise ConfigError(problems)
    source = documents[0]
    if isinstance(source.data, dict) and "max_replicas" in source.data and "scenario" not in source.data:
        rule, hint = "is a workload, not a scenario", "name this file in a scenario, as in config/scenarios/chat.yaml"
        raise ConfigError([source.problem(("workload",), rule, hint)])
    scenario: Scenario = spec_loader.read(Scenario, source.data, source)
    folder = path.parent
    models, problems = models_of(scenario.pools, folder, source)
    problems += supply_problems(scenario.pools, folder, source)
    if problems:
        raise ConfigError(problems)
    scenario = dataclasses.replace(scenario, traffic=_resolve_files(scenario.traffic, folder))
    file = folder / scenario.workload
    return _build_case(scenario, load_workload(file), models, folder, str(file)), source


def _concurrent_cases(case: Case, source: Document) -> Iterator[tuple[Case, Document]]:
    """Yield the cases of `concurrent_scenarios` with their documents. Raises `ConfigError`."""
    for name in case.scenario.concurrent_scenarios:
        neighbour, document = _read(case.folder / name)
        rule = "has concurrent_scenarios" if neighbour.scenario.concurrent_scenarios else "has fleet limits of its own"
        if neighbour.scenario.concurrent_scenarios or neighbour.scenario.fleet.limits:
            hint = "list all scenarios and the limits in one scenario"
            raise ConfigError([source.problem(("concurrent_scenarios",), f"{name} {rule}", hint)])
        yield neighbour, document


def with_concurrent(case: Case, concurrent: tuple[Case, ...], source: Document, file: str) -> Case:
    """Return the case with concurrent ones that share its fleet and may be in its group.

    Raises `ConfigError` with places in `source`, or in the file of a workload: `file` is that of the case.
    """
    specs = [other.workload.spec for other in (case, *concurrent)]
    across = limits.fleet_limits(case.scenario.fleet, specs)
    problems = [source.problem(place[1:], rule, hint) for place, rule, hint in across]  # without the key `daemon`
    for i, other in enumerate(concurrent):
        if other.scenario.epoch_s != case.scenario.epoch_s:
            rule = f"{other.scenario.scenario} starts at {other.scenario.start}, this scenario at {case.scenario.start}"
            problems.append(source.problem(("concurrent_scenarios",), rule, "set the same start in both"))
        if any(other.workload.name == earlier.workload.name for earlier in (case, *concurrent[:i])):
            rule = f"two workloads have the name {other.workload.name}"
            problems.append(source.problem(("concurrent_scenarios",), rule, "give each workload a distinct name"))
    for other, other_file in ((case, file), *((other, other.file) for other in concurrent)):
        findings = group_cases.member_problems(other, (case, *concurrent))
        problems += [_source(other_file).problem(place, rule, hint) for place, rule, hint in findings]
    if problems:
        raise ConfigError(problems)
    return dataclasses.replace(case, concurrent=concurrent)


def workload_document(path: Path) -> Document:
    """Return the one document of a file that is not the daemon's. Raises `ConfigError`."""
    documents, problems = read_yaml(path)
    workloads = [d for d in documents if not (isinstance(d.data, dict) and "daemon" in d.data)]
    if not problems and len(workloads) != 1:
        problems = [Problem(str(path), 1, "", "", f"must contain one workload, not {len(workloads)}")]
    if problems:
        raise ConfigError(problems)
    return workloads[0]


def load_workload(path: Path) -> Workload:
    """Return the one workload in a file. Raises `ConfigError`."""
    document = workload_document(path)
    workload = workload_from(document.data, str(path))
    if broken := list(checks.deciding_sources(workload.spec)):
        raise ConfigError([document.problem(place, rule, hint) for place, rule, hint in broken])
    return workload


def _resolve_files(traffic: Any, folder: Path) -> Any:
    """Return the traffic with its files' paths relative to the scenario's folder."""
    changes: dict[str, Any] = {}
    for name in ("file", "lengths_like"):
        value = getattr(traffic, name, None)
        if isinstance(value, str):
            changes[name] = str(folder / value)
    if isinstance(getattr(traffic, "clients", None), Mapping):
        changes["clients"] = {name: _resolve_files(client, folder) for name, client in traffic.clients.items()}
    return dataclasses.replace(traffic, **changes) if changes else traffic


def _source(file: str) -> Document:
    """Return a workload's document for the line numbers of its keys.

    The document is empty if there is no such file.
    """
    documents, _ = read_yaml(Path(file))
    return next((d for d in documents if isinstance(d.data, dict) and "workload" in d.data), Document(file, {}, {}))


def _build_case(
    scenario: Scenario, workload: Workload, models: Mapping[str, ServiceModel], folder: Path, file: str
) -> Case:
    source = _source(file)
    problems = [
        source.problem(key, rule, hint) for key, rule, hint in ports.unsupported_readings(workload, scenario.quantities)
    ]
    pools: dict[PoolName, PoolName] = {}
    serving = [name for name, pool in workload.spec.pools.items() if pool.tier == "serving"]
    for name, pool in workload.spec.pools.items():
        serving_pool = name if pool.tier == "serving" else pool.serves  # a tier's nodes are its pool's
        if serving_pool in scenario.pools:
            pools[name] = serving_pool
        elif len(scenario.pools) == len(serving) == 1:
            pools[name] = next(iter(scenario.pools))
        else:
            rule = f"is not a pool of the scenario; its pools are {', '.join(scenario.pools)}"
            problems.append(
                source.problem(("pools", name), rule, "add it to the scenario, or rename it in the workload")
            )
    findings = ports.unsupported_routes(workload, scenario.providers, has_queue=scenario.queue is not None)
    problems += [source.problem(key, rule, hint) for key, rule, hint in findings]
    if problems:
        raise ConfigError(problems)
    if scenario.queue is None:
        kinds = [kind_of("source", s) for s in workload.spec.sources.values()]
        service = next((ports.QUEUES[k] for k in kinds if k in ports.QUEUES), None)
        if service is not None:
            scenario = dataclasses.replace(scenario, queue=SimulatedQueue(service=service))  # type: ignore[arg-type]
    return Case(scenario, workload, models, pools, folder)
