"""``forescale simulate``: one scenario, or engines alone at a fixed size, and what came of it."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.model import Tick
from scaler.config.daemon import JournalSpec
from scaler.config.problems import ConfigError, Problem
from scaler.journal.reader import JournalError
from scaler.journal.writer import JournalWriter
from scaler.journal.writer import files as journal_files
from simulators.commands import given
from simulators.engine.models import catalogue
from simulators.experiments import run as running
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.results import CountedRequests, summarize
from simulators.experiments.run import SimulationRun
from simulators.experiments.scenario import MAX_REPLICAS, Case, load
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.reporting import table
from simulators.reporting.progress import ProgressBar
from simulators.world.traffic.trace import RequestTrace, TraceError
from simulators.world.traffic.writers import replacing

KEEP: Final = 1000
"""Files of a simulated journal, 64 MiB each: all of it is kept, unlike a daemon's."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", type=Path, metavar="SCENARIO", help="the scenario's YAML file")
    parser.add_argument("--model", metavar="NAME", help="without a scenario: engines of this service model alone")
    parser.add_argument("--replicas", type=int, metavar="N", help="without a scenario: so many engines (default: 1)")
    given.trace_arguments(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="of all chance (default: the scenario's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON; - writes them to stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--journal", type=Path, metavar="DIR", help="write every turn's record, for explain and replay")
    parser.add_argument("--requests", type=Path, metavar="FILE", help="write one CSV row a request")


def command(args: argparse.Namespace) -> int:
    problems = list(_misuse(args)) + list(_unwritable(args))
    if problems:
        raise ConfigError(problems)
    try:
        return _told(args, _alone(args) if args.scenario is None else _scenario(args))
    except (TraceError, InvariantBroken) as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("forescale: interrupted", file=sys.stderr)
        return 130


def _told(args: argparse.Namespace, done: SimulationRun) -> int:
    summary = summarize(done)
    beside = [summarize(other) for other in done.concurrent]
    if args.json:
        fleet = {"beside": [other.as_dict() for other in beside], "most_held": dict(done.peak_usage)}
        given.write_json({**summary.as_dict(), **(fleet if done.peak_usage else {})}, args.json)
    if args.requests:
        write_requests(done, args.requests)
    if args.html:
        from simulators.reporting.page import page  # noqa: PLC0415 - the one use of plotly, which is slow to import

        with replacing(args.html) as file:
            file.write(page([(done.case.workload.name, done)]).encode())
    if args.json != Path("-"):
        summaries = [summary, *beside]
        print("\n".join(table.lines(summaries, [s.policy for s in summaries])))
        if done.peak_usage:
            print(_fleet(done))
        for s in summaries:
            for warning in s.warnings:
                print(f"warning: {s.policy + ': ' if beside else ''}{warning}")
    return 0


def _fleet(done: SimulationRun) -> str:
    """Return the most that the fleet held at a time, beside its limits."""
    limits = done.case.scenario.fleet
    most = {"gpus": limits.max_gpus, "usd_per_hour": limits.max_usd_per_hour}
    told = (
        f"{done.peak_usage[unit]:,.4g} {words} of {'no limit' if (limit := most[unit]) is None else f'{limit:,.6g}'}"
        for unit, words in (("gpus", "GPUs"), ("usd_per_hour", "USD per hour"))
    )
    return f"the fleet held at most {' and '.join(told)}"


def _misuse(args: argparse.Namespace) -> Iterator[Problem]:
    """Yield the options that contradict each other or are out of range."""

    def wrong(option: str, value: object, rule: str) -> Problem:
        return Problem(COMMAND_LINE, 1, option, "" if value is None else str(value), rule)

    if args.scenario is None and (args.model is None or args.trace is None):
        yield wrong("SCENARIO", None, "give a scenario, or both --model and --trace to run engines alone")
    if args.scenario is not None and args.model is not None:
        yield wrong("--model", args.model, "the scenario names its models")
    if args.scenario is not None and args.replicas is not None:
        yield wrong("--replicas", args.replicas, "the scenario's initial_replicas say how many, and its workload then")
    if args.scenario is None and args.journal is not None:
        yield wrong("--journal", args.journal, "engines alone take no turns")
    if args.replicas is not None and not 1 <= args.replicas <= MAX_REPLICAS:
        yield wrong("--replicas", args.replicas, f"must be 1 to {MAX_REPLICAS}")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        yield wrong("--seed", args.seed, "must be 0 to 2**63 - 1")
    yield from given.untraced(args)


