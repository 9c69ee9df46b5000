"""A scenario: traffic, engines, pools, weather and the workload that is to scale them. One YAML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

from policies.model import PoolName
from policies.rules import Rule
from policies.spec import NAME
from scaler.config.document import read as read_yaml
from scaler.config.load import Workload, workload_from
from scaler.config.problems import ConfigError, Problem
from scaler.registry import kind_of
from simulators import document
from simulators.document import Chosen
from simulators.fleet.market import PoolOffer
from simulators.kernel.kernel import Router
from simulators.models import catalogue
from simulators.models.service import ServiceModel
from simulators.traffic.generate import GENERATORS
from simulators.weather import Weather
from simulators.world import ports
from simulators.world.queue import Queue
from simulators.world.telemetry import Telemetry
from simulators.world.world import MAX_S

MONDAY: Final = "2026-01-05T00:00:00+00:00"


@dataclass(frozen=True, kw_only=True)
class Slo:
    """What users are promised: the share of requests that meet every limit given."""

    ttft_s: Annotated[float | None, Rule("Time to first token at most; null: not promised. Seconds.", gt=0)] = 1.0
    itl_s: Annotated[
        float | None, Rule("A request's mean time between tokens at most; null: not promised. Seconds.", gt=0)
    ] = 0.05
    e2e_s: Annotated[float | None, Rule("Whole request at most; null: not promised. Seconds.", gt=0)] = None
    share: Annotated[float, Rule("Share of requests that must meet them.", gt=0, le=1)] = 0.99

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.ttft_s is None and self.itl_s is None and self.e2e_s is None:
            yield "ttft_s", "something must be promised: give ttft_s, itl_s or e2e_s"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One simulated world and the workload that is to scale it."""

    scenario: Annotated[str, Rule("The scenario's name.", pattern=NAME, example="chat-day")]
    workload: Annotated[
        str,
        Rule(
            "The workload's file, as the daemon reads it, relative to this one. Its sources and pools are simulated.",
            example="../workloads/chat.yaml",
        ),
    ]
    traffic: Annotated[
        Any,
        Chosen(GENERATORS),
        Rule("The requests: a generator, or a trace's file.", example={"kind": "poisson", "rate_rps": 10.0}),
    ]
    pools: Annotated[Mapping[PoolName, PoolOffer], Rule("What is offered, by the names of the workload's pools.")]
    initial_replicas: Annotated[
        Mapping[PoolName, int], Rule("Replicas that serve from the start, by pool; none given: the workload's minimum.")
    ] = field(default_factory=dict)
    duration_s: Annotated[
        float | None, Rule("How long to simulate; null: to the end of the traffic. Seconds.", gt=0, le=MAX_S)
    ] = None
    settle_s: Annotated[
        float, Rule("How much longer it goes on, so that the last requests can end. Seconds.", ge=0, le=86400)
    ] = 300.0
    warm_up_s: Annotated[float, Rule("Requests that arrive before this are served but not counted. Seconds.", ge=0)] = (
        0.0
    )
    start: Annotated[str, Rule("The date and time at which it begins, with an offset from UTC.")] = MONDAY
    seed: Annotated[
        int, Rule("Of all chance; the same seed gives the same journal, byte for byte.", ge=0, lt=2**63)
    ] = 1
    slo: Annotated[Slo, Rule("What users are promised.")] = field(default_factory=Slo)
    router: Annotated[Router, Rule("How requests find a replica.")] = field(default_factory=Router)
    queue: Annotated[
        Queue | None, Rule("A cloud's queue before the replicas; null: a gateway hands requests over at once.")
    ] = None
    telemetry: Annotated[Telemetry, Rule("How the engines are scraped.")] = field(default_factory=Telemetry)
    weather: Annotated[tuple[Weather, ...], Rule("What goes wrong between the daemon and the world.")] = ()
    quantities: Annotated[
        Mapping[str, str], Rule("The workload's own names of quantities, and what they are here.")
    ] = field(default_factory=dict)

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            if datetime.fromisoformat(self.start).tzinfo is None:
                yield "start", "needs an offset from UTC, as in 2026-01-05T00:00:00+00:00"
        except ValueError as e:
            yield "start", f"not a time: {e}"
        if not self.pools:
            yield "pools", "must name one pool at least"
        for name, replicas in self.initial_replicas.items():
            if name not in self.pools:
                yield "initial_replicas", f"{name} is none of the pools: {', '.join(self.pools)}"
            elif replicas < 0:
                yield "initial_replicas", f"{name} cannot begin with {replicas} replicas"
        if self.queue is not None and self.router.limit is not None:
            yield "router", "limit is the queue's per_replica here: set that"

    @property
    def epoch_s(self) -> float:
        """The Unix time of its beginning."""
        return datetime.fromisoformat(self.start).timestamp()

    @property
    def end_s(self) -> float:
        """When the traffic ends. Seconds from the beginning."""
        if self.duration_s is not None:
            return self.duration_s
        length: float = self.traffic.length_s
        return length


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario with all that it names, read: ready to be simulated. `folder` is where its files are."""

    scenario: Scenario
    workload: Workload
    models: Mapping[str, ServiceModel]
    pools: Mapping[PoolName, PoolName]
    """The scenario's pool for each of the workload's."""
    folder: Path

    def under(self, workload: Workload, file: str) -> Case:
        """The same world under another workload. Raises `ConfigError`."""
        return _case(self.scenario, workload, self.models, self.folder, file)


def load(path: Path) -> Case:
    """Read a scenario and all that it names. Raises `ConfigError` with every problem found."""
    documents, problems = read_yaml(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must hold one scenario, not {len(documents)} documents")]
    if problems:
        raise ConfigError(problems)
    scenario: Scenario = document.read(Scenario, documents[0].data, documents[0])
    folder = path.parent
    scenario = dataclasses.replace(scenario, traffic=_beside(scenario.traffic, folder))
    file = folder / scenario.workload
    return _case(scenario, load_workload(file), _models(scenario, folder), folder, str(file))


def load_workload(path: Path) -> Workload:
    """The one workload in a file. Raises `ConfigError`."""
    documents, problems = read_yaml(path)
    found = [d for d in documents if not (isinstance(d.data, dict) and "daemon" in d.data)]
    if not problems and len(found) != 1:
        problems = [Problem(str(path), 1, "", "", f"must hold one workload, not {len(found)}")]
    if problems:
        raise ConfigError(problems)
    return workload_from(found[0].data, str(path))


def _beside(traffic: Any, folder: Path) -> Any:
    """Traffic with the files it names looked up beside the scenario, as everything in it is."""
    changes: dict[str, Any] = {}
    for name in ("file", "lengths_like"):
        value = getattr(traffic, name, None)
        if isinstance(value, str):
            changes[name] = str(folder / value)
    if isinstance(getattr(traffic, "clients", None), Mapping):
        changes["clients"] = {name: _beside(client, folder) for name, client in traffic.clients.items()}
    return dataclasses.replace(traffic, **changes) if changes else traffic


def _models(scenario: Scenario, folder: Path) -> dict[str, ServiceModel]:
    names = dict.fromkeys(offer.model for offer in scenario.pools.values())
    return {n: catalogue.load(str(folder / n) if n.endswith(catalogue.SUFFIXES) else n) for n in names}


def _case(scenario: Scenario, workload: Workload, models: Mapping[str, ServiceModel], folder: Path, file: str) -> Case:
    problems = [
        Problem(file, 1, ".".join(key), "", rule, hint)
        for key, rule, hint in ports.untold(workload, scenario.quantities)
    ]
    pools: dict[PoolName, PoolName] = {}
    for name in workload.spec.pools:
        if name in scenario.pools:
            pools[name] = name
        elif len(scenario.pools) == len(workload.spec.pools) == 1:
            pools[name] = next(iter(scenario.pools))
        else:
            rule = f"the scenario offers no pool of this name; it offers {', '.join(scenario.pools)}"
            problems.append(Problem(file, 1, f"pools.{name}", "", rule, "name it there, or rename it here"))
    if problems:
        raise ConfigError(problems)
    if scenario.queue is None:
        kinds = [kind_of("source", s) for s in workload.spec.sources.values()]
        service = next((ports.QUEUES[k] for k in kinds if k in ports.QUEUES), None)
        if service is not None:
            scenario = dataclasses.replace(scenario, queue=Queue(service=service))  # type: ignore[arg-type]
    return Case(scenario, workload, models, pools, folder)
