"""What bad weather does: each fault at 5 % and at 50 % of calls, by itself, beside the same hours in fair weather.

Traffic rises and falls, so that sizes have to, and never ends, so that no zero is true. No turn may lower a size on
what it did not see, nor while a source says 0 because it is throttled; at 5 % cost and SLO attainment stay within a
tenth of fair weather's. Means over seeds.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np
import yaml

from policies.history.ticks import History
from policies.model import Tick
from simulators.experiments import run as running
from simulators.experiments.results import summarize
from simulators.experiments.scenario import Case, load
from simulators.world.faults import Fault, FaultSettings
from simulators.world.traffic.trace import RequestTrace
from tests.benchmarks.figure import Figure
from tests.fuzz.worlds.evidence import no_scale_in_without_evidence
from tests.fuzz.worlds.injected_zeros import InjectedZeros
from tests.fuzz.worlds.settings import within_the_pools_bounds, within_the_workloads_bounds
from tests.fuzz.worlds.turn import RecordedTick, TickContext

WORKLOAD: Final = Path("config/scenarios/workloads/chat-predictive.yaml")
"""Who is rained on."""
SCENARIO: Final = {
    "scenario": "weather",
    "workload": str(WORKLOAD.resolve()),
    "traffic": {"kind": "steps", "rates_rps": [30, 90, 45, 15, 60, 20], "step_s": 900, "duration_s": 5400},
    "pools": {
        "gpus": {
            "model": "llama-3.1-8b-h100-vllm",
            "price_usd_per_hour": 6.88,
            "start_up": {"node": {"median_s": 40, "sigma": 0.2}, "image": {"median_s": 10, "sigma": 0.2}},
        }
    },
    "initial_replicas": {"gpus": 4},
}
SEEDS: Final = range(1, 6)
FAIR: Final = 0.05
"""Weather that happens: its cost is bounded."""
FOUL: Final = 0.5
WITHIN: Final = 0.10
"""Of fair weather's cost, and of all requests."""


@dataclass(frozen=True, slots=True)
class Hours:
    """One run: what it cost, which share of requests met the SLO, and turns that did what none may."""

    cost_usd: float
    attainment: float
    growths: int
    shrinkings: int
    unseen: int = 0
    zeroed: int = 0
    outside: int = 0


class Count:
    """Counts turns that did what none may."""

    def __init__(self, case: Case, seed: int) -> None:
        self.unseen = self.zeroed = self.outside = 0
        self._spec = case.workload.spec
        self._injected_zeros = InjectedZeros(case, seed)
        self._past: list[RecordedTick] = []
        self._history = History()

    def __call__(self, tick: Tick) -> None:
        context = TickContext(
            self._spec, RecordedTick(tick, self._injected_zeros.sources(tick)), self._past, self._history
        )
        self.unseen += no_scale_in_without_evidence(context) is not None
        self.zeroed += context.shrinks() and bool(context.now.injected_zeros)
        self.outside += any((within_the_workloads_bounds(context), within_the_pools_bounds(context)))
        self._past.append(context.now)


def simulated(case: Case, seed: int, trace: RequestTrace, *weather: FaultSettings) -> Hours:
    case = dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, weather=weather))
    count = Count(case, seed)
    s = summarize(running.simulate(case, seed, trace, record=[count]))
    found = (count.unseen, count.zeroed, count.outside)
    return Hours(s.cost_usd, s.attainment["all"], s.scale_ups, s.scale_downs, *found)


def run(_: Path) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenario.yaml"
        file.write_text(yaml.safe_dump(SCENARIO))
        case = load(file)
    traces = {seed: running.traffic_of(case, seed) for seed in SEEDS}
    fair = [simulated(case, seed, trace) for seed, trace in traces.items()]
    yield from _fair(case, fair)
    for share in (FAIR, FOUL):
        runs = {
            fault: [simulated(case, seed, trace, _weather(fault, share)) for seed, trace in traces.items()]
            for fault in get_args(Fault)
        }
        yield from _counts(share, [one for found in runs.values() for one in found])
        for fault, found in runs.items():
            yield from _beside(f"{fault} at {share:.0%}", found, fair, WITHIN if share == FAIR else None)


def _weather(fault: Fault, share: float) -> FaultSettings:
    """The fault wherever it can strike."""
    strikes = FaultSettings(fault=fault, share=share, where="sources" if fault == "zero" else "both")
    return dataclasses.replace(strikes, where="pools") if fault == "out_of_capacity" else strikes


def _fair(case: Case, fair: Sequence[Hours]) -> Iterator[Figure]:
    grew, shrank = (float(np.mean([getattr(h, key) for h in fair])) for key in ("growths", "shrinkings"))
    hours = f"{case.workload.name}, {len(fair)} seeds of {case.scenario.end_s:g} s"
    note = f"{hours}; grew {grew:g} and shrank {shrank:g} times"
    yield Figure("weather", "fair weather: cost", float(np.mean([h.cost_usd for h in fair])), "USD", note=note)
    yield Figure("weather", "fair weather: SLO attainment", float(np.mean([h.attainment for h in fair])), "")


def _counts(share: float, runs: Sequence[Hours]) -> Iterator[Figure]:
    note = f"{len(runs)} runs, {sum(h.shrinkings for h in runs)} scale-ins in all"
    for name, key in (
        ("scale-ins on missing data", "unseen"),
        ("scale-ins on zeros by throttling", "zeroed"),
        ("targets out of bounds", "outside"),
    ):
        yield Figure("weather", f"{name}, {share:.0%}", sum(getattr(h, key) for h in runs), "turns", 0.0, note=note)


def _beside(what: str, runs: Sequence[Hours], fair: Sequence[Hours], goal: float | None) -> Iterator[Figure]:
    """Cost and attainment beside fair weather's, seed by seed."""
    ratio = float(np.mean([h.cost_usd / f.cost_usd for h, f in zip(runs, fair, strict=True)]))
    lost = float(np.mean([f.attainment - h.attainment for h, f in zip(runs, fair, strict=True)]))
    yield Figure("weather", f"{what}: cost off fair weather's", abs(ratio - 1.0), "", goal, note=f"ratio {ratio:.3f}")
    attained = float(np.mean([h.attainment for h in runs]))
    yield Figure("weather", f"{what}: SLO attainment lost", lost, "", goal, note=f"attained {attained:.3f}")
