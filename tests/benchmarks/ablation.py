"""Ablation of the predictive policy: each idea is switched off, and the cost at the same SLO is compared.

The cost is that of 99 % attainment, by the parameter `utilization`, on the validation parts of `cost_at_slo`'s traces.
Each ratio is to the complete policy, as the geometric mean over the traces where both meet the SLO. Ideas for safety
are tested where they matter: an outage upstream, a flash crowd, a wrong first estimate of a replica's capacity.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Final

from simulators.engine.models import catalogue
from simulators.engine.models.worth import saturation_rates
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.results import summarize
from simulators.experiments.run import simulate, traffic_of
from simulators.experiments.scenario import load
from simulators.world.traffic.shapes import FlashCrowd, OnOff
from tests.benchmarks.cost.cells import SOURCES, Cell
from tests.benchmarks.cost.families import OUR_OTHERS, Family
from tests.benchmarks.cost.scores import geometric_mean
from tests.benchmarks.cost.tuning import Job, Outcome, Runs, cost_at
from tests.benchmarks.cost.tuning import run as run_job
from tests.benchmarks.figure import Figure

CELLS: Final = (
    Cell("azure-conv", 90),
    Cell("azure-conv", 300),
    Cell("azure-code", 90),
    Cell("servegen-mid", 90),
)
"""One trace of each kind: smooth, with a slow start, with bursts, with level shifts."""
SWITCHES: Final[Mapping[str, str]] = {
    "the forecast": "use_forecast=false",
    "learning a replica's capacity": "learn_capacity=false",
    "the demand hold": "demand_hold_s=0",
    "the cost of a backlog": "slo_violation_cost_ratio=0.001",
    "the SLO correction": "slo_correction=false",
}
"""Each idea, and the setting that switches it off."""
STEPS: Final = (0.6, 0.75, 0.9, 1.1, 1.35)
SHARE: Final = 0.99


SCENARIO: Final = Path("config/scenarios/chat.yaml")
OUTAGE: Final = OnOff(on_rps=60.0, on_s=5400.0, off_s=600.0, duration_s=18_000.0)
"""Demand that drops to zero for ten minutes and then returns at once, twice."""
CROWD: Final = FlashCrowd(base_rps=30.0, duration_s=10_800.0, at_s=4800.0, factor=3.0)
SEEDS: Final = (1, 2)
GUESSES: Final = (0.4, 1.0, 2.5, 6.0)
"""First estimates of a replica's capacity, as multiples of the true one."""
CORRECTED_GUESS: Final = 2.0
"""The estimate for runs without learning, which only the SLO correction can compensate, within hours."""
CORRECTED_TRACE: Final = "taxi"
GUESS_TRACES: Final = ("azure-conv", "azure-conv-large")


def run(data: Path) -> Iterator[Figure]:
    yield from _safety("an outage upstream", OUTAGE, "the demand hold", "demand_hold_s=0")
    yield from _safety("a flash crowd", CROWD, "the cost of a backlog", ".slo_violation_cost_ratio=0.001")
    if (data / "requests").is_dir():
        yield from _wrong_guess(data)
    yield from _gains(data)


def _safety(world: str, traffic: OnOff | FlashCrowd, idea: str, setting: str) -> Iterator[Figure]:
    """Yield the attainment with an idea and without it, in the shipped chat scenario under other traffic."""
    base = load(SCENARIO)
    case = replace(base, scenario=replace(base.scenario, traffic=traffic))
    results = []
    for contender_text in ("chat-predictive", f"{SCENARIO.parent}/workloads/chat-predictive.yaml:{setting}"):
        (contender,) = contenders(case, [contender_text], with_self=False)
        runs = [summarize(simulate(contender.case, seed, traffic_of(case, seed))) for seed in SEEDS]
        results.append((fmean(s.attainment["all"] for s in runs), fmean(s.cost_usd for s in runs)))
    (with_idea, usd), (without, usd_without) = results
    note = f"without {idea} {without:.2%} within the SLO; USD {usd:.0f} with it, {usd_without:.0f} without"
    yield Figure("ablation", f"SLO attainment in {world}", with_idea, "share", without, ">=", note=note)


