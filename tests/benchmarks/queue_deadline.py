"""Cost of a queue's deadline: ours compared with KEDA's queue scaler, tuned by the same grid, and with the oracle.

Workers on L40S take prompts from SQS, from zero and back; sometimes a node fails. Both contenders have a parameter in
eight steps and their delays in two. KEDA's target per replica is set in messages that a worker serves within the
deadline, which its users would have to measure. The cheapest member with 99 % within the deadline under one seed is
chosen and scored under two others (mean cost, lower attainment), together with the cost of 99 % on the curve
(`cost.tuning.cost_at`) and the result of the defaults. The oracle knows the future (docs/explanation/oracle.md).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from simulators.engine.models import catalogue
from simulators.engine.models.worth import saturation_rates
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.oracle.lower_bound import work_s
from simulators.experiments.oracle.plan import plan
from simulators.experiments.results import summarize
from simulators.experiments.run import simulate, traffic_of
from simulators.experiments.scenario import Case, load
from tests.benchmarks.cost.scores import geometric_mean
from tests.benchmarks.cost.tuning import Outcome, cost_at
from tests.benchmarks.figure import Figure

SHARE: Final = 0.99
CHOICE_SEED: Final = 11
SCORE_SEEDS: Final = (1, 2)
"""Seeds: of arrivals, lengths, starts and failures."""
MODEL: Final = "llama-3.1-8b-l40s"
SHORT, LONG = 60, 300
"""Scale-in delays in seconds: a minute, and KEDA's default."""
OURS: Final[Sequence[float]] = (0.5, 0.65, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1)
"""`deadline_s`, as a share of the true deadline."""
KEDA: Final[Sequence[float]] = (0.05, 0.1, 0.2, 0.35, 0.45, 0.6, 0.8, 1.0)
"""Messages per replica, as a share of the messages that a replica serves within the deadline."""
STARTS: Final[Mapping[float, Mapping[str, float]]] = {
    60.0: {"node": 20, "image": 5, "weights": 5, "compile": 10, "ready": 20},
    180.0: {"node": 60, "image": 20},
    360.0: {"node": 240, "image": 20},
}
"""Start-ups by the medians of their phases (seconds); other phases have their defaults."""
DEFAULTS: Final = {"ours": "self", "keda": "keda-queue"}
"""Untuned contenders: the true deadline, and five messages per replica."""


