"""What the simulator's commands share: a trace given on the command line, and figures written as JSON."""

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
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import RequestTrace
from simulators.world.traffic.writers import replacing


def trace_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options about a trace."""
    parser.add_argument("--trace", type=Path, metavar="FILE", help="these requests instead of the scenario's traffic")
    parser.add_argument("--run", metavar="NAME", help="which run of the trace's file")
    parser.add_argument("--skip-bad", action="store_true", help="leave the trace's bad rows out and count them")
    parser.add_argument("--speed", type=float, metavar="FACTOR", help="the trace so many times as fast (default: 1)")


def untraced(args: argparse.Namespace) -> Iterator[Problem]:
    """Options about a trace where none is given."""
    for option in ("run", "speed", "skip_bad"):
        given = getattr(args, option)
        if args.trace is None and given is not None and given is not False:
            rule = "is about --trace: give that too"
            yield Problem(COMMAND_LINE, 1, f"--{option.replace('_', '-')}", str(given), rule)


def trace(args: argparse.Namespace) -> RequestTrace:
    """Return the trace given. Raises `TraceError`."""
    found = read(args.trace, ReadOptions(run=args.run, skip_bad=args.skip_bad))
    return running.checked(found if args.speed is None else found.speed(args.speed))


def unwritable(files: Mapping[str, Path | None]) -> Iterator[Problem]:
    """Yield the outputs that could not be written, by option: an error before the work, not after it."""
    for option, path in files.items():
        if path is None or (option == "--json" and path == Path("-")):
            continue
        rule = ""
        if not path.parent.is_dir():
            rule = "cannot be written: there is no such directory: make it first"
        elif not os.access(path.parent, os.W_OK):
            rule = "cannot be written: the directory may not be written to"
        elif path.is_dir():
            rule = "cannot be written: is a directory: name a file in it"
        if rule:
            yield Problem(COMMAND_LINE, 1, option, str(path), rule)


def write_json(figures: Mapping[str, Any], path: Path) -> None:
    """Write figures as JSON; ``-`` is stdout."""
    text = json.dumps(without_nan(figures), indent=2, allow_nan=False) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
        return
    with replacing(path) as file:
        file.write(text.encode())


def without_nan(value: Any) -> Any:
    """Return the value with null for what is no number: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(below) for below in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
