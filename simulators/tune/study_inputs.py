"""Inputs of a study in one picklable object.

They are cases with their requests, for tuning and for validation. A third of each recorded trace is held out: the
latest third whose stress is comparable with that of the rest (`stress`). The validation case starts up to a third
earlier, so that policies have a history; requests count only in the held-out part. A trace of 3,600 s whose last third
is held out is tuned on 0 to 2,400 s; its validation runs from 1,200 s and counts from 2,400 s. Generated traffic is
drawn anew for the validation, for later weeks, so that no part of it is searched. The inputs name no files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
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
from simulators.tune import stress
from simulators.tune.stress import Stress
from simulators.world.faults import FaultSettings
from simulators.world.infrastructure import supply
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.supply import SupplyStep
from simulators.world.infrastructure.units import to_s
from simulators.world.traffic.describe import duration
from simulators.world.traffic.generate import TraceFile
from simulators.world.traffic.trace import RequestTrace, TraceError

HELD_OUT_SHARE: Final = 1 / 3
"""The share of each trace for the validation. It must be long enough to hold other bursts."""
LEAD_IN_SHARE: Final = 1 / 3
"""The maximum share of each trace before the validation part that runs without being counted."""
MIN_PART_WARM_UPS: Final = 3.0
"""The minimum length of a part of the tuning traffic before or after the held-out part, in warm-ups."""
WEEK_S: Final = 7 * 86400.0
VALIDATION_SEED_OFFSET: Final = 100_000
"""The distance of the validation seeds from the tuning seeds: no seed is used for both."""
END_MARGIN_S: Final = 0.001
"""Added to a trace's end, since a window excludes its end and a recorded trace ends with a request. Seconds."""
ROUNDING: Final = 1e-9
PRESENT: Final = "present"
"""The contender that stands for today's workload if it is not the tuned one."""


@dataclass(frozen=True, slots=True)
class TraceWindow:
    """A window of one trace as a case of its own.

    `source` is the name of the whole trace. `traces` is by seed, with one object for equal traces.
    """

    name: str
    source: str
    case: Case
    traces: Mapping[int, RequestTrace]

    @property
    def length_s(self) -> float:
        return self.case.scenario.end_s


@dataclass(frozen=True, slots=True)
class StudyInputs:
    """The inputs of a study. Equal digests give equal results for equal settings."""

    tuning: tuple[TraceWindow, ...]
    validation: tuple[TraceWindow, ...]
    present: Workload | None
    version: str
    digest: str

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.tuning[0].traces)

    @property
    def stresses(self) -> tuple[Stress, Stress]:
        """The stress of the counted tuning and validation traffic."""
        return _stress(self.tuning), _stress(self.validation)

    @property
    def today_contender(self) -> str:
        """The contender that runs today."""
        return SELF if self.present is None else PRESENT


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """A recorded trace that replaces the scenario's traffic."""

    name: str
    trace: RequestTrace


def study_inputs(  # noqa: PLR0913 - traffic and seeds for both parts
    case: Case,
    recorded: Sequence[RecordedTrace],
    seed: int,
    tuning: int,
    validation: int,
    *,
    validation_only: Sequence[RecordedTrace] = (),
    present: Workload | None = None,
) -> StudyInputs:
    """Return the inputs of a study on the scenario's traffic, or on recorded traces.

    Raises `TraceError`.

    `tuning` and `validation` are the numbers of seeds. The traces of `validation_only` are used for validation in full.
    `present` is today's workload if it is not the tuned one.
    """
    seeds = range(seed, seed + tuning)
    held_out = range(seed + VALIDATION_SEED_OFFSET, seed + VALIDATION_SEED_OFFSET + validation)
    wholes = [_whole(case, trace, [*seeds, *held_out]) for trace in recorded or (None,)]
    tuning_windows: list[TraceWindow] = []
    validation_windows: list[TraceWindow] = []
    for whole in wholes:
        searched, proof = _split(whole, seeds, held_out)
        tuning_windows += searched
        validation_windows.append(proof)
    validation_windows += [_part(_whole(case, trace, held_out), 0.0, 1.0, held_out) for trace in validation_only]
    return _inputs_of(tuple(tuning_windows), tuple(validation_windows), present)


