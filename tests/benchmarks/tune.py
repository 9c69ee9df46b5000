"""Time and gain of a search: 500 trials on an hour of the Azure conversation trace, for about 20 replicas.

The last third is held out. Rivals are HPA and KEDA, each the best of the grid of the benchmark ``cost_at_slo`` on the
same two thirds. All run in the same two processes.
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
"""Unpruned trials: the same number for one process and for two."""
WORKERS: Final = 100
GOAL_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Rival:
    """The best member of a family on the tuning traffic, and its figures on the validation traffic."""

    contender: str
    proof: Figures


def azure(data: Path) -> Case:
    """Return the whole trace under our own policy, untuned."""
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
        executor = LocalExecutor(world, JOBS)
        try:
            run_all(executor, _full_trials(world, JOBS), lambda _: None, SearchListener(), _ignore)  # compiles
            start_s, cpu_s = stopwatch_s(), sum(os.times()[:2])
            result = _search(executor, world, space, Path(folder))
            elapsed_s = stopwatch_s() - start_s
            client_ms = 1e3 * (sum(os.times()[:2]) - cpu_s) / result.counts.finished
            yield from _gains(result, elapsed_s, sum(os.times()[:2]) - cpu_s + _workers_s())
            rivals = [_rival(executor, world, name) for name in RIVALS]
            yield from _against_rivals(result, rivals)
        finally:
            executor.close()
        yield from _speedup(world)
        yield from _transfers(world, result, client_ms)


def _search(executor: Executor, world: StudyInputs, space: Space, folder: Path) -> TuneResult:
    manifest = {"sampler": "tpe", "seed": SEED}
    with lead_folder(folder / "study"):
        study_ = study(open_storage(None, folder / "study"), "azure", space, manifest, ALLOWED)
        study_info = {
            "proposal": False,
            "imported": False,
            "file": "",
            "version": "",
            "study": "azure",
            "scenario": "azure",
            **manifest,
        }
        result = tune(
            study_, executor, world, SearchBudget(trials=TRIALS), SearchListener(), TuneListeners(), study_info
        )
    if result is None:
        raise RuntimeError("no trial ended")
    return result


def _workers_s() -> float:
    """Return the CPU time of this process's children, as Linux counts it. Seconds."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _gains(result: TuneResult, elapsed_s: float, cpu_s: float) -> Iterator[Figure]:
    load = os.getloadavg()[0]
    note = f"{result.counts.pruned} pruned; validation and plots included; load average {load:.1f}"
    yield Figure("tune", f"{TRIALS} trials on {JOBS} processes", elapsed_s, "s", GOAL_S, note=note)
    note = f"all processes, compilation included; {cpu_s / JOBS:.0f} s on {JOBS} otherwise idle cores"
    yield Figure("tune", f"{TRIALS} trials, CPU time", cpu_s, "s", note=note)
    if result.today_validation is None or result.recommended is None:
        yield Figure(
            "tune",
            "cost of tuned to untuned, same SLO",
            1.0,
            "",
            0.90,
            note=f"no recommendation: {result.verdict.reason}",
        )
        return
    best, today = result.recommended.figures, result.today_validation
    note = f"{best.late_share:.2%} late, untuned {today.late_share:.2%}, {ALLOWED:.0%} allowed; on the held-out third"
    yield Figure(
        "tune", "cost of tuned to untuned, same SLO", best.usd_per_month / today.usd_per_month, "", 0.90, note=note
    )
    equal = [p.figures for p in result.validated if p.figures.late_share <= today.late_share]
    if equal:
        cheapest = min(equal, key=lambda f: f.usd_per_month)
        note = f"cheapest point with at most the untuned share of late requests: {cheapest.late_share:.2%}"
        yield Figure(
            "tune",
            "cost of tuned to untuned, same SLO attainment",
            cheapest.usd_per_month / today.usd_per_month,
            "",
            note=note,
        )


def _against_rivals(result: TuneResult, rivals: Sequence[Rival]) -> Iterator[Figure]:
    if result.recommended is None:
        return
    cost = result.recommended.figures.usd_per_month
    for name, rival in zip(RIVALS, rivals, strict=True):
        verb = "meets" if rival.proof.late_share <= ALLOWED else "MISSES"
        note = f"{rival.contender} {verb} the SLO on the held-out part: {rival.proof.late_share:.2%} late"
        yield Figure("tune", f"cost of tuned to tuned {name}", cost / rival.proof.usd_per_month, "", 1.0, note=note)


