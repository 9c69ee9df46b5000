"""``forescale simulate``: run one scenario, or engines alone at a fixed size."""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import math
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
from simulators.commands import shared_options
from simulators.engine.models import catalogue
from simulators.experiments import run as running
from simulators.experiments.group_results import summarize_groups
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.results import CountedRequests, summarize
from simulators.experiments.run import SimulationRun
from simulators.experiments.scenario import MAX_REPLICAS, Case
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.reporting import table, text
from simulators.reporting.progress import ProgressBar
from simulators.world.infrastructure.market import MAX_PRICE
from simulators.world.traffic.trace import RequestTrace, TraceError
from simulators.world.traffic.writers import replacing

MAX_FILES: Final = 1000
"""The maximum files of a simulated journal, 64 MiB each. Unlike a daemon's, it is kept in full."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", type=Path, metavar="SCENARIO", help="the scenario's YAML file")
    parser.add_argument("--model", metavar="NAME", help="without a scenario: simulate engines of this service model")
    parser.add_argument("--replicas", type=int, metavar="N", help="without a scenario: number of engines (default: 1)")
    parser.add_argument(
        "--price-usd-per-hour",
        type=float,
        metavar="USD",
        help="without a scenario: price of an engine's node (default: unknown, and so is the cost)",
    )
    shared_options.trace_arguments(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="random seed (default: the scenario's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON; - writes them to stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument(
        "--journal", type=Path, metavar="DIR", help="write the record of every tick, for explain and replay"
    )
    parser.add_argument("--requests", type=Path, metavar="FILE", help="write one CSV row per request")


def command(args: argparse.Namespace) -> int:
    problems = list(_misuse(args)) + list(_output_problems(args))
    if problems:
        raise ConfigError(problems)
    try:
        return _report(args, _simulate_engines(args) if args.scenario is None else _simulate_scenario(args))
    except (TraceError, InvariantBroken) as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("forescale: interrupted", file=sys.stderr)
        return 130


def _report(args: argparse.Namespace, run: SimulationRun) -> int:
    summary = summarize(run)
    concurrent = [summarize(other) for other in run.concurrent]
    summaries = [summary, *concurrent]
    groups = summarize_groups(run, summaries)
    if args.json:
        fleet = {"concurrent_scenarios": [other.as_dict() for other in concurrent], "peak_usage": dict(run.peak_usage)}
        together = {"groups": [dataclasses.asdict(group) for group in groups]} if groups else {}
        shared_options.write_json({**summary.as_dict(), **(fleet if run.peak_usage else {}), **together}, args.json)
    if args.requests:
        write_requests(run, args.requests)
    if args.html:
        from simulators.reporting.page import page  # noqa: PLC0415 - jinja2 is slow to import

        with replacing(args.html) as file:
            file.write(page([(run.case.workload.name, run)]).encode())
    if args.json != Path("-"):
        print("\n".join(table.lines(summaries, [s.policy for s in summaries])))
        if run.peak_usage:
            print(_fleet_text(run))
        for group in groups:
            print(text.group(group))
        for s in summaries:
            of_policy = f"{s.policy}: " if concurrent else ""
            for warning in s.warnings:
                print(f"warning: {of_policy}{warning}")
        for s in summaries:
            of_policy = f"{s.policy}: " if concurrent else ""
            if math.isnan(s.cost_usd):
                print(f"{of_policy}{text.cost(s)}")
            print(f"{of_policy}{text.verdict(s)}")
    return 0


def _fleet_text(run: SimulationRun) -> str:
    """Return the fleet's peak usage and its limits as text."""
    limits = run.case.scenario.fleet
    units = (("gpus", "GPUs", limits.max_gpus), ("usd_per_hour", "USD per hour", limits.max_usd_per_hour))
    parts = (
        f"{run.peak_usage[unit]:,.4g} {noun} ({'no limit' if limit is None else f'limit {limit:,.6g}'})"
        for unit, noun, limit in units
    )
    return f"peak fleet usage: {' and '.join(parts)}"


