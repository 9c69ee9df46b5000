"""``forescale simulate``: one scenario, or engines alone at a fixed size, and what came of it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from policies.model import Tick
from scaler.config.daemon import Journal
from scaler.config.problems import ConfigError, Problem
from scaler.journal.writer import JournalWriter
from simulators import run as running
from simulators import table
from simulators.commands.progress import Steps
from simulators.invariants import InvariantBroken
from simulators.kernel import layout
from simulators.models import catalogue
from simulators.results import Requests, summarize
from simulators.run import Run
from simulators.scenario import Case, load
from simulators.traffic.formats.options import Options
from simulators.traffic.readers import read
from simulators.traffic.trace import Trace, TraceError
from simulators.traffic.writers import replacing


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", type=Path, metavar="SCENARIO", help="the scenario's YAML file")
    parser.add_argument("--model", metavar="NAME", help="without a scenario: engines of this service model alone")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="without a scenario: so many engines")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="these requests instead of the scenario's traffic")
    parser.add_argument("--run", metavar="NAME", help="which run of the trace's file")
    parser.add_argument("--speed", type=float, default=1.0, metavar="FACTOR", help="the trace so many times as fast")
    parser.add_argument("--seed", type=int, metavar="N", help="of all chance (default: the scenario's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON; - writes them to stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--journal", type=Path, metavar="DIR", help="write every turn's record, for explain and replay")
    parser.add_argument("--requests", type=Path, metavar="FILE", help="write one CSV row a request")


def command(args: argparse.Namespace) -> int:
    try:
        done = _alone(args) if args.scenario is None else _scenario(args)
    except (TraceError, InvariantBroken) as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    summary = summarize(done)
    if args.json:
        _write_json(summary.as_dict(), args.json)
    if args.requests:
        write_requests(done, args.requests)
    if args.html:
        from simulators.report.page import page  # noqa: PLC0415 - the one use of plotly, which is slow to import

        with replacing(args.html) as file:
            file.write(page([(done.case.workload.name, done)]).encode())
    if args.json != Path("-"):
        print("\n".join(table.lines([summary], [summary.policy])))
    return 0


def _alone(args: argparse.Namespace) -> Run:
    if args.model is None or args.trace is None:
        rule = "give a scenario, or both --model and --trace to run engines alone"
        raise ConfigError([Problem("command line", 1, "SCENARIO", "", rule)])
    if args.journal:
        raise ConfigError([Problem("command line", 1, "--journal", str(args.journal), "engines alone take no turns")])
    if not 1 <= args.replicas <= 100_000:
        raise ConfigError([Problem("command line", 1, "--replicas", str(args.replicas), "must be 1 to 100000")])
    return running.alone(catalogue.load(args.model), args.replicas, _trace(args), args.seed or 1)


def _scenario(args: argparse.Namespace) -> Run:
    if args.model is not None:
        raise ConfigError([Problem("command line", 1, "--model", args.model, "the scenario names its models")])
    case = load(args.scenario)
    seed = case.scenario.seed if args.seed is None else args.seed
    if args.trace is None:
        trace = running.traffic_of(case, seed)
    else:
        case, trace = running.without_traffic(case), _trace(args)
    with Steps(f"simulate {case.scenario.scenario}") as progress:
        if args.journal is None:
            return running.simulate(case, seed, trace, progress=progress)
        return journalled(case, seed, trace, args.journal, progress)


def journalled(case: Case, seed: int, trace: Trace, folder: Path, progress: Callable[[float], None]) -> Run:
    """A run whose every turn is recorded in `folder`, which must be new or a journal's: it is replaced."""
    if folder.exists() and any(f.suffix != ".jsonl" and f.name != ".lock" for f in folder.iterdir()):
        rule = "holds files that are no journal's: give a new folder"
        raise ConfigError([Problem("command line", 1, "--journal", str(folder), rule)])
    shutil.rmtree(folder, ignore_errors=True)
    writer = JournalWriter(Journal(directory=str(folder)), case.scenario.epoch_s, version("forescale"))

    def record(tick: Tick) -> None:
        writer.write(tick, case.workload)

    try:
        return running.simulate(case, seed, trace, record=[record], progress=progress)
    finally:
        writer.close()


def _trace(args: argparse.Namespace) -> Trace:
    trace = read(args.trace, Options(run=args.run))
    return running.checked(trace.speed(args.speed) if args.speed != 1 else trace)


def _write_json(figures: dict[str, Any], path: Path) -> None:
    text = json.dumps(without_nan(figures), indent=2) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
        return
    with replacing(path) as file:
        file.write(text.encode())


def without_nan(value: Any) -> Any:
    """The value with null for what is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_requests(done: Run, path: Path) -> None:
    """One CSV row a request, in order of arrival: empty where a time did not come, replica -1 where none took it."""
    import pyarrow as pa  # noqa: PLC0415 - only those who ask for it pay for it
    from pyarrow import csv  # noqa: PLC0415

    requests = Requests(done)

    def times(values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
        return pa.array(np.round(values, 9), mask=~np.isfinite(values))

    rows = pa.table(
        {
            "arrival_s": pa.array(np.round(requests.arrival_s, 9)),
            "prompt_tokens": pa.array(requests.counts[:, layout.PROMPT]),
            "output_tokens": pa.array(requests.counts[:, layout.OUTPUT]),
            "ttft_s": times(requests.ttft_s),
            "e2e_s": times(requests.e2e_s),
            "replica": pa.array(requests.counts[:, layout.REPLICA]),
        }
    )
    with replacing(path) as file:
        csv.write_csv(rows, file, csv.WriteOptions(quoting_style="none", quoting_header="none"))