def _split(whole: TraceWindow, seeds: Sequence[int], held_out: Sequence[int]) -> tuple[list[TraceWindow], TraceWindow]:
    """Return the tuning windows and the validation window of a trace.

    No counted time is in both.
    """
    first = whole.traces[seeds[0]]
    if first.digest() != whole.traces[held_out[0]].digest():
        return [_part(whole, 0.0, 1.0, seeds)], _drawn_anew(_part(whole, 0.0, 1.0, held_out))
    min_part_s = MIN_PART_WARM_UPS * whole.case.scenario.warm_up_s
    start = stress.held_out_start(
        first.arrival_s, whole.length_s, HELD_OUT_SHARE, stress.lead_time_s(whole.case), min_part_s
    )
    stop = min(1.0, start + HELD_OUT_SHARE)
    if stop > 1.0 - ROUNDING:
        stop = 1.0
    parts = [(a, b) for a, b in ((0.0, start), (stop, 1.0)) if b > a]
    lead_in = min(start, LEAD_IN_SHARE)
    return [_part(whole, a, b, seeds) for a, b in parts], _part(whole, start, stop, held_out, lead_in)


def _drawn_anew(window: TraceWindow) -> TraceWindow:
    """Return a window of generated traffic, moved by whole weeks behind the tuning traffic."""
    scenario = window.case.scenario
    weeks = math.ceil(window.length_s / WEEK_S)
    start = datetime.fromtimestamp(scenario.epoch_s + weeks * WEEK_S, UTC).isoformat()
    name = f"{window.name}, drawn anew {weeks} week{'s' * (weeks != 1)} later"
    case = dataclasses.replace(window.case, scenario=dataclasses.replace(scenario, start=start))
    return dataclasses.replace(window, name=name, case=case)


def _whole(case: Case, recorded: RecordedTrace | None, seeds: Sequence[int]) -> TraceWindow:
    if recorded is not None:
        trace = checked(recorded.trace).with_prefix_hits(case.scenario.prefix_hit_share)
        return TraceWindow(recorded.name, recorded.name, replaying(case, trace), dict.fromkeys(seeds, trace))
    name = case.scenario.scenario
    return TraceWindow(name, name, case, {seed: traffic_of(case, seed) for seed in seeds})


def _part(whole: TraceWindow, start: float, end: float, seeds: Sequence[int], lead_in: float = 0.0) -> TraceWindow:
    """Return the part of a window between two shares of it.

    A `lead_in`, also a share, precedes the part as a warm-up.
    """
    end_s, warm_up_s = whole.length_s, whole.case.scenario.warm_up_s
    since_s, until_s = round(start * end_s, 3), round(end * end_s, 3)
    if end == 1.0:
        until_s += END_MARGIN_S
    begin_s = round((start - lead_in) * end_s, 3)
    counted_s = until_s - max(since_s, begin_s + warm_up_s)
    if counted_s <= 0:
        raise TraceError(
            f"{whole.name}: the part of {duration(until_s - since_s)} is not longer than warm_up_s, {warm_up_s:g} s:"
            " use a longer trace or a shorter warm-up"
        )
    name = f"{whole.name}, {duration(since_s)} to {duration(until_s)}" if (start, end) != (0.0, 1.0) else whole.name
    selected = dataclasses.replace(whole, name=name, traces={seed: whole.traces[seed] for seed in seeds})
    part = _window(selected, begin_s, until_s)
    scenario = dataclasses.replace(part.case.scenario, warm_up_s=max(since_s - begin_s, warm_up_s))
    if any(trace.arrival_s[-1] < scenario.warm_up_s for trace in part.traces.values()):
        raise TraceError(f"{name}: no request arrives after its first {scenario.warm_up_s:g} s: use a longer trace")
    return dataclasses.replace(part, case=dataclasses.replace(part.case, scenario=scenario))