def _unwritable(args: argparse.Namespace) -> Iterator[Problem]:
    yield from given.unwritable({"--json": args.json, "--html": args.html, "--requests": args.requests})
    if args.journal is None:
        return
    beside = args.journal.with_name(f".{args.journal.name}.")  # it is written there, and takes the name when whole
    problem = next(given.unwritable({"--journal": beside}), None)
    rule = problem.rule if problem else unreplaceable(args.journal)
    if rule:
        yield Problem(COMMAND_LINE, 1, "--journal", str(args.journal), rule)


def _alone(args: argparse.Namespace) -> SimulationRun:
    seed = 1 if args.seed is None else args.seed
    return running.simulate_engines(catalogue.load(args.model), args.replicas or 1, given.trace(args), seed)


def _scenario(args: argparse.Namespace) -> SimulationRun:
    case = load(args.scenario)
    seed = case.scenario.seed if args.seed is None else args.seed
    if args.trace is None:
        trace = running.traffic_of(case, seed)
    else:
        trace = given.trace(args).hitting(case.scenario.prefix_hit_share)
        case = running.replaying(case, trace)
    with ProgressBar(f"simulate {case.scenario.scenario}") as progress:
        if args.journal is None:
            return running.simulate(case, seed, trace, progress=progress)
        return journalled(case, seed, trace, args.journal, progress)


def unreplaceable(folder: Path) -> str:
    """Why a journal may not take the place of what is there; empty if it may."""
    if not folder.exists():
        return ""
    if not folder.is_dir() or folder.is_symlink():
        return "is no folder: name one"
    ours = {*journal_files(folder), folder / ".lock"}
    if any(file not in ours for file in folder.iterdir()):
        return "holds files that are no journal's: give a new folder"
    try:
        with (folder / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "is being written by a daemon: give a new folder"
    except FileNotFoundError:
        pass
    return ""


def journalled(
    case: Case, seed: int, trace: RequestTrace, folder: Path, progress: Callable[[float], None]
) -> SimulationRun:
    """Return a run whose every turn is recorded. The journal takes the place of `folder` when it is whole."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        settings = JournalSpec(directory=str(aside), keep_files=KEEP)
        writer = JournalWriter(settings, case.scenario.epoch_s, version("forescale"))
        workloads = {c.workload.name: c.workload for c in (case, *case.concurrent)}

        def record(tick: Tick) -> None:
            writer.write(tick, workloads[tick.workload])
            _demand_written(writer, folder)

        try:
            done = running.simulate(case, seed, trace, record=[record], progress=progress)
        finally:
            writer.close()
        aside.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return done


def _demand_written(writer: JournalWriter, folder: Path) -> None:
    """Raise where the journal cannot be written: here it is what was asked for, while a daemon goes on without one."""
    if writer.lost:
        raise JournalError(f"{folder}: cannot be written: {writer.error}")


def write_requests(done: SimulationRun, path: Path) -> None:
    """Write one CSV row a request, in order of arrival: empty where a time is absent, replica -1 where none took it."""
    import pyarrow as pa  # noqa: PLC0415 - only those who ask for it pay for it
    from pyarrow import csv  # noqa: PLC0415

    requests = CountedRequests(done)

    def times(values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
        return pa.array(np.round(values, 9), mask=~np.isfinite(values))

    rows = pa.table(
        {
            "arrival_s": pa.array(np.round(requests.arrival_s, 9)),
            "prompt_tokens": pa.array(requests.table.prompt_tokens),
            "output_tokens": pa.array(requests.table.output_tokens),
            "ttft_s": times(requests.ttft_s),
            "e2e_s": times(requests.e2e_s),
            "replica": pa.array(requests.table.replica),
        }
    )
    with replacing(path) as file:
        csv.write_csv(rows, file, csv.WriteOptions(quoting_style="none", quoting_header="none"))
