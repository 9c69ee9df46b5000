"""Shared parts of the simulator's commands.

They are the trace options, checks of output files, and JSON output.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scaler.config.problems import Problem
from simulators.experiments import run as running
from simulators.experiments.scenario import Case, load
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import RequestTrace
from simulators.world.traffic.writers import replacing


def trace_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options about a trace."""
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="replay this trace instead of the scenario's traffic"
    )
    parser.add_argument("--run", metavar="NAME", help="run to read, if the trace file holds several")
    parser.add_argument("--skip-bad", action="store_true", help="skip malformed rows of the trace and count them")
    model_argument(parser)
    parser.add_argument(
        "--speed", type=float, metavar="FACTOR", help="replay the trace this many times as fast (default: 1)"
    )


def model_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that selects the requests to one model."""
    parser.add_argument(
        "--model-name", metavar="NAME", help="keep only requests to this model; a shell pattern, '*' for all"
    )


def trace_option_problems(args: argparse.Namespace) -> Iterator[Problem]:
    """Yield the problems of trace options without ``--trace``."""
    for option in ("run", "speed", "skip_bad", "model_name"):
        value = getattr(args, option)
        if args.trace is None and value is not None and value is not False:
            rule = "requires --trace"
            yield Problem(COMMAND_LINE, 1, f"--{option.replace('_', '-')}", str(value), rule)


def read_trace(args: argparse.Namespace) -> RequestTrace:
    """Read the trace of the command line. Raises `TraceError`."""
    trace = read(args.trace, ReadOptions(run=args.run, skip_bad=args.skip_bad, model=args.model_name))
    return running.checked(trace if args.speed is None else trace.speed(args.speed))


def read_case(args: argparse.Namespace, scenario: Path) -> tuple[Case, RequestTrace, int]:
    """Return a scenario with its traffic, or with the trace of the command line, and the seed.

    Raises `ConfigError` and `TraceError`.
    """
    case = load(scenario)
    seed = case.scenario.seed if args.seed is None else args.seed
    if args.trace is None:
        return case, running.traffic_of(case, seed), seed
    trace = read_trace(args).with_prefix_hits(case.scenario.prefix_hit_share)
    return running.replaying(case, trace), trace, seed


def output_problems(files: Mapping[str, Path | None]) -> Iterator[Problem]:
    """Yield the problems of output files that cannot be written, before any work starts."""
    for option, path in files.items():
        if path is None or (option == "--json" and path == Path("-")):
            continue
        rule = ""
        if not path.parent.is_dir():
            rule = "cannot be written: the directory does not exist: create it first"
        elif not os.access(path.parent, os.W_OK):
            rule = "cannot be written: no write permission for the directory"
        elif path.is_dir():
            rule = "cannot be written: it is a directory: name a file in it"
        if rule:
            yield Problem(COMMAND_LINE, 1, option, str(path), rule)


def write_json(figures: Mapping[str, Any], path: Path) -> None:
    """Write figures as JSON to a file, or to stdout for ``-``."""
    text = json.dumps(without_nan(figures), indent=2, allow_nan=False) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
        return
    with replacing(path) as file:
        file.write(text.encode())


def without_nan(value: Any) -> Any:
    """Return the value with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
