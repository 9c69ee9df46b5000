"""All that a study simulates, in one piece that can be sent anywhere: worlds with their requests, for search and proof.

The first two thirds of every trace are for the search, the last third is what the result is judged on. The proof's
world begins a third earlier, so that policies come to it as in operation; nothing is counted until the last third. A
bundle names no files: what a scenario reads from them is in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from scaler.config.load import Workload
from scaler.config.schema import plain_value
from simulators.experiments.contenders.contenders import SELF
from simulators.experiments.run import checked, replaying, traffic_of
from simulators.experiments.scenario import Case
from simulators.world.faults import FaultSettings
from simulators.world.infrastructure import supply
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.supply import SupplyStep
from simulators.world.infrastructure.units import to_s
from simulators.world.traffic.describe import duration
from simulators.world.traffic.generate import TraceFile
from simulators.world.traffic.trace import RequestTrace, TraceError

TRAIN_SHARE: Final = 2 / 3
"""Of each trace. The rest is to hold bursts that the search did not see, and is to be long enough to tell."""
LEAD_SHARE: Final = 1 / 3
"""Of each trace, before the proof's part, is run through without being counted."""
OTHER_SEEDS: Final = 100_000
"""Seeds of the proof lie so far from the search's: no chance is met twice."""
LAST_S: Final = 0.001
"""A window ends before its end, and a recorded trace with its last request."""
PRESENT: Final = "present"
"""The word for what runs today, where that is another workload than the one that is searched."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of one trace as a world of its own: `traces` by seed (one object where they are equal)."""

    name: str
    case: Case
    traces: Mapping[int, RequestTrace]

    @property
    def length_s(self) -> float:
        return self.case.scenario.end_s


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a study simulates. `digest` is of all of it: equal digests, equal results for equal settings."""

    train: tuple[Stretch, ...]
    proof: tuple[Stretch, ...]
    present: Workload | None
    version: str
    digest: str

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.train[0].traces)

    @property
    def before(self) -> str:
        """The word for what runs today."""
        return SELF if self.present is None else PRESENT


@dataclass(frozen=True, slots=True)
class GivenRequests:
    """Requests that are given, and not the scenario's own."""

    name: str
    trace: RequestTrace


def bundle(  # noqa: PLR0913 - what is searched on, what it is judged on, and by which chance
    case: Case,
    recorded: Sequence[GivenRequests],
    seed: int,
    train: int,
    proof: int,
    *,
    unseen: Sequence[GivenRequests] = (),
    present: Workload | None = None,
) -> Bundle:
    """Return a scenario's own traffic, or what was recorded, cut in two; with so many seeds each. Raises `TraceError`.

    All of the traces `unseen` is for the proof. `present` is what runs today, where that is not what is searched.
    """
    seeds, others = range(seed, seed + train), range(seed + OTHER_SEEDS, seed + OTHER_SEEDS + proof)
    found = [_whole(case, one, [*seeds, *others]) for one in recorded or (None,)]
    searched = tuple(_part(one, 0.0, TRAIN_SHARE, seeds) for one in found)
    last = [_part(one, TRAIN_SHARE, 1.0, others, LEAD_SHARE) for one in found]
    last += [_part(_whole(case, one, others), 0.0, 1.0, others) for one in unseen]
    return _bundle(searched, tuple(last), present)


def _whole(case: Case, recorded: GivenRequests | None, seeds: Sequence[int]) -> Stretch:
    if recorded is not None:
        trace = checked(recorded.trace).with_prefix_hits(case.scenario.prefix_hit_share)
        return Stretch(recorded.name, replaying(case, trace), dict.fromkeys(seeds, trace))
    return Stretch(case.scenario.scenario, case, {seed: traffic_of(case, seed) for seed in seeds})


