"""Effect of faults: each fault alone at 5 % and at 50 % of calls, compared with the same hours without faults.

Traffic rises and falls, so that sizes change, and never stops, so that every zero is false. No tick may scale in on
missing data, nor while a throttled source reports 0. At 5 % cost and SLO attainment stay within a tenth of the values
without faults. All figures are means over seeds.
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
from tests.fuzz.worlds.tick_context import RecordedTick, TickContext

WORKLOAD: Final = Path("config/scenarios/workloads/chat-predictive.yaml")
"""The workload under faults."""
SCENARIO: Final = {
    "scenario": "faults",
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
    "slo": {"ttft_s": 1.0, "itl_s": 0.05, "share": 0.99},
}
SEEDS: Final = range(1, 6)
MILD_SHARE: Final = 0.05
"""A realistic share of faulty calls: its cost is bounded."""
SEVERE_SHARE: Final = 0.5
MAX_DIFFERENCE: Final = 0.10
"""The maximum difference in cost and in attainment from the runs without faults."""


@dataclass(frozen=True, slots=True)
class Hours:
    """One run: its cost, its SLO attainment, and its ticks that broke a rule."""

    cost_usd: float
    attainment: float
    growths: int
    shrinkings: int
    unseen: int = 0
    zeroed: int = 0
    outside: int = 0


class ViolationCounter:
    """Counter of ticks that break a rule."""

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


def simulated(case: Case, seed: int, trace: RequestTrace, *faults: FaultSettings) -> Hours:
    case = dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, faults=faults))
    count = ViolationCounter(case, seed)
    s = summarize(running.simulate(case, seed, trace, record=[count]))
    counts = (count.unseen, count.zeroed, count.outside)
    return Hours(s.cost_usd, s.attainment["all"], s.scale_ups, s.scale_downs, *counts)


def run(_: Path) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenario.yaml"
        file.write_text(yaml.safe_dump(SCENARIO))
        case = load(file)
    traces = {seed: running.traffic_of(case, seed) for seed in SEEDS}
    baseline = [simulated(case, seed, trace) for seed, trace in traces.items()]
    yield from _without_faults(case, baseline)
    for share in (MILD_SHARE, SEVERE_SHARE):
        runs = {
            fault: [simulated(case, seed, trace, _everywhere(fault, share)) for seed, trace in traces.items()]
            for fault in get_args(Fault)
        }
        yield from _counts(share, [hours for counts in runs.values() for hours in counts])
        for fault, counts in runs.items():
            yield from _compared(
                f"{fault} at {share:.0%}", counts, baseline, MAX_DIFFERENCE if share == MILD_SHARE else None
            )


def _everywhere(fault: Fault, share: float) -> FaultSettings:
    """Return the settings of a fault in all places where it can occur."""
    settings = FaultSettings(fault=fault, share=share, where="sources" if fault == "zero" else "both")
    return dataclasses.replace(settings, where="pools") if fault == "out_of_capacity" else settings


def _without_faults(case: Case, baseline: Sequence[Hours]) -> Iterator[Figure]:
    scale_outs, scale_ins = (float(np.mean([getattr(h, key) for h in baseline])) for key in ("growths", "shrinkings"))
    hours = f"{case.workload.name}, {len(baseline)} seeds of {case.scenario.end_s:g} s"
    note = f"{hours}; {scale_outs:g} scale-outs and {scale_ins:g} scale-ins"
    yield Figure("faults", "without faults: cost", float(np.mean([h.cost_usd for h in baseline])), "USD", note=note)
    yield Figure("faults", "without faults: SLO attainment", float(np.mean([h.attainment for h in baseline])), "")


def _counts(share: float, runs: Sequence[Hours]) -> Iterator[Figure]:
    note = f"{len(runs)} runs, {sum(h.shrinkings for h in runs)} scale-ins in total"
    for name, key in (
        ("scale-ins on missing data", "unseen"),
        ("scale-ins on injected zeros", "zeroed"),
        ("targets out of bounds", "outside"),
    ):
        yield Figure("faults", f"{name}, {share:.0%}", sum(getattr(h, key) for h in runs), "ticks", 0.0, note=note)


def _compared(title: str, runs: Sequence[Hours], baseline: Sequence[Hours], goal: float | None) -> Iterator[Figure]:
    """Yield cost and attainment compared with the runs without faults, seed by seed."""
    ratio = float(np.mean([h.cost_usd / b.cost_usd for h, b in zip(runs, baseline, strict=True)]))
    lost = float(np.mean([b.attainment - h.attainment for h, b in zip(runs, baseline, strict=True)]))
    yield Figure("faults", f"{title}: difference in cost", abs(ratio - 1.0), "", goal, note=f"ratio {ratio:.3f}")
    attained = float(np.mean([h.attainment for h in runs]))
    yield Figure("faults", f"{title}: lost SLO attainment", lost, "", goal, note=f"attained {attained:.3f}")
