"""``forescale trace``: look at a trace, convert it, make one."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import yaml

from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.commands.progress import Bar
from simulators.document import COMMAND_LINE, read_file, read_kind
from simulators.traffic.chance import streams
from simulators.traffic.describe import describe, lines
from simulators.traffic.formats.options import Options
from simulators.traffic.generate import GENERATORS
from simulators.traffic.readers import read
from simulators.traffic.trace import Trace, TraceError
from simulators.traffic.writers import replacing, write, writer_of


def command(args: argparse.Namespace) -> int:
    try:
        return {"describe": _describe, "convert": _convert, "generate": _generate}[args.action](args)
    except TraceError as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2


def _describe(args: argparse.Namespace) -> int:
    trace = _read(args)
    description = describe(trace)
    if args.html:
        from simulators.traffic.plot import page  # noqa: PLC0415 - the one use of plotly, which is slow to import

        with replacing(Path(args.html)) as file:
            file.write(page(trace).encode())
    if args.json:
        print(json.dumps(description.as_dict(), indent=2))
    else:
        print("\n".join(lines(description, trace)))
    return 0


def _convert(args: argparse.Namespace) -> int:
    writer_of(Path(args.out))  # before the work, not after it
    window = _window(args.window) if args.window else None
    trace = _read(args)
    if window is not None:
        trace = trace.window(*window)
    if args.speed != 1:
        trace = trace.speed(args.speed)
    _write(trace, Path(args.out))
    return 0


def _generate(args: argparse.Namespace) -> int:
    writer_of(Path(args.out))
    _write(_generator(args.what, args.settings).requests(streams(args.seed)), Path(args.out))
    return 0


def _read(args: argparse.Namespace) -> Trace:
    with Bar("reading") as bar:
        options = Options(
            format=args.format,
            columns=_columns(args.columns),
            unit=args.unit,
            run=args.run,
            skip_bad=args.skip_bad,
            rng_for=streams(args.seed),
            progress=bar,
        )
        return read(Path(args.file), options)


def _write(trace: Trace, out: Path) -> None:
    with Bar("writing") as bar:
        write(trace, out, bar)
    repaired = "".join(f"; {what}: {count:,}" for what, count in trace.repairs.items())
    print(f"{out}: {len(trace):,} requests, digest {trace.digest()[:16]}{repaired}")


def _generator(what: str, settings: list[str]) -> Any:
    """The generator of a YAML file, or of a kind and ``key=value`` settings."""
    if what in GENERATORS:
        return read_kind(GENERATORS, {"kind": what, **_nested(settings)})
    path = Path(what)
    if not path.is_file():
        hint = did_you_mean(what, list(GENERATORS)) or f"kinds are {', '.join(GENERATORS)}"
        raise TraceError(f"{what}: neither a YAML file nor a kind of generator; {hint}")
    if settings:
        raise TraceError(f"{settings[0]}: settings go with a kind; those of a file stand in it")
    return read_file(GENERATORS, path)


def _nested(settings: list[str]) -> dict[str, Any]:
    """``["prompt.cv=2"]`` as ``{"prompt": {"cv": 2}}``; values are written as in YAML."""
    data: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError([Problem(COMMAND_LINE, 1, setting, "", "must be written key=value")])
        at = data
        *parents, last = key.split(".")
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise ConfigError([Problem(COMMAND_LINE, 1, key, value, f"{parent} has a value already")])
        if last in at:
            raise ConfigError([Problem(COMMAND_LINE, 1, key, value, "given twice")])
        try:
            at[last] = yaml.safe_load(value)
        except yaml.YAMLError as e:
            raise ConfigError([Problem(COMMAND_LINE, 1, key, value, "is no YAML value")]) from e
    return data


def _columns(text: str | None) -> dict[str, str]:
    """``arrival=ts,prompt=in`` as a mapping of roles to columns."""
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    if any(not equals or not role or not column for role, equals, column in pairs):
        raise TraceError(f"--columns {text!r}: must be written ROLE=COLUMN,ROLE=COLUMN")
    return {role.strip(): column for role, _, column in pairs}


def _window(text: str) -> tuple[float, float]:
    """``600:1200``, ``600:`` or ``:1200`` as a start and an end in seconds."""
    start, colon, end = text.partition(":")
    try:
        span = float(start or 0), float(end or math.inf)
    except ValueError:
        span = (math.nan, math.nan)
    if not colon or not 0 <= span[0] < span[1]:
        raise TraceError(f"--window {text!r}: must be written START:END in seconds, either of them left out at will")
    return span
