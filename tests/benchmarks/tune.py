"""What a search takes, and what it gains: 500 trials on an hour of the Azure conversation trace, for about 20 replicas.

The last third is never searched on. Rivals are HPA and KEDA, each the best of the grid that the benchmark
``cost_at_slo`` tunes them by, on the same two thirds. All are run by the same two processes.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaler.clock import stopwatch_s
from simulators.experiments.scenario import Case
from simulators.tune.executor import Executor, LocalExecutor
from simulators.tune.objectives import Figures, figures
from simulators.tune.result import TuneResult
from simulators.tune.run import TuneListeners, tune
from simulators.tune.search import SearchBudget, SearchListener, run_all
from simulators.tune.space import Space, space_of
from simulators.tune.storage import lead_folder, open_storage
from simulators.tune.study import study
from simulators.tune.study_inputs import StudyInputs, study_inputs
from simulators.tune.trial import TrialJob, TrialOutcome
from simulators.world.traffic.generate import TraceFile
from tests.benchmarks.cost.cells import Cell
from tests.benchmarks.cost.families import families
from tests.benchmarks.figure import Figure

TRIALS: Final = 500
JOBS: Final = 2
SEED: Final = 1
PROOF: Final = 3
WHOLE_S: Final = 3499.0
ALLOWED: Final = 0.01
RIVALS: Final = ("hpa", "keda")
SPEEDUP_TRIALS: Final = 12
"""Whole trials, without giving up: as many for one process as for two."""
WORKERS: Final = 100
GOAL_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Rival:
    """The best member of a family on the search's traffic, and what it came to on the proof's."""

    contender: str
    proof: Figures


def azure(data: Path) -> Case:
    """The whole of the trace, under our own policy with nothing tuned."""
    case = Cell("azure-conv", 90).case(data, "train")
    traffic = case.scenario.traffic
    if not isinstance(traffic, TraceFile):
        raise TypeError(f"the trace's traffic is a {type(traffic).__name__}, not a file")
    whole = dataclasses.replace(traffic, start_s=0.0, end_s=WHOLE_S)
    return dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, traffic=whole))


def run(data: Path) -> Iterator[Figure]:
    if not (data / "requests").is_dir():
        yield Figure("tune", "skipped", 0.0, "", note=f"{data} has no requests: it is not shipped")
        return
    case = azure(data)
    world = study_inputs(case, [], SEED, 1, PROOF)
    space = space_of(case)
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalExecutor(world, JOBS)
        try:
            run_all(engine, _whole(world, JOBS), lambda _: None, SearchListener(), _nobody)  # compiles
            began_s, cpu_s = stopwatch_s(), sum(os.times()[:2])
            found = _search(engine, world, space, Path(folder))
            took_s = stopwatch_s() - began_s
            client_ms = 1e3 * (sum(os.times()[:2]) - cpu_s) / found.counts.finished
            yield from _gains(found, took_s, sum(os.times()[:2]) - cpu_s + _workers_s())
            rivals = [_rival(engine, world, name) for name in RIVALS]
            yield from _against(found, rivals)
        finally:
            engine.close()
        yield from _speedup(world)
        yield from _sent(world, found, client_ms)


def _search(engine: Executor, world: StudyInputs, space: Space, folder: Path) -> TuneResult:
    manifest = {"sampler": "tpe", "seed": SEED}
    with lead_folder(folder / "study"):
        made = study(open_storage(None, folder / "study"), "azure", space, manifest, ALLOWED)
        names = {
            "proposal": False,
            "imported": False,
            "file": "",
            "version": "",
            "study": "azure",
            "scenario": "azure",
            **manifest,
        }
        found = tune(made, engine, world, SearchBudget(trials=TRIALS), SearchListener(), TuneListeners(), names)
    if found is None:
        raise RuntimeError("no trial ended")
    return found


def _workers_s() -> float:
    """The CPU time that this process's children have taken, as Linux counts it. Seconds."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _gains(found: TuneResult, took_s: float, cpu_s: float) -> Iterator[Figure]:
    load = os.getloadavg()[0]
    note = f"{found.counts.pruned} given up early; proof and pictures included; load of the machine {load:.1f}"
    yield Figure("tune", f"{TRIALS} trials on {JOBS} processes", took_s, "s", GOAL_S, note=note)
    note = f"of all processes, compiling included; so {cpu_s / JOBS:.0f} s of two cores that nobody else uses"
    yield Figure("tune", f"{TRIALS} trials, CPU time", cpu_s, "s", note=note)
    if found.today_validation is None or found.recommended is None:
        yield Figure(
            "tune", "tuned to untuned, same promise", 1.0, "", 0.90, note=f"nothing recommended: {found.reason}"
        )
        return
    best, today = found.recommended.figures, found.today_validation
    said = f"{best.late_share:.2%} late, untuned {today.late_share:.2%}, {ALLOWED:.0%} allowed; unseen third"
    yield Figure(
        "tune", "tuned to untuned, same promise", best.usd_per_month / today.usd_per_month, "", 0.90, note=said
    )
    equal = [p.figures for p in found.validated if p.figures.late_share <= today.late_share]
    if equal:
        least = min(equal, key=lambda f: f.usd_per_month)
        said = f"the cheapest point that is no later than the untuned: {least.late_share:.2%}"
        yield Figure("tune", "tuned to untuned, no more late", least.usd_per_month / today.usd_per_month, "", note=said)


