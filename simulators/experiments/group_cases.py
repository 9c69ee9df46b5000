"""Groups among the cases of a scenario: workloads whose routes send requests to one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from policies.model import PoolName, WorkloadName
from policies.model.names import BackendName
from scaler.config import groups
from scaler.config.derived import Finding
from scaler.config.document import read as read_yaml
from scaler.config.load import Workload
from scaler.config.problems import ConfigError
from scaler.config.yaml_composer import Place
from simulators.engine.models.service import ServiceModel
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.queue import SimulatedQueue
from simulators.world.routing.provider import SimulatedProvider


class GroupScenario(Protocol):
    """The scenario of a member, as far as this module reads it."""

    @property
    def scenario(self) -> str: ...
    @property
    def queue(self) -> SimulatedQueue | None: ...
    @property
    def round_trip_s(self) -> Mapping[str, float]: ...
    @property
    def pools(self) -> Mapping[PoolName, PoolOffer]: ...
    @property
    def providers(self) -> Mapping[BackendName, SimulatedProvider]: ...


class GroupCase(Protocol):
    """The case of a member, as far as this module reads it."""

    @property
    def scenario(self) -> GroupScenario: ...
    @property
    def workload(self) -> Workload: ...
    @property
    def models(self) -> Mapping[str, ServiceModel]: ...
    @property
    def concurrent(self) -> tuple[GroupCase, ...]: ...


def linked(cases: Sequence[GroupCase]) -> list[list[int]]:
    """Return the numbers of the cases of each group whose members send requests to one another.

    A group in which no route names another workload is left out: its worlds run apart.
    """
    members: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        if (key := case.workload.spec.group_key) is not None:
            members.setdefault(key, []).append(number)
    return [numbers for numbers in members.values() if any(_targets(cases[number]) for number in numbers)]


def group_of(case: GroupCase) -> tuple[WorkloadName, ...]:
    """Return the members of the group of a scenario's workload, its own one first.

    Empty where they send no requests to one another.
    """
    cases = (case, *case.concurrent)
    names = (tuple(cases[number].workload.name for number in numbers) for numbers in linked(cases) if 0 in numbers)
    return next(names, ())


def require_no_group(case: GroupCase, file: str, purpose: str) -> None:
    """Raise `ConfigError` if the scenario's workload exchanges requests with others."""
    if names := group_of(case):
        rule = f"{' and '.join(names)} carry one another's requests, but {purpose} handles one workload"
        hint = "use forescale simulate, which reports all of them, or remove workload: from the backends"
        documents, _ = read_yaml(Path(file))
        raise ConfigError([document.problem(("concurrent_scenarios",), rule, hint) for document in documents])


def member_problems(case: GroupCase, cases: Sequence[GroupCase]) -> Iterator[Finding]:
    """Yield the backends of a case's route that no other case can serve."""
    by_name = {other.workload.name: other for other in cases}
    specs = {name: other.workload.spec for name, other in by_name.items()}
    missing: set[Place] = set()
    for place, target in _targets(case):
        other = by_name.get(target)
        if other is None:
            missing.add(place)
            rule = f"{target} is not the workload of another scenario that runs at the same time"
            yield place, rule, "add its scenario to concurrent_scenarios, or remove this backend"
        elif other.scenario.queue is not None:
            rule = f"{target} takes its requests from a queue: none can be sent to its engines"
            yield place, rule, "remove this backend"
        elif accepted_per_step(other) != accepted_per_step(case):
            rule = f"{target} must have models with the same accepted_per_step, {accepted_per_step(case):g}"
            yield place, f"{rule}; it has {accepted_per_step(other):g}", "simulate the same model in both scenarios"
        else:
            yield from _far_pools(case, other, place)
    yield from (finding for finding in groups.member_problems(case.workload.spec, specs) if finding[0] not in missing)


def unused_regions(case: GroupCase, cases: Sequence[GroupCase]) -> Iterator[str]:
    """Yield the rules broken by round trips to regions where nothing can serve a case."""
    targets = {workload for _, workload in _targets(case)}
    others = (other.scenario for other in cases if other.workload.name in targets)
    regions = {offer.region for scenario in (case.scenario, *others) for offer in scenario.pools.values()}
    regions |= {provider.region for provider in case.scenario.providers.values()}
    for region in sorted(case.scenario.round_trip_s.keys() - regions):
        yield f"has region {region}, in which there is no pool and no provider"


def accepted_per_step(case: GroupCase) -> float:
    """Return the tokens of a decode step, which all models of a scenario share."""
    return next(iter(case.models.values())).accepted_per_step


def _far_pools(case: GroupCase, other: GroupCase, place: Place) -> Iterator[Finding]:
    """Yield the backend if the round trip to a pool of its workload is not known."""
    round_trip_s = case.scenario.round_trip_s
    for name, offer in other.scenario.pools.items() if round_trip_s else ():
        if offer.region not in round_trip_s:
            where = "no region" if offer.region is None else f"region {offer.region}"
            rule = f"has pool {name} in {where}, which is missing in round_trip_s of {case.scenario.scenario}"
            yield place, rule, "give the pool a region, and add the region to round_trip_s"
            return


def _targets(case: GroupCase) -> list[tuple[Place, WorkloadName]]:
    """Return the workloads that a case's routes name, with the key of each."""
    return [
        (("routes", name, "backends", backend, "workload"), workload)
        for name, route in case.workload.spec.routes.items()
        for backend, workload in route.workloads.items()
    ]
