"""Overflow to a token API: SLO attainment, cost and weight changes, in worlds with and without it, and for HPA.

The worlds are the shipped scenarios `flash-crowd-overflow`, `provider-brownout` and `region-outage`, and a steady load.
Providers have an assumed latency (0.4 s to the first token, 10 ms a token) and prices of small models. Costs include
API spend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.model import Tick
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.results import CountedRequests, summarize
from simulators.experiments.run import SimulationRun, simulate, traffic_of
from simulators.experiments.scenario import Case, load
from simulators.world.traffic.shapes import Poisson
from tests.benchmarks.figure import Figure

SCENARIOS: Final = Path(__file__).resolve().parents[2] / "config" / "scenarios"
SEEDS: Final = (1, 2, 3)
WITHOUT: Final = "self:routes={}"
"""The scenario's own workload without its route."""
MIN_ATTAINMENT: Final = 0.995
MAX_LATE: Final = 0.005
MAX_TO_WITHOUT: Final = 1.12
MAX_TO_HPA: Final = 0.75
STEADY_RPS, STEADY_S, START_S = (30.0, 45.0), 43_200.0, 1800.0
"""Steady loads, their duration, and the time in which the policy learns the capacity of a replica."""
BACK_WITHIN_S: Final = 300.0
"""Goal: a provider that works again gets its share back within this time."""
BROWNOUT_END_S: Final = 2640.0
"""The end of the last fault in the scenario `provider-brownout`."""
OUTAGE_S, OUTAGE_END_S = 3600.0, 5400.0
"""The outage in the scenario `region-outage`."""


def run(_data: Path) -> Iterator[Figure]:
    yield from flash_crowd()
    yield from steady_load()
    yield from brownout()
    yield from region_outage()


def flash_crowd() -> Iterator[Figure]:
    """Yield attainment and cost of a flash crowd, as means over seeds."""
    case = load(SCENARIOS / "flash-crowd-overflow.yaml")
    means = {
        c.name: np.mean([_attainment_and_costs(c.case, seed) for seed in SEEDS], axis=0).tolist()
        for c in contenders(case, [WITHOUT, "hpa"])
    }
    (attainment, cost_usd, api_usd), without, hpa = means[case.workload.name], means[WITHOUT], means["hpa"]
    note = f"3 x for 15 minutes in six hours, mean of {len(SEEDS)} seeds"
    figure: dict[str, Any] = {"benchmark": "overflow", "unit": "", "note": note}
    yield Figure(
        name="SLO attainment",
        value=attainment,
        goal=MIN_ATTAINMENT,
        sense=">=",
        peer="without",
        peer_value=without[0],
        **figure,
    )
    yield Figure(name="SLO attainment of HPA", value=hpa[0], **figure)
    ratio = f"{cost_usd:.2f} USD, of which {api_usd:.2f} USD for the API"
    to_without = figure | {"note": f"{note}; {ratio}, and {without[1]:.2f} USD without"}
    yield Figure(name="cost compared with no overflow", value=cost_usd / without[1], goal=MAX_TO_WITHOUT, **to_without)
    to_hpa = figure | {"note": f"{note}; HPA {hpa[1]:.2f} USD"}
    yield Figure(name="cost compared with HPA", value=cost_usd / hpa[1], goal=MAX_TO_HPA, **to_hpa)


def steady_load() -> Iterator[Figure]:
    """Yield the weight changes per hour in steady load."""
    case = load(SCENARIOS / "flash-crowd-overflow.yaml")
    for rps in STEADY_RPS:
        traffic = Poisson(rps=rps, duration_s=STEADY_S)
        steady = dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, traffic=traffic))
        _, changes_s = _with_changes(steady, steady.scenario.seed)
        changes = sum(at_s > START_S for at_s in changes_s)
        hours = (STEADY_S - START_S) / 3600
        note = f"Poisson, {hours:.1f} hours after the first {START_S / 60:.0f} minutes"
        name = f"weight changes at {rps:g} requests/s"
        yield Figure("overflow", name, changes / hours, "1/h", 0.0, note=note)


def brownout() -> Iterator[Figure]:
    """Yield the requests that fail while a provider answers 429, and the time until it serves again."""
    case = load(SCENARIOS / "provider-brownout.yaml")
    finished, changes_s = _with_changes(case, case.scenario.seed)
    without = next(c for c in contenders(case, [WITHOUT], with_self=False))
    attainment, *_ = _attainment_and_costs(without.case, case.scenario.seed)
    summary = summarize(finished)
    yield Figure(
        "overflow", "SLO attainment in a brownout", summary.attainment["all"], "", peer="without", peer_value=attainment
    )
    requests = CountedRequests(finished)
    failed_s = requests.arrival_s[requests.table.has_failed]
    ticks = len(np.unique(failed_s // case.workload.spec.interval_s))
    note = "two after the first answer of 429, and two after the first return of a share"
    yield Figure("overflow", "ticks with failed requests", ticks, "", 4.0, note=f"{len(failed_s)} requests; {note}")
    after_s = [at_s for at_s in changes_s if at_s >= BROWNOUT_END_S]
    back_s = after_s[0] - BROWNOUT_END_S
    yield Figure("overflow", "time until the provider gets a share again", back_s, "s", BACK_WITHIN_S)


def region_outage() -> Iterator[Figure]:
    """Yield the late requests while a region is gone, and the time until it serves again."""
    case = load(SCENARIOS / "region-outage.yaml")
    finished, changes_s = _with_changes(case, case.scenario.seed)
    without = next(c for c in contenders(case, [WITHOUT], with_self=False))
    attainment, cost_usd, _ = _attainment_and_costs(without.case, case.scenario.seed)
    s = summarize(finished)
    costs = f"{s.cost_usd:.2f} USD, of which {s.api_usd:.2f} USD for the API; {cost_usd:.2f} USD without"
    yield Figure(
        "overflow",
        "SLO attainment in a region outage",
        s.attainment["all"],
        "",
        peer="without",
        peer_value=attainment,
        note=costs,
    )
    requests = CountedRequests(finished)
    late_s = requests.arrival_s[~requests.met["all"]]
    all_after_s = OUTAGE_S + 2 * case.workload.spec.interval_s
    arrived = int(((requests.arrival_s >= all_after_s) & (requests.arrival_s < OUTAGE_END_S)).sum())
    late = int(((late_s >= all_after_s) & (late_s < OUTAGE_END_S)).sum())
    name, note = "late share from two ticks after the outage to its end", f"{late} of {arrived} requests"
    yield Figure("overflow", name, late / arrived, "", MAX_LATE, note=note)
    back_s = next(at_s for at_s in changes_s if at_s >= OUTAGE_END_S) - OUTAGE_END_S
    yield Figure("overflow", "time until the region gets a share again", back_s, "s", BACK_WITHIN_S)


def _attainment_and_costs(case: Case, seed: int) -> tuple[float, float, float]:
    """Return the SLO attainment, the cost, and the part of it for token APIs."""
    summary = summarize(simulate(case, seed, traffic_of(case, seed)))
    return summary.attainment["all"], summary.cost_usd, summary.api_usd


def _with_changes(case: Case, seed: int) -> tuple[SimulationRun, list[float]]:
    """Return the run of a case, and the times of its weight changes. Seconds."""
    changes_s: list[float] = []

    def record(tick: Tick) -> None:
        if any(not split.is_kept for split in tick.decision.routes.values()):
            changes_s.append(tick.at - case.scenario.epoch_s)

    return simulate(case, seed, traffic_of(case, seed), record=[record]), changes_s