def _rival(executor: Executor, world: StudyInputs, name: str) -> Rival:
    """Return the family's cheapest member that meets the SLO on the tuning traffic, else the least late one."""
    family = families(1.0, 1.0, Cell("azure-conv", 90).source.in_work)[name]
    members = [family.contender(step, setting) for setting in range(len(family.settings)) for step in family.steps]
    outcomes = run_all(
        executor, [TrialJob(k, w) for k, w in enumerate(members)], lambda _: None, SearchListener(), _ignore
    )
    results = {w: figures(outcomes[k, "search"].results) for k, w in enumerate(members)}
    meeting = [w for w in members if results[w].late_share <= ALLOWED]
    contender = (
        min(meeting, key=lambda w: results[w].usd_per_month)
        if meeting
        else min(members, key=lambda w: results[w].late_share)
    )
    proof = run_all(executor, [TrialJob(0, contender, "prove")], lambda _: None, SearchListener(), _ignore)
    return Rival(contender, figures(proof[0, "prove"].results))


def _speedup(world: StudyInputs) -> Iterator[Figure]:
    """Yield the speed-up of two processes over one, by elapsed and by CPU time: the best of two alternating runs."""
    times_s: dict[int, list[float]] = {1: [], 2: []}
    cpu_s: dict[int, list[float]] = {1: [], 2: []}
    for jobs in (1, 2, 1, 2):
        executor = LocalExecutor(world, jobs)
        try:
            run_all(executor, _full_trials(world, jobs), lambda _: None, SearchListener(), _ignore)
            start_s, workers_start_s, own_start_s = stopwatch_s(), _workers_s(), sum(os.times()[:2])
            run_all(executor, _full_trials(world, SPEEDUP_TRIALS), lambda _: None, SearchListener(), _ignore)
            times_s[jobs].append(stopwatch_s() - start_s)
            cpu_s[jobs].append((_workers_s() - workers_start_s) / jobs + sum(os.times()[:2]) - own_start_s)
        finally:
            executor.close()
    load = os.getloadavg()[0]
    times = f"{min(times_s[1]):.1f} s and {min(times_s[2]):.1f} s"
    note = f"{SPEEDUP_TRIALS} trials without pruning; {times}; load average {load:.1f}"
    yield Figure("tune", "speed-up of two processes", min(times_s[1]) / min(times_s[2]), "x", 1.8, ">=", note=note)
    note = "by CPU time, as on idle cores: the mean of the workers plus the client"
    yield Figure(
        "tune", "speed-up of two processes on idle cores", min(cpu_s[1]) / min(cpu_s[2]), "x", 1.8, ">=", note=note
    )


def _transfers(world: StudyInputs, result: TuneResult, client_ms: float) -> Iterator[Figure]:
    """Yield the data sent over the network: the inputs once to each worker, a job and an outcome for each trial."""
    inputs_bytes = len(pickle.dumps(world))
    job = TrialJob(1, result.points[0].contender)
    outcome = TrialOutcome(result.points[0].results, ((1.0, 0.1), (1.0, 0.1)))
    trial_bytes = len(pickle.dumps(job)) + len(pickle.dumps(outcome))
    yield Figure("tune", "data sent once to each worker", inputs_bytes / 1e6, "MB", note="all traces, as arrays")
    yield Figure("tune", "data sent per trial", trial_bytes / 1e3, "kB", note="a job's settings and its outcome")
    note = "the client's own work: suggest settings, record outcomes, wait"
    yield Figure("tune", "CPU time of the client per trial", client_ms, "ms", note=note)
    all_gb = inputs_bytes * WORKERS / 1e9
    note = (
        f"estimate: time in which the client suggests {WORKERS} trials; the traces of all workers have {all_gb:.1f} GB"
    )
    yield Figure("tune", f"shortest trial that keeps {WORKERS} workers busy", WORKERS * client_ms / 1e3, "s", note=note)


def _full_trials(world: StudyInputs, count: int) -> list[TrialJob]:
    return [TrialJob(k, world.today_contender) for k in range(count)]


def _ignore(_job: TrialJob, _outcome: TrialOutcome) -> None:
    return
