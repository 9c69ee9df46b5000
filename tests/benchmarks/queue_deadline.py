"""Work in a queue against its deadline: ours beside KEDA's queue scaler, tuned by the same grid, and the oracle.

Workers on L40S take prompts from SQS, from zero and back; now and then a node fails. Both contenders have a knob in
eight steps and their delays in two; KEDA's target per replica is given in what a worker does within the deadline, which
its users would have to find out. Chosen is the cheapest that keeps 99 % within the deadline under one seed; scored is
what that comes to under two others (the mean cost, the lower share), and what 99 % would cost there on the knob's curve
(`cost.tuning.cost_at`). Beside it stands what each comes to by its own defaults. The oracle knows the future
(docs/oracle.md).
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
CHOSEN_ON: Final = 11
SCORED_ON: Final = (1, 2)
"""Seeds: of arrivals, lengths, starts and failures."""
MODEL: Final = "llama-3.1-8b-l40s"
SHORT, LONG = 60, 300
"""Delays before workers go, in seconds: a minute, and what KEDA has by default."""
OURS: Final[Sequence[float]] = (0.5, 0.65, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1)
"""`deadline_s`, as a share of the real one."""
KEDA: Final[Sequence[float]] = (0.05, 0.1, 0.2, 0.35, 0.45, 0.6, 0.8, 1.0)
"""Messages per replica, as a share of what one does within the deadline."""
STARTS: Final[Mapping[float, Mapping[str, float]]] = {
    60.0: {"node": 20, "image": 5, "weights": 5, "compile": 10, "ready": 20},
    180.0: {"node": 60, "image": 20},
    360.0: {"node": 240, "image": 20},
}
"""What a start comes to, by its phases' medians (seconds); those not named are what they are by default."""
DEFAULTS: Final = {"ours": "self", "keda": "keda-queue"}
"""Nothing tuned: the deadline as it is, and five messages a replica."""


@dataclass(frozen=True, slots=True)
class Work:
    """What comes, by when each message must have been answered, and how long a worker takes to start. Seconds."""

    name: str
    deadline_s: float
    traffic: Mapping[str, Any]
    start_s: float = 180.0

    def case(self) -> Case:
        """The scenario, with our policy as its own workload."""
        carries = saturation_rates(catalogue.load(MODEL))
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
                    "prompt_tokens_per_s": int(carries.prompt_tokens_per_s),
                    "generation_tokens_per_s": int(carries.generation_tokens_per_s),
                }
            },
            "pools": {"workers": {"kind": "kubernetes", "name": "w", "namespace": "llm", "lead_time_s": self.start_s}},
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ours.yaml").write_text(yaml.safe_dump(ours))
            (Path(folder) / "scenario.yaml").write_text(yaml.safe_dump(scenario))
            return load(Path(folder) / "scenario.yaml")


def batches(name: str, deadline_s: float, rps: float, on_s: float, start_s: float = 180.0) -> Work:
    """12,000 prompts every half an hour, all within `on_s`."""
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
    """Each contender's words: for each of its delays, the whole knob."""
    case = work.case()
    trace = traffic_of(case, CHOSEN_ON)
    each_s = float(work_s(case.models[MODEL], trace).mean())
    most = work.deadline_s / each_s
    ours = [
        [f"self:queue_deadline_s={k * work.deadline_s:g};scale_down.window_s={s};cooldown_s={s}" for k in OURS]
        for s in (SHORT, LONG)
    ]
    keda = [
        [f"keda-queue:target={k * most:.0f};downscale_stabilization_s={s};cooldown_s={s}" for k in KEDA]
        for s in (SHORT, LONG)
    ]
    return {"ours": ours, "keda": keda}


def ran(work: Work, seed: int, word: str) -> Outcome:
    case = work.case()
    trace = traffic_of(case, seed)
    if word == "oracle":
        found = plan(case, seed, trace)
        return {"cost_usd": found.cost_usd, "attainment": found.attainment, "bound_usd": found.bound_usd}
    (contender,) = contenders(case, [word], with_self=False)
    s = summarize(simulate(contender.case, seed, trace))
    return {"cost_usd": s.cost_usd, "attainment": s.attainment["all"]}


@dataclass(frozen=True, slots=True)
class Score:
    """A contender under the scoring seeds: 99 % on the curve (USD; NaN where it is not kept), and what was chosen."""

    cost_usd: float
    chosen: Outcome
    word: str
    default: Outcome


def over_seeds(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of all, but the lowest share in time."""
    means = {key: float(np.mean([outcome[key] for outcome in outcomes])) for key in outcomes[0]}
    return {**means, "attainment": min(outcome["attainment"] for outcome in outcomes)}


def score(pool: ProcessPoolExecutor, work: Work, words: Sequence[Sequence[str]], default: str) -> Score:
    flat = [word for curve in words for word in curve]
    asked = [(seed, word) for seed in (CHOSEN_ON, *SCORED_ON) for word in flat]
    asked += [(seed, default) for seed in SCORED_ON]
    seeds, named = zip(*asked, strict=True)
    outcomes = dict(zip(asked, pool.map(ran, [work] * len(asked), seeds, named), strict=True))

    def order(word: str) -> tuple[bool, float]:
        outcome = outcomes[CHOSEN_ON, word]
        kept = outcome["attainment"] >= SHARE
        return not kept, outcome["cost_usd"] if kept else -outcome["attainment"]

    def kept_usd(seed: int) -> float:
        costs = [cost_at([outcomes[seed, word] for word in curve], SHARE) for curve in words]
        return min((cost for cost in costs if not math.isnan(cost)), default=math.nan)

    chosen = min(flat, key=order)
    scored = (over_seeds([outcomes[seed, word] for seed in SCORED_ON]) for word in (chosen, default))
    return Score(float(np.mean([kept_usd(seed) for seed in SCORED_ON])), next(scored), chosen, next(scored))


def run(data: Path) -> Iterator[Figure]:
    """Needs no data: all traffic is generated."""
    ratios, over = [], []
    with ProcessPoolExecutor(2) as pool:
        for work in WORK:
            oracles = [pool.submit(ran, work, seed, "oracle") for seed in SCORED_ON]
            found = {name: score(pool, work, words, DEFAULTS[name]) for name, words in members(work).items()}
            best = over_seeds([oracle.result() for oracle in oracles])
            for name, s in found.items():
                note = f"chosen: {told(s.chosen)} by {s.word}; by default {told(s.default)}"
                yield Figure("queue_deadline", f"{work.name}: {name} at {SHARE:.0%}", s.cost_usd, "USD", note=note)
            note = f"{told(best)}; nobody can below ${best['bound_usd']:.2f}"
            yield Figure("queue_deadline", f"{work.name}: oracle", best["cost_usd"], "USD", note=note)
            ratios.append(found["ours"].cost_usd / found["keda"].cost_usd)
            over.append(found["ours"].cost_usd / best["cost_usd"])
    for name, values, goal in (("ours over KEDA, tuned", ratios, 1.0), ("ours over the oracle", over, None)):
        kept = [value for value in values if not math.isnan(value)]
        note = f"where both keep it: {len(kept)} of {len(WORK)}"
        yield Figure("queue_deadline", name, geometric_mean(kept), "x", goal, note=note)


def told(outcome: Outcome) -> str:
    return f"${outcome['cost_usd']:.2f}, {outcome['attainment']:.2%}"