def _part(whole: Stretch, since: float, until: float, seeds: Sequence[int], lead: float = 0.0) -> Stretch:
    """Return a part of a stretch, in shares of it; `lead` is what is run before it in the place of a warm-up."""
    end_s, warm_up_s = whole.length_s, whole.case.scenario.warm_up_s
    since_s, until_s = round(since * end_s, 3), round(until * end_s, 3)
    if until == 1.0:
        until_s += LAST_S
    begin_s = round((since - lead) * end_s, 3)
    counted_s = until_s - max(since_s, begin_s + warm_up_s)
    if counted_s <= 0:
        raise TraceError(
            f"{whole.name}: {duration(until_s - since_s)} of {duration(end_s)} are no longer than the scenario's"
            f" warm_up_s, {warm_up_s:g}: give a longer trace, or a shorter warm-up"
        )
    name = f"{whole.name}, {duration(since_s)} to {duration(until_s)}" if (since, until) != (0.0, 1.0) else whole.name
    made = _cut(name, whole.case, {seed: whole.traces[seed] for seed in seeds}, begin_s, until_s)
    scenario = dataclasses.replace(made.case.scenario, warm_up_s=max(since_s - begin_s, warm_up_s))
    if any(trace.arrival_s[-1] < scenario.warm_up_s for trace in made.traces.values()):
        raise TraceError(f"{name}: no request arrives after its first {scenario.warm_up_s:g} s: give a longer trace")
    return dataclasses.replace(made, case=dataclasses.replace(made.case, scenario=scenario))


def _cut(name: str, case: Case, traces: Mapping[int, RequestTrace], since_s: float, until_s: float) -> Stretch:
    """Return a window of a world: its requests, weather, capacities and calendar, with `since_s` as the new time 0."""
    cuts: dict[int, RequestTrace] = {}
    for trace in traces.values():
        if id(trace) not in cuts:
            cuts[id(trace)] = trace.window(since_s, until_s)
            if not len(cuts[id(trace)]):
                raise TraceError(f"{name}: no request arrives in it: give a longer trace")
    s = case.scenario
    scenario = dataclasses.replace(
        s,
        traffic=TraceFile(file=name, end_s=until_s - since_s),
        duration_s=until_s - since_s,
        start=datetime.fromtimestamp(s.epoch_s + since_s, UTC).isoformat(),
        weather=tuple(_later(s.weather, since_s)),
        pools={pool: _offer(case, offer, since_s, until_s + s.settle_s) for pool, offer in s.pools.items()},
    )
    return Stretch(
        name, dataclasses.replace(case, scenario=scenario), {seed: cuts[id(t)] for seed, t in traces.items()}
    )


def _later(weather: Sequence[FaultSettings], by_s: float) -> Iterator[FaultSettings]:
    for one in weather:
        if one.until_s is None or one.until_s > by_s:
            until_s = None if one.until_s is None else one.until_s - by_s
            yield dataclasses.replace(one, since_s=max(0.0, one.since_s - by_s), until_s=until_s)


def _offer(case: Case, offer: PoolOffer, since_s: float, until_s: float) -> PoolOffer:
    zones = {name: _zone(case, zone, since_s, until_s) for name, zone in offer.zones.items()}
    return dataclasses.replace(offer, zones=zones)


def _zone(case: Case, zone: ZoneOffer, since_s: float, until_s: float) -> ZoneOffer:
    """Return a zone whose capacity was recorded, or steps, in the window. Chance (`outages`) begins anew."""
    if not zone.steps and zone.trace is None:
        return zone
    changes = supply.stepped(zone.capacity, zone.steps)
    if zone.trace is not None:
        changes = supply.replayed(zone.trace, case.folder)
    first: int | None = zone.capacity
    steps: list[SupplyStep] = []
    for at_ps, nodes in changes:
        at_s = to_s(at_ps) - since_s
        if at_s > until_s - since_s:
            break
        if at_s <= 0:
            first = nodes
        elif nodes is not None:
            steps.append(SupplyStep(at_s=at_s, nodes=nodes))
    return dataclasses.replace(zone, capacity=first, steps=tuple(steps), trace=None)


def _bundle(train: tuple[Stretch, ...], proof: tuple[Stretch, ...], present: Workload | None) -> Bundle:
    mine = version("forescale")
    told = hashlib.sha256(mine.encode())
    for stretch in (*train, *proof):
        told.update(json.dumps(_plain(stretch), sort_keys=True, default=str).encode())
    told.update(b"" if present is None else present.fingerprint.encode())
    return Bundle(train, proof, present, mine, told.hexdigest())


def _plain(stretch: Stretch) -> dict[str, Any]:
    """Return a stretch as data, for its digest: its requests by theirs."""
    digests = {id(t): t.digest() for t in stretch.traces.values()}
    case = stretch.case
    return {
        "scenario": plain_value(case.scenario),
        "workload": case.workload.document,
        "models": plain_value(case.models),
        "traces": {str(seed): digests[id(t)] for seed, t in stretch.traces.items()},
    }
