"""``forescale trace``: describe, convert or generate a trace."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, cast

from scaler.config.document import value_in
from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.commands.shared_options import model_argument
from simulators.experiments.spec_loader import COMMAND_LINE, read_file, read_kind
from simulators.experiments.spec_loader import read as read_record
from simulators.reporting.progress import ProgressBar
from simulators.world.rng import streams
from simulators.world.traffic.describe import describe, lines
from simulators.world.traffic.formats.layouts import TOKEN_ROLES
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.generate import GENERATORS
from simulators.world.traffic.lengths import Lengths
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import RequestTrace, TraceError
from simulators.world.traffic.writers import replacing, write, writer_of


def arguments(trace: argparse.ArgumentParser) -> None:
    actions = trace.add_subparsers(dest="action", required=True, metavar="ACTION")
    describe = actions.add_parser("describe", help="print the rate, bursts and lengths of a trace")
    describe.add_argument("file", metavar="FILE", help="trace in any known format (docs/how-to/traffic.md)")
    describe.add_argument("--json", action="store_true", help="print the figures as JSON")
    describe.add_argument("--html", metavar="FILE", help="also write a page with plots")
    convert = actions.add_parser("convert", help="write a trace as CSV or Parquet")
    convert.add_argument("file", metavar="IN", help="trace in any known format (docs/how-to/traffic.md)")
    convert.add_argument("out", metavar="OUT", help="file to write: .csv, .csv.gz or .parquet")
    convert.add_argument(
        "--speed", type=float, default=1.0, metavar="FACTOR", help="divide all times by this factor (default: 1)"
    )
    convert.add_argument("--window", metavar="START:END", help="keep only this window in seconds; START becomes 0")
    for action in (describe, convert):
        action.add_argument("--format", metavar="NAME", help="trace format (default: detected from the content)")
        action.add_argument(
            "--columns",
            metavar="ROLE=COLUMN,...",
            help="column names for the roles arrival, prompt, output and, optionally, cached, client, model;"
            " in JSON, dotted keys",
        )
        action.add_argument(
            "--unit", choices=["s", "ms", "us", "ns"], help="unit of the arrival times (default: detected)"
        )
        action.add_argument("--run", metavar="NAME", help="run to read, if the file holds several")
        action.add_argument("--skip-bad", action="store_true", help="skip malformed rows and count them")
        model_argument(action)
        _token_arguments(action)
        action.add_argument(
            "--seed", type=int, default=0, help="random seed of spread arrivals and drawn tokens (default: 0)"
        )
    generate = actions.add_parser("generate", help="generate a trace")
    generate.add_argument("what", metavar="SPEC", help="YAML file, or kind of generator (docs/how-to/traffic.md)")
    generate.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the kind")
    generate.add_argument("--out", required=True, metavar="FILE", help="file to write: .csv, .csv.gz or .parquet")
    generate.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def _token_arguments(action: argparse.ArgumentParser) -> None:
    """Add the options that set the token counts that a file does not have."""
    for role in TOKEN_ROLES:
        action.add_argument(
            f"--{role}-tokens",
            type=_lengths,
            metavar="N",
            help=f"{role} tokens of requests without any in the file: a constant, or a distribution to draw from,"
            " mean_tokens=N,cv=X or p50_tokens=N,p95_tokens=N",
        )


def _lengths(text: str) -> Lengths:
    """Return token counts: a constant, or the settings of a distribution."""
    settings = f"mean_tokens={text},cv=0,max_tokens={text}" if text.isdecimal() else text
    pairs = [setting.partition("=") for setting in settings.split(",")]
    try:
        data = {key.strip(): value_in(value) for key, _, value in pairs}
        if all(equals for _, equals, _ in pairs):
            return cast("Lengths", read_record(Lengths, data))
    except ConfigError as e:
        problems = (f"{p.path} {p.rule}" + (f" ({p.hint})" if p.hint else "") for p in e.problems)
        raise argparse.ArgumentTypeError("; ".join(problems)) from e
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, or KEY=NUMBER,KEY=NUMBER")


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
        from simulators.world.traffic.plot import page  # noqa: PLC0415 - jinja2 is slow to import

        with replacing(Path(args.html)) as file:
            file.write(page(trace).encode())
    if args.json:
        print(json.dumps(description.as_dict(), indent=2))
    else:
        print("\n".join(lines(description, trace)))
    return 0


def _convert(args: argparse.Namespace) -> int:
    writer_of(Path(args.out))  # raises before the work
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


def _read(args: argparse.Namespace) -> RequestTrace:
    with ProgressBar("reading") as bar:
        options = ReadOptions(
            format=args.format,
            columns=_columns(args.columns),
            unit=args.unit,
            run=args.run,
            skip_bad=args.skip_bad,
            rng_for=streams(args.seed),
            progress=bar.large,
            model=args.model_name,
            prompt=args.prompt_tokens,
            output=args.output_tokens,
        )
        return read(Path(args.file), options)


def _write(trace: RequestTrace, out: Path) -> None:
    with ProgressBar("writing") as bar:
        write(trace, out, bar.large)
    repaired = "".join(f"; {repair}: {count:,}" for repair, count in trace.repairs.items())
    print(f"{out}: {len(trace):,} requests, digest {trace.digest()[:16]}{repaired}")


def _generator(kind_or_file: str, settings: list[str]) -> Any:
    """Return the generator of a YAML file, or of a kind and ``key=value`` settings."""
    if kind_or_file in GENERATORS:
        return read_kind(GENERATORS, {"kind": kind_or_file, **_nested(settings)})
    path = Path(kind_or_file)
    if not path.is_file():
        hint = did_you_mean(kind_or_file, list(GENERATORS)) or f"the kinds are {', '.join(GENERATORS)}"
        raise TraceError(f"{kind_or_file}: neither a YAML file nor a kind of generator; {hint}")
    if settings:
        raise TraceError(f"{settings[0]}: settings apply to a kind of generator only: edit the file instead")
    return read_file(GENERATORS, path)


def _nested(settings: list[str]) -> dict[str, Any]:
    """Return settings as a nested mapping: ``["prompt.cv=2"]`` as ``{"prompt": {"cv": 2}}``.

    Values are YAML.
    """
    data: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError([Problem(COMMAND_LINE, 1, setting, "", "must be written key=value")])
        node = data
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError([Problem(COMMAND_LINE, 1, key, value, f"{parent} already has a value")])
        if last in node:
            raise ConfigError([Problem(COMMAND_LINE, 1, key, value, "is set twice")])
        try:
            node[last] = value_in(value)
        except ValueError as e:
            raise ConfigError([Problem(COMMAND_LINE, 1, key, value, "is not a valid YAML value")]) from e
    return data


def _columns(text: str | None) -> dict[str, str]:
    """Return ``arrival=ts,prompt=in`` as a mapping of roles to columns."""
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    if any(not equals or not role or not column for role, equals, column in pairs):
        raise TraceError(f"--columns {text!r}: must be written ROLE=COLUMN,ROLE=COLUMN")
    return {role.strip(): column for role, _, column in pairs}


def _window(text: str) -> tuple[float, float]:
    """Return ``600:1200``, ``600:`` or ``:1200`` as a start and an end in seconds."""
    start, colon, end = text.partition(":")
    try:
        span = float(start or 0), float(end or math.inf)
    except ValueError:
        span = (math.nan, math.nan)
    if not colon or not 0 <= span[0] < span[1]:
        raise TraceError(f"--window {text!r}: must be written START:END in seconds; either may be omitted")
    return span