def _misuse(args: argparse.Namespace) -> Iterator[Problem]:
    """Yield the problems of options that contradict each other or are out of range."""

    def problem(option: str, value: object, rule: str) -> Problem:
        return Problem(COMMAND_LINE, 1, option, "" if value is None else str(value), rule)

    if args.scenario is None and (args.model is None or args.trace is None):
        yield problem("SCENARIO", None, "give a scenario, or both --model and --trace to run engines alone")
    if args.scenario is not None and args.model is not None:
        yield problem("--model", args.model, "cannot be combined with a scenario: set model in the scenario's pools")
    if args.scenario is not None and args.replicas is not None:
        yield problem(
            "--replicas", args.replicas, "cannot be combined with a scenario: set initial_replicas in the scenario"
        )
    price = args.price_usd_per_hour
    if args.scenario is not None and price is not None:
        rule = "cannot be combined with a scenario: set price_usd_per_hour in the scenario's pools"
        yield problem("--price-usd-per-hour", f"{price:g}", rule)
    elif price is not None and not 0 <= price <= MAX_PRICE:
        yield problem("--price-usd-per-hour", f"{price:g}", f"must be 0 to {MAX_PRICE:,.0f}")
    if args.scenario is None and args.journal is not None:
        yield problem("--journal", args.journal, "requires a scenario: engines without a scenario make no decisions")
    if args.replicas is not None and not 1 <= args.replicas <= MAX_REPLICAS:
        yield problem("--replicas", args.replicas, f"must be 1 to {MAX_REPLICAS}")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        yield problem("--seed", args.seed, "must be 0 to 2**63 - 1")
    yield from shared_options.trace_option_problems(args)


def _output_problems(args: argparse.Namespace) -> Iterator[Problem]:
    yield from shared_options.output_problems({"--json": args.json, "--html": args.html, "--requests": args.requests})
    if args.journal is None:
        return
    draft = args.journal.with_name(f".{args.journal.name}.")  # the journal is written there and renamed when complete
    problem = next(shared_options.output_problems({"--journal": draft}), None)
    rule = problem.rule if problem else journal_folder_problem(args.journal)
    if rule:
        yield Problem(COMMAND_LINE, 1, "--journal", str(args.journal), rule)


def _simulate_engines(args: argparse.Namespace) -> SimulationRun:
    seed = 1 if args.seed is None else args.seed
    return running.simulate_engines(
        catalogue.load(args.model), args.replicas or 1, shared_options.read_trace(args), seed, args.price_usd_per_hour
    )


def _simulate_scenario(args: argparse.Namespace) -> SimulationRun:
    case, trace, seed = shared_options.read_case(args, args.scenario)
    with ProgressBar(f"simulate {case.scenario.scenario}") as progress:
        if args.journal is None:
            return running.simulate(case, seed, trace, progress=progress)
        return simulate_to_journal(case, seed, trace, args.journal, progress)


def journal_folder_problem(folder: Path) -> str:
    """Return why a journal may not replace a folder; empty if it may."""
    if not folder.exists():
        return ""
    if not folder.is_dir() or folder.is_symlink():
        return "is not a folder: name one"
    journal_paths = {*journal_files(folder), folder / ".lock"}
    if any(file not in journal_paths for file in folder.iterdir()):
        return "contains files that do not belong to a journal: name a new folder"
    try:
        with (folder / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "is being written by a daemon: name a new folder"
    except FileNotFoundError:
        pass
    return ""


def simulate_to_journal(
    case: Case, seed: int, trace: RequestTrace, folder: Path, progress: Callable[[float], None]
) -> SimulationRun:
    """Simulate a case and record every tick in a journal.

    The complete journal replaces `folder`.
    """
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        settings = JournalSpec(directory=str(draft), keep_files=MAX_FILES)
        writer = JournalWriter(settings, case.scenario.epoch_s, version("forescale"))
        workloads = {c.workload.name: c.workload for c in (case, *case.concurrent)}

        def record(tick: Tick) -> None:
            writer.write(tick, workloads[tick.workload])
            _require_written(writer, folder)

        try:
            run = running.simulate(case, seed, trace, record=[record], progress=progress)
        finally:
            writer.close()
        draft.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return run


def _require_written(writer: JournalWriter, folder: Path) -> None:
    """Raise `JournalError` if the journal cannot be written.

    A daemon would continue without one.
    """
    if writer.lost:
        raise JournalError(f"{folder}: cannot be written: {writer.error}")


def write_requests(run: SimulationRun, path: Path) -> None:
    """Write one CSV row for each request by arrival: a missing time is empty, no replica is -1."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and rarely needed
    from pyarrow import csv  # noqa: PLC0415

    requests = CountedRequests(run)

    def nullable_times(values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
        return pa.array(np.round(values, 9), mask=~np.isfinite(values))

    rows = pa.table(
        {
            "arrival_s": pa.array(np.round(requests.arrival_s, 9)),
            "prompt_tokens": pa.array(requests.table.prompt_tokens),
            "output_tokens": pa.array(requests.table.output_tokens),
            "ttft_s": nullable_times(requests.ttft_s),
            "e2e_s": nullable_times(requests.e2e_s),
            "replica": pa.array(requests.table.replica),
        }
    )
    with replacing(path) as file:
        csv.write_csv(rows, file, csv.WriteOptions(quoting_style="none", quoting_header="none"))