def _against(found: TuneResult, rivals: Sequence[Rival]) -> Iterator[Figure]:
    if found.recommended is None:
        return
    cost = found.recommended.figures.usd_per_month
    for name, rival in zip(RIVALS, rivals, strict=True):
        kept = "keeps" if rival.proof.late_share <= ALLOWED else "MISSES"
        note = f"{rival.contender} {kept} the promise there: {rival.proof.late_share:.2%} late"
        yield Figure("tune", f"tuned to tuned {name}", cost / rival.proof.usd_per_month, "", 1.0, note=note)


def _rival(engine: Executor, world: StudyInputs, name: str) -> Rival:
    """The family's cheapest member that keeps the promise on the search's traffic, else its most faithful."""
    family = families(1.0, 1.0, Cell("azure-conv", 90).source.in_work)[name]
    words = [family.word(step, other) for other in range(len(family.others)) for step in family.steps]
    outcomes = run_all(engine, [TrialJob(k, w) for k, w in enumerate(words)], lambda _: None, SearchListener(), _nobody)
    told = {w: figures(outcomes[k, "search"].results) for k, w in enumerate(words)}
    kept = [w for w in words if told[w].late_share <= ALLOWED]
    contender = min(kept, key=lambda w: told[w].usd_per_month) if kept else min(words, key=lambda w: told[w].late_share)
    proof = run_all(engine, [TrialJob(0, contender, "prove")], lambda _: None, SearchListener(), _nobody)
    return Rival(contender, figures(proof[0, "prove"].results))


def _speedup(world: StudyInputs) -> Iterator[Figure]:
    """One process, two, one, two: the best of each, as others may use the machine; and by CPU time."""
    took_s: dict[int, list[float]] = {1: [], 2: []}
    cpu_s: dict[int, list[float]] = {1: [], 2: []}
    for jobs in (1, 2, 1, 2):
        engine = LocalExecutor(world, jobs)
        try:
            run_all(engine, _whole(world, jobs), lambda _: None, SearchListener(), _nobody)
            began_s, before_s, own_s = stopwatch_s(), _workers_s(), sum(os.times()[:2])
            run_all(engine, _whole(world, SPEEDUP_TRIALS), lambda _: None, SearchListener(), _nobody)
            took_s[jobs].append(stopwatch_s() - began_s)
            cpu_s[jobs].append((_workers_s() - before_s) / jobs + sum(os.times()[:2]) - own_s)
        finally:
            engine.close()
    load = os.getloadavg()[0]
    note = f"{SPEEDUP_TRIALS} whole trials; {min(took_s[1]):.1f} s and {min(took_s[2]):.1f} s; load {load:.1f}"
    yield Figure("tune", "two processes to one", min(took_s[1]) / min(took_s[2]), "x", 1.8, ">=", note=note)
    note = "by CPU time: each worker's share of it and all of the client's, as on cores that nobody else uses"
    yield Figure("tune", "two processes to one, free cores", min(cpu_s[1]) / min(cpu_s[2]), "x", 1.8, ">=", note=note)


def _sent(world: StudyInputs, found: TuneResult, client_ms: float) -> Iterator[Figure]:
    """What goes over the network: the bundle once a worker, a job and its outcome a trial."""
    once = len(pickle.dumps(world))
    job = TrialJob(1, found.points[0].contender)
    outcome = TrialOutcome(found.points[0].results, ((1.0, 0.1), (1.0, 0.1)))
    each = len(pickle.dumps(job)) + len(pickle.dumps(outcome))
    yield Figure("tune", "sent once a worker", once / 1e6, "MB", note="all traces, as arrays")
    yield Figure("tune", "sent a trial", each / 1e3, "kB", note="a job's words and its outcome")
    note = "asking, telling and waiting: what the client itself does"
    yield Figure("tune", "client, a trial", client_ms, "ms CPU", note=note)
    note = (
        f"estimated: so long takes the client to draw {WORKERS}; the traces for all are {once * WORKERS / 1e9:.1f} GB"
    )
    yield Figure("tune", f"shortest trial that keeps {WORKERS} workers busy", WORKERS * client_ms / 1e3, "s", note=note)


def _whole(world: StudyInputs, count: int) -> list[TrialJob]:
    return [TrialJob(k, world.today_contender) for k in range(count)]


def _nobody(_job: TrialJob, _outcome: TrialOutcome) -> None:
    return