def _window(whole: TraceWindow, since_s: float, until_s: float) -> TraceWindow:
    """Return a window of a trace under its name, with `since_s` as the new time 0.

    The window has its own requests, faults, capacities and start time.
    """
    name, case, traces = whole.name, whole.case, whole.traces
    parts: dict[int, RequestTrace] = {}
    for trace in traces.values():
        if id(trace) not in parts:
            parts[id(trace)] = trace.window(since_s, until_s)
            if not len(parts[id(trace)]):
                raise TraceError(f"{name}: no request arrives in it: use a longer trace")
    s = case.scenario
    scenario = dataclasses.replace(
        s,
        traffic=TraceFile(file=name, end_s=until_s - since_s),
        duration_s=until_s - since_s,
        start=datetime.fromtimestamp(s.epoch_s + since_s, UTC).isoformat(),
        faults=tuple(_shifted_faults(s.faults, since_s)),
        pools={pool: _offer(case, offer, since_s, until_s + s.settle_s) for pool, offer in s.pools.items()},
    )
    return dataclasses.replace(
        whole,
        case=dataclasses.replace(case, scenario=scenario),
        traces={seed: parts[id(t)] for seed, t in traces.items()},
    )


def _shifted_faults(faults: Sequence[FaultSettings], offset_s: float) -> Iterator[FaultSettings]:
    for fault in faults:
        if fault.until_s is None or fault.until_s > offset_s:
            until_s = None if fault.until_s is None else fault.until_s - offset_s
            yield dataclasses.replace(fault, since_s=max(0.0, fault.since_s - offset_s), until_s=until_s)


def _offer(case: Case, offer: PoolOffer, since_s: float, until_s: float) -> PoolOffer:
    zones = {name: _zone(case, zone, since_s, until_s) for name, zone in offer.zones.items()}
    return dataclasses.replace(offer, zones=zones)


def _zone(case: Case, zone: ZoneOffer, since_s: float, until_s: float) -> ZoneOffer:
    """Return a zone with its recorded or stepped capacity in the window.

    Random outages are drawn again.
    """
    if not zone.steps and zone.trace is None:
        return zone
    changes = supply.stepped(zone.capacity, zone.steps)
    if zone.trace is not None:
        changes = supply.replayed(zone.trace, case.folder)
    capacity: int | None = zone.capacity
    steps: list[SupplyStep] = []
    for at_ps, nodes in changes:
        at_s = to_s(at_ps) - since_s
        if at_s > until_s - since_s:
            break
        if at_s <= 0:
            capacity = nodes
        elif nodes is not None:
            steps.append(SupplyStep(at_s=at_s, nodes=nodes))
    return dataclasses.replace(zone, capacity=capacity, steps=tuple(steps), trace=None)


def _stress(windows: Sequence[TraceWindow]) -> Stress:
    """Return the stress of the counted traffic, relative to the mean of each trace."""
    by_source: dict[str, list[TraceWindow]] = {}
    for window in windows:
        by_source.setdefault(window.source, []).append(window)
    return stress.joint_stress(
        [
            stress.stress_of([_counted(w) for w in group], stress.lead_time_s(group[0].case))
            for group in by_source.values()
        ]
    )


def _counted(window: TraceWindow) -> stress.TraceInterval:
    arrival_s = next(iter(window.traces.values())).arrival_s
    return stress.TraceInterval(arrival_s, window.case.scenario.warm_up_s, window.length_s)


def _inputs_of(
    tuning: tuple[TraceWindow, ...], validation: tuple[TraceWindow, ...], present: Workload | None
) -> StudyInputs:
    own_version = version("forescale")
    digest = hashlib.sha256(own_version.encode())
    for window in (*tuning, *validation):
        digest.update(json.dumps(_as_plain_data(window), sort_keys=True, default=str).encode())
    digest.update(b"" if present is None else present.fingerprint.encode())
    return StudyInputs(tuning, validation, present, own_version, digest.hexdigest())


def _as_plain_data(window: TraceWindow) -> dict[str, Any]:
    """Return a window as plain data for the digest, with its traces' digests."""
    digests = {id(t): t.digest() for t in window.traces.values()}
    case = window.case
    return {
        "scenario": plain_value(case.scenario),
        "workload": case.workload.document,
        "models": plain_value(case.models),
        "traces": {str(seed): digests[id(t)] for seed, t in window.traces.items()},
    }