@dataclass(frozen=True, slots=True)
class Work:
    """Traffic, the deadline of each message, and the start-up time of a worker. Seconds."""

    name: str
    deadline_s: float
    traffic: Mapping[str, Any]
    start_s: float = 180.0

    def case(self) -> Case:
        """Return the scenario, with our policy as its own workload."""
        rates = saturation_rates(catalogue.load(MODEL))
        read = ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"]
        slo = {"ttft_s": None, "itl_s": None, "e2e_s": self.deadline_s, "share": SHARE}
        workers = {
            "model": MODEL,
            "price_usd_per_hour": 1.861,
            "zones": {"zone-a": {"losses_per_node_hour": 0.2}},
            "start_up": {phase: {"median_s": s, "sigma": 0.3} for phase, s in STARTS[self.start_s].items()},
        }
        scenario = {
            "scenario": "queue-deadline",
            "workload": "ours.yaml",
            "traffic": self.traffic,
            "pools": {"workers": workers},
            "initial_replicas": {"workers": 0},
            "queue": {"service": "sqs", "per_replica": 64, "visibility_timeout_s": 120, "max_receives": 5},
            "settle_s": 1800,
            "slo": slo,
        }
        ours = {
            "workload": "ours",
            "min_replicas": 0,
            "max_replicas": 100,
            "slo": slo,
            "scale_up": {"max_replicas": 100},
            "scale_down": {"max_replicas": 100},
            "sources": {
                "queue": {"kind": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"},
                "engines": {
                    "kind": "prometheus",
                    "url": "http://p:9090",
                    "preset": "vllm",
                    "window_s": 60,
                    "read": read,
                },
            },
            "policies": {
                "predictive": {
                    "kind": "predictive",
                    "queue": "queue",
                    "rate_window_s": 60,
                    "queue_deadline_s": self.deadline_s,
                    "prompt_tokens_per_s": int(rates.prompt_tokens_per_s),
                    "generation_tokens_per_s": int(rates.generation_tokens_per_s),
                }
            },
            "pools": {"workers": {"kind": "kubernetes", "name": "w", "namespace": "llm", "lead_time_s": self.start_s}},
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ours.yaml").write_text(yaml.safe_dump(ours))
            (Path(folder) / "scenario.yaml").write_text(yaml.safe_dump(scenario))
            return load(Path(folder) / "scenario.yaml")


def batches(name: str, deadline_s: float, rps: float, on_s: float, start_s: float = 180.0) -> Work:
    """Return 12,000 prompts every half an hour, all within `on_s`."""
    traffic = {"kind": "on_off", "on_rps": rps, "on_s": on_s, "off_s": 1800 - on_s, "duration_s": 7200}
    return Work(name, deadline_s, traffic, start_s)


WORK: Final = (
    batches("batches of 5 minutes, due in 15", 900, 40, 300),
    batches("batches of 5 minutes, due in 8", 480, 40, 300),
    batches("batches of 30 s, due in 15 minutes", 900, 400, 30),
    Work(
        "a stream that swells, due in 10 minutes",
        600,
        {"kind": "daily", "mean_rps": 15, "swing": 0.8, "duration_s": 14_400},
    ),
    batches("batches of 5 minutes, due in 12", 720, 40, 300),
    batches("batches of 5 minutes, due in 30", 1800, 40, 300),
    batches("batches of 5 minutes, due in 15, starts of one", 900, 40, 300, 60.0),
    batches("batches of 5 minutes, due in 15, starts of six", 900, 40, 300, 360.0),
    Work(
        "a stream of 1 to 5 workers' work, due in 10 minutes",
        600,
        {"kind": "steps", "rates_rps": [5, 12, 25, 18, 9, 22, 8, 4], "step_s": 900, "duration_s": 7200},
    ),
)


def members(work: Work) -> Mapping[str, Sequence[Sequence[str]]]:
    """Return each contender's texts: for each scale-in delay, one for every value of the parameter."""
    case = work.case()
    trace = traffic_of(case, CHOICE_SEED)
    work_each_s = float(work_s(case.models[MODEL], trace).mean())
    per_deadline = work.deadline_s / work_each_s
    ours = [
        [f"self:queue_deadline_s={k * work.deadline_s:g};scale_down.window_s={s};cooldown_s={s}" for k in OURS]
        for s in (SHORT, LONG)
    ]
    keda = [
        [f"keda-queue:target={k * per_deadline:.0f};downscale_stabilization_s={s};cooldown_s={s}" for k in KEDA]
        for s in (SHORT, LONG)
    ]
    return {"ours": ours, "keda": keda}


def run_seed(work: Work, seed: int, contender: str) -> Outcome:
    case = work.case()
    trace = traffic_of(case, seed)
    if contender == "oracle":
        planned = plan(case, seed, trace)
        return {"cost_usd": planned.cost_usd, "attainment": planned.attainment, "bound_usd": planned.bound_usd}
    (selected,) = contenders(case, [contender], with_self=False)
    s = summarize(simulate(selected.case, seed, trace))
    return {"cost_usd": s.cost_usd, "attainment": s.attainment["all"]}


@dataclass(frozen=True, slots=True)
class Score:
    """A contender under the scoring seeds: cost of 99 % (USD; NaN where it is not reached), and the chosen member."""

    cost_usd: float
    chosen: Outcome
    contender: str
    default: Outcome


def over_seeds(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the mean of all figures, but the minimum attainment."""
    means = {key: float(np.mean([outcome[key] for outcome in outcomes])) for key in outcomes[0]}
    return {**means, "attainment": min(outcome["attainment"] for outcome in outcomes)}


def score(pool: ProcessPoolExecutor, work: Work, curves: Sequence[Sequence[str]], default: str) -> Score:
    flat = [contender for curve in curves for contender in curve]
    runs = [(seed, contender) for seed in (CHOICE_SEED, *SCORE_SEEDS) for contender in flat]
    runs += [(seed, default) for seed in SCORE_SEEDS]
    seeds, contenders_ = zip(*runs, strict=True)
    outcomes = dict(zip(runs, pool.map(run_seed, [work] * len(runs), seeds, contenders_), strict=True))

    def order(contender: str) -> tuple[bool, float]:
        outcome = outcomes[CHOICE_SEED, contender]
        meets_slo = outcome["attainment"] >= SHARE
        return not meets_slo, outcome["cost_usd"] if meets_slo else -outcome["attainment"]

    def cost_at_share(seed: int) -> float:
        costs = [cost_at([outcomes[seed, contender] for contender in curve], SHARE) for curve in curves]
        return min((cost for cost in costs if not math.isnan(cost)), default=math.nan)

    chosen = min(flat, key=order)
    scored = (over_seeds([outcomes[seed, contender] for seed in SCORE_SEEDS]) for contender in (chosen, default))
    return Score(float(np.mean([cost_at_share(seed) for seed in SCORE_SEEDS])), next(scored), chosen, next(scored))


def run(data: Path) -> Iterator[Figure]:
    """Yield the figures; all traffic is generated, so that no data is needed."""
    ratios, to_oracle = [], []
    with ProcessPoolExecutor(2) as pool:
        for work in WORK:
            oracles = [pool.submit(run_seed, work, seed, "oracle") for seed in SCORE_SEEDS]
            results = {name: score(pool, work, curves, DEFAULTS[name]) for name, curves in members(work).items()}
            best = over_seeds([oracle.result() for oracle in oracles])
            for name, s in results.items():
                note = f"tuned: {outcome_text(s.chosen)} with {s.contender}; default: {outcome_text(s.default)}"
                yield Figure("queue_deadline", f"{work.name}: {name} at {SHARE:.0%}", s.cost_usd, "USD", note=note)
            note = f"{outcome_text(best)}; lower bound of the cost: ${best['bound_usd']:.2f}"
            yield Figure("queue_deadline", f"{work.name}: oracle", best["cost_usd"], "USD", note=note)
            ratios.append(results["ours"].cost_usd / results["keda"].cost_usd)
            to_oracle.append(results["ours"].cost_usd / best["cost_usd"])
    for name, values, goal in (
        ("cost of ours to tuned KEDA", ratios, 1.0),
        ("cost of ours to the oracle", to_oracle, None),
    ):
        meets_slo = [value for value in values if not math.isnan(value)]
        note = f"{len(meets_slo)} of {len(WORK)} workloads, where both meet the SLO"
        yield Figure("queue_deadline", name, geometric_mean(meets_slo), "x", goal, note=note)


def outcome_text(outcome: Outcome) -> str:
    return f"${outcome['cost_usd']:.2f}, {outcome['attainment']:.2%}"
