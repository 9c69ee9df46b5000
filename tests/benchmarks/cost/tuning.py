"""Runs of contenders in cells, cached on disk: tuning on the first third, and cost curves on the other two."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.oracle.plan import SloUnreachable, plan
from simulators.experiments.results import summarize
from simulators.experiments.run import SimulationRun, simulate, traffic_of
from tests.benchmarks.cost.cells import Cell
from tests.benchmarks.cost.families import Family

SEED: Final = 1
ORACLE: Final = "oracle"


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a part of a cell under a contender.

    `code` identifies the code that the run depends on, where a stored run must not outlive a change of it.
    """

    cell: Cell
    part: str
    contender: str
    share: float = 0.99
    seed: int = SEED
    code: str = ""

    @property
    def key(self) -> str:
        key = f"{self.cell.mark}|{self.part}|{self.contender}|{self.share:g}"
        return "|".join([key, *([f"seed {self.seed}"] if self.seed != SEED else []), *filter(None, [self.code])])


Outcome = dict[str, float]
"""cost_usd, attainment, replicas_mean and replicas_max; for the oracle cost_usd, attainment and bound_usd."""


def run(job: Job, data: Path) -> Outcome:
    case = job.cell.case(data, job.part, job.share)
    trace = traffic_of(case, job.seed)
    if job.contender == ORACLE:
        try:
            planned = plan(case, job.seed, trace)
        except SloUnreachable:
            return {"cost_usd": math.nan, "attainment": math.nan, "bound_usd": math.nan}
        return {"cost_usd": planned.cost_usd, "attainment": planned.attainment, "bound_usd": planned.bound_usd}
    (contender,) = contenders(case, [job.contender], with_self=False)
    return outcome(simulate(contender.case, job.seed, trace))


def outcome(run: SimulationRun) -> Outcome:
    s = summarize(run)
    return {
        "cost_usd": s.cost_usd,
        "attainment": s.attainment["all"],
        "replicas_mean": s.replicas_mean,
        "replicas_max": s.replicas_max,
    }


class Runs:
    """Runs by job, simulated in two processes and cached in a file."""

    def __init__(
        self, data: Path, memory: Path | None, jobs: int = 2, run_job: Callable[[Job, Path], Outcome] = run
    ) -> None:
        self.data, self.memory, self.jobs, self.run_job = data, memory, jobs, run_job
        self.outcomes: dict[str, Outcome] = {}
        if memory is not None and memory.exists():
            for line in memory.read_text().splitlines():
                record: dict[str, Any] = json.loads(line)
                self.outcomes[record["key"]] = record["outcome"]

    def get(self, jobs: Sequence[Job]) -> list[Outcome]:
        missing = [job for job in dict.fromkeys(jobs) if job.key not in self.outcomes]
        if self.jobs == 1:
            for job in missing:
                self._remember(job, self.run_job(job, self.data))
        elif missing:
            with ProcessPoolExecutor(self.jobs) as pool:
                for job, outcome in zip(
                    missing, pool.map(self.run_job, missing, [self.data] * len(missing)), strict=True
                ):
                    self._remember(job, outcome)
        return [self.outcomes[job.key] for job in jobs]

    def stored(self, job: Job) -> Outcome | None:
        """Return the outcome of a finished run."""
        return self.outcomes.get(job.key)

    def _remember(self, job: Job, outcome: Outcome) -> None:
        self.outcomes[job.key] = outcome
        if self.memory is not None:
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            with self.memory.open("a") as file:
                file.write(json.dumps({"key": job.key, "outcome": outcome}) + "\n")


def tuned(runs: Runs, cell: Cell, family: Family, share: float) -> tuple[float, int]:
    """Return the cheapest member that meets the SLO on the first third, else the one with the highest attainment."""
    members = [(step, setting) for setting in range(len(family.settings)) for step in family.steps]
    outcomes = runs.get([Job(cell, "train", family.contender(*member), share) for member in members])

    def order(k: int) -> tuple[bool, float]:
        meets_slo = outcomes[k]["attainment"] >= share
        return not meets_slo, outcomes[k]["cost_usd"] if meets_slo else -outcomes[k]["attainment"]

    return members[min(range(len(members)), key=order)]


def curve(runs: Runs, cell: Cell, family: Family, setting: int, share: float) -> list[Outcome]:
    """Return cost and attainment on the other two thirds, over all steps of the parameter."""
    return runs.get([Job(cell, "test", family.contender(step, setting), share) for step in family.steps])


def cost_at(points: Sequence[Outcome], share: float) -> float:
    """Return the cost of an attainment, interpolated between steps linearly over the logarithm of the late share.

    It is the minimum over the steps that reach the share and over pairs of neighbours around it; NaN if there is none.
    2 % late for 100 USD and 0.5 % for 200 USD give 150 USD for 1 %.
    """
    costs = [p["cost_usd"] for p in points if p["attainment"] >= share]
    for a, b in pairwise(points):
        low, high = sorted((a, b), key=lambda p: p["attainment"])
        if low["attainment"] < share <= high["attainment"]:
            missed = [math.log(max(1 - p["attainment"], 1e-5)) for p in (low, high)]
            position = (math.log(1 - share) - missed[0]) / (missed[1] - missed[0])
            costs.append(low["cost_usd"] + position * (high["cost_usd"] - low["cost_usd"]))
    return min(costs, default=math.nan)