def _wrong_guess(data: Path) -> Iterator[Figure]:
    """Yield the attainment with wrong estimates, with and without learning, and with only the SLO correction."""
    for name, factor in itertools.product(GUESS_TRACES, GUESSES):
        with_idea, without = (_run_with_guess(data, name, factor, f"learn_capacity={on}") for on in ("true", "false"))
        usd = f"USD {with_idea['cost_usd']:.0f}"
        note = f"{usd}; without learning {without['attainment']:.2%}, USD {without['cost_usd']:.0f}"
        figure = f"SLO attainment with {factor:g} times the true capacity as estimate, {name}"
        yield Figure(
            "ablation", figure, with_idea["attainment"], "share", 0.99 if factor < 1 else None, ">=", note=note
        )
    with_idea, without = (
        _run_with_guess(data, CORRECTED_TRACE, CORRECTED_GUESS, f"learn_capacity=false;slo_correction={on}")
        for on in ("true", "false")
    )
    note = f"{without['attainment']:.2%} within the SLO without the SLO correction"
    figure = f"SLO attainment without learning, with {CORRECTED_GUESS:g} times the true capacity, {CORRECTED_TRACE}"
    yield Figure("ablation", figure, with_idea["attainment"], "share", without["attainment"], ">=", note=note)


def _run_with_guess(data: Path, name: str, factor: float, settings: str) -> Outcome:
    rates = saturation_rates(catalogue.load(SOURCES[name].model))
    guess = (
        f"prompt_tokens_per_s={factor * rates.prompt_tokens_per_s:.0f}"
        f";generation_tokens_per_s={factor * rates.generation_tokens_per_s:.0f}"
    )
    return run_job(Job(Cell(name, 90), "test", f"self:{OUR_OTHERS[0]};{guess};{settings}", SHARE), data)


def _gains(data: Path) -> Iterator[Figure]:
    if not (data / "requests").is_dir():
        yield Figure("ablation", "skipped", 0.0, "", note=f"{data} has no requests: it is not shipped")
        return
    runs = Runs(data, Path("build/ablation_runs.jsonl"))
    whole = _costs(runs, "")
    yield Figure(
        "ablation",
        "unchanged: traces that meet the SLO",
        sum(c is not None for c in whole),
        "",
        note=f"of {len(CELLS)}",
    )
    for idea, setting in SWITCHES.items():
        costs = _costs(runs, setting)
        ratios = [c / w for c, w in zip(costs, whole, strict=True) if c is not None and w is not None]
        unmet = sum(c is None and w is not None for c, w in zip(costs, whole, strict=True))
        note = f"{len(ratios)} traces: {', '.join(f'{r:.2f}' for r in ratios)}" + (
            f"; {unmet} traces miss the SLO" if unmet else ""
        )
        yield Figure("ablation", f"cost without {idea}", geometric_mean(ratios), "x", note=note)


def _costs(runs: Runs, setting: str) -> list[float | None]:
    """Return the cost of the SLO in each cell, with the better of the two settings; None where it is not met."""
    family = Family("ours", "self", "utilization", STEPS, OUR_OTHERS)
    costs_by_cell: list[float | None] = []
    for cell in CELLS:
        costs = []
        for setting_index in range(len(OUR_OTHERS)):
            texts = [f"{family.contender(step, setting_index)};{setting}".rstrip(";") for step in STEPS]
            costs.append(cost_at(runs.get([Job(cell, "test", text, SHARE) for text in texts]), SHARE))
        meeting = [cost for cost in costs if cost == cost]  # noqa: PLR0124 - NaN where the SLO is not met
        costs_by_cell.append(min(meeting, default=None))
    return costs_by_cell
