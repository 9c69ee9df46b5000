"""Runs of contenders in cells, remembered on disk: what the first third chooses, and curves on the rest."""

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
    """One run: a cell's part under a contender's word."""

    cell: Cell
    part: str
    word: str
    share: float = 0.99

    @property
    def key(self) -> str:
        return f"{self.cell.mark}|{self.part}|{self.word}|{self.share:g}"


Outcome = dict[str, float]
"""cost_usd, attainment, replicas_mean, replicas_max; of the oracle also bound_usd."""


def run(job: Job, data: Path) -> Outcome:
    case = job.cell.case(data, job.part, job.share)
    trace = traffic_of(case, SEED)
    if job.word == ORACLE:
        try:
            found = plan(case, SEED, trace)
        except SloUnreachable:
            return {"cost_usd": math.nan, "attainment": math.nan, "bound_usd": math.nan}
        return {"cost_usd": found.cost_usd, "attainment": found.attainment, "bound_usd": found.bound_usd}
    (contender,) = contenders(case, [job.word], with_self=False)
    return outcome(simulate(contender.case, SEED, trace))


def outcome(done: SimulationRun) -> Outcome:
    s = summarize(done)
    return {
        "cost_usd": s.cost_usd,
        "attainment": s.attainment["all"],
        "replicas_mean": s.replicas_mean,
        "replicas_max": s.replicas_max,
    }


class Runs:
    """Runs by their jobs, in two processes, each remembered in a file: what was run once is not run again."""

    def __init__(
        self, data: Path, memory: Path | None, jobs: int = 2, how: Callable[[Job, Path], Outcome] = run
    ) -> None:
        self.data, self.memory, self.jobs, self.how = data, memory, jobs, how
        self.known: dict[str, Outcome] = {}
        if memory is not None and memory.exists():
            for line in memory.read_text().splitlines():
                record: dict[str, Any] = json.loads(line)
                self.known[record["key"]] = record["outcome"]

    def get(self, jobs: Sequence[Job]) -> list[Outcome]:
        missing = [job for job in dict.fromkeys(jobs) if job.key not in self.known]
        if self.jobs == 1:
            for job in missing:
                self._remember(job, self.how(job, self.data))
        elif missing:
            with ProcessPoolExecutor(self.jobs) as pool:
                for job, outcome in zip(missing, pool.map(self.how, missing, [self.data] * len(missing)), strict=True):
                    self._remember(job, outcome)
        return [self.known[job.key] for job in jobs]

    def _remember(self, job: Job, outcome: Outcome) -> None:
        self.known[job.key] = outcome
        if self.memory is not None:
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            with self.memory.open("a") as file:
                file.write(json.dumps({"key": job.key, "outcome": outcome}) + "\n")


def tuned(runs: Runs, cell: Cell, family: Family, share: float) -> tuple[float, int]:
    """The cheapest member on the first third of those that keep the promise there; else the most faithful."""
    members = [(step, other) for other in range(len(family.others)) for step in family.steps]
    outcomes = runs.get([Job(cell, "train", family.word(*member), share) for member in members])

    def order(k: int) -> tuple[bool, float]:
        kept = outcomes[k]["attainment"] >= share
        return not kept, outcomes[k]["cost_usd"] if kept else -outcomes[k]["attainment"]

    return members[min(range(len(members)), key=order)]


def curve(runs: Runs, cell: Cell, family: Family, other: int, share: float) -> list[Outcome]:
    """Cost and attainment on the rest, over the whole knob."""
    return runs.get([Job(cell, "test", family.word(step, other), share) for step in family.steps])


def cost_at(points: Sequence[Outcome], share: float) -> float:
    """What the promise costs, between the knob's steps: linear in cost over the logarithm of the share missed.

    The least over neighbouring steps that have the share between them, and over steps that keep it. NaN if none does.
    """
    found = [p["cost_usd"] for p in points if p["attainment"] >= share]
    for a, b in pairwise(points):
        low, high = sorted((a, b), key=lambda p: p["attainment"])
        if low["attainment"] < share <= high["attainment"]:
            missed = [math.log(max(1 - p["attainment"], 1e-5)) for p in (low, high)]
            at = (math.log(1 - share) - missed[0]) / (missed[1] - missed[0])
            found.append(low["cost_usd"] + at * (high["cost_usd"] - low["cost_usd"]))
    return min(found, default=math.nan)
