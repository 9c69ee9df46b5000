"""What each idea of the predictive policy earns: it is switched off, and the same promise costs so much more.

Cost at 99 % of requests in time, by the knob `utilization`, on the rest of `cost_at_slo`'s traces. Each ratio is to
the policy as it is, on the geometric mean over the traces where both keep the promise. What is there for safety is put
to what it is there for: an outage upstream, a flash crowd, a first guess of what a replica carries that is far off.
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
"""One of each kind: smooth, with a slow start, bursts, shifts of level."""
WITHOUT: Final[Mapping[str, str]] = {
    "the forecast": "use_forecast=false",
    "learning what a replica carries": "learn_capacity=false",
    "holding what collapses": "demand_hold_s=0",
    "pricing a backlog": "slo_violation_cost_ratio=0.001",
    "the supervisor": "slo_correction=false",
}
"""Each idea, and what switches it off."""
STEPS: Final = (0.6, 0.75, 0.9, 1.1, 1.35)
SHARE: Final = 0.99


SCENARIO: Final = Path("config/scenarios/chat.yaml")
OUTAGE: Final = OnOff(on_rps=60.0, on_s=5400.0, off_s=600.0, duration_s=18_000.0)
"""Ten minutes without demand, then all of it at once, twice."""
CROWD: Final = FlashCrowd(base_rps=30.0, duration_s=10_800.0, at_s=4800.0, factor=3.0)
SEEDS: Final = (1, 2)
GUESSES: Final = (0.4, 1.0, 2.5, 6.0)
"""First guesses of what a replica carries, in times of what is true."""
SUPERVISED: Final = 2.0
"""The same where nothing is learnt, and the supervisor has to make good what it can: within hours."""
SLOWLY: Final = "taxi"
GUESSED: Final = ("azure-conv", "azure-conv-large")


def run(data: Path) -> Iterator[Figure]:
    yield from _safety("an outage upstream", OUTAGE, "holding what collapses", "demand_hold_s=0")
    yield from _safety("a flash crowd", CROWD, "pricing a backlog", ".slo_violation_cost_ratio=0.001")
    if (data / "requests").is_dir():
        yield from _wrong_guess(data)
    yield from _earned(data)


def _safety(world: str, traffic: OnOff | FlashCrowd, idea: str, setting: str) -> Iterator[Figure]:
    """The share in time with an idea and without it, in the shipped chat under other traffic."""
    base = load(SCENARIO)
    case = replace(base, scenario=replace(base.scenario, traffic=traffic))
    found = []
    for word in ("chat-predictive", f"{SCENARIO.parent}/workloads/chat-predictive.yaml:{setting}"):
        (contender,) = contenders(case, [word], with_self=False)
        runs = [summarize(simulate(contender.case, seed, traffic_of(case, seed))) for seed in SEEDS]
        found.append((fmean(s.attainment["all"] for s in runs), fmean(s.cost_usd for s in runs)))
    (kept, usd), (without, usd_without) = found
    note = f"without {idea} {without:.2%} in time; USD {usd:.0f}, without {usd_without:.0f}"
    yield Figure("ablation", f"safety in {world}", kept, "share", without, ">=", note=note)


def _wrong_guess(data: Path) -> Iterator[Figure]:
    """Where engines are guessed to carry much more than they do, or much less: with learning and without, and what the
    supervisor makes of it where nothing is learnt."""
    for name, times in itertools.product(GUESSED, GUESSES):
        kept, without = (_guessing(data, name, times, f"learn_capacity={on}") for on in ("true", "false"))
        usd = f"USD {kept['cost_usd']:.0f}"
        note = f"{usd}; without learning {without['attainment']:.2%}, {without['cost_usd']:.0f}"
        figure = f"safety with a guess {times:g} times what is true, {name}"
        yield Figure("ablation", figure, kept["attainment"], "share", 0.99 if times < 1 else None, ">=", note=note)
    kept, without = (
        _guessing(data, SLOWLY, SUPERVISED, f"learn_capacity=false;slo_correction={on}") for on in ("true", "false")
    )
    note = f"without the supervisor {without['attainment']:.2%} in time"
    figure = f"nothing learnt, and a guess {SUPERVISED:g} times what is true, {SLOWLY}"
    yield Figure("ablation", figure, kept["attainment"], "share", without["attainment"], ">=", note=note)


def _guessing(data: Path, name: str, times: float, settings: str) -> Outcome:
    carries = saturation_rates(catalogue.load(SOURCES[name].model))
    guess = (
        f"prompt_tokens_per_s={times * carries.prompt_tokens_per_s:.0f}"
        f";generation_tokens_per_s={times * carries.generation_tokens_per_s:.0f}"
    )
    return run_job(Job(Cell(name, 90), "test", f"self:{OUR_OTHERS[0]};{guess};{settings}", SHARE), data)


def _earned(data: Path) -> Iterator[Figure]:
    if not (data / "requests").is_dir():
        yield Figure("ablation", "skipped", 0.0, "", note=f"{data} has no requests: it is not shipped")
        return
    runs = Runs(data, Path("build/ablation_runs.jsonl"))
    whole = _costs(runs, "")
    yield Figure("ablation", "as it is: traces kept", sum(c is not None for c in whole), "", note=f"of {len(CELLS)}")
    for idea, setting in WITHOUT.items():
        costs = _costs(runs, setting)
        ratios = [c / w for c, w in zip(costs, whole, strict=True) if c is not None and w is not None]
        lost = sum(c is None and w is not None for c, w in zip(costs, whole, strict=True))
        note = f"{len(ratios)} traces: {', '.join(f'{r:.2f}' for r in ratios)}" + (f"; {lost} not kept" if lost else "")
        yield Figure("ablation", f"without {idea}", geometric_mean(ratios), "x", note=note)


def _costs(runs: Runs, setting: str) -> list[float | None]:
    """What the promise costs in each cell, by the better of the two others; None where it is not kept."""
    family = Family("ours", "self", "utilization", STEPS, OUR_OTHERS)
    found: list[float | None] = []
    for cell in CELLS:
        costs = []
        for other in range(len(OUR_OTHERS)):
            words = [f"{family.word(step, other)};{setting}".rstrip(";") for step in STEPS]
            costs.append(cost_at(runs.get([Job(cell, "test", word, SHARE) for word in words]), SHARE))
        kept = [cost for cost in costs if cost == cost]  # noqa: PLR0124 - NaN where it is not kept
        found.append(min(kept, default=None))
    return found
