"""The command line: parses, and hands over to the verb's own module."""

from __future__ import annotations

import argparse
import importlib
import sys
from importlib.metadata import version
from typing import Any, Final

from scaler.config.problems import ConfigError
from scaler.journal.reader import JournalError
from scaler.ports import PortError

VERBS: Final = {
    "check": "scaler.commands.check",
    "explain": "scaler.commands.explain",
    "replay": "scaler.commands.replay",
    "run": "scaler.commands.run",
    "schema": "scaler.commands.schema",
    "trace": "simulators.commands.trace",
}
"""Every verb by the module whose `command` does it, imported on use."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="forescale",
        description="Autoscaling control plane for self-hosted LLM serving.",
        epilog="Start with: forescale run config/quickstart --for 30",
    )
    top.add_argument("--version", action="version", version=f"forescale {version('forescale')}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    run = verbs.add_parser("run", help="run the daemon", description="Observe, decide, resize, record; until Ctrl-C.")
    run.add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of them")
    run.add_argument("--dry-run", action="store_true", help="decide and record, but resize nothing")
    run.add_argument("--once", action="store_true", help="one turn for each workload, explained, then end")
    run.add_argument("--for", dest="for_s", type=_seconds, metavar="SECONDS", help="end after so many seconds")
    run.add_argument("--json", action="store_true", help="log lines and summary as JSON")

    check = verbs.add_parser("check", help="validate configuration", description="Tell every problem at once.")
    check.add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of them")
    check.add_argument("--json", action="store_true", help="problems as JSON")

    schema = verbs.add_parser("schema", help="print the configuration's JSON Schema")
    schema.add_argument("--example", action="store_true", help="print the documented example instead")

    explain = verbs.add_parser(
        "explain", help="tell why a size was chosen", description="One decision in words, with all that led to it."
    )
    explain.add_argument("journal", metavar="JOURNAL", help="journal folder, or one of its files")
    explain.add_argument("--at", metavar="TIME", help="the turn at or before this time (ISO 8601, or Unix seconds)")
    explain.add_argument("--workload", metavar="NAME", help="this workload (default: every one)")
    explain.add_argument("--json", action="store_true", help="the recorded tick as JSON")

    replay = verbs.add_parser(
        "replay",
        help="decide again from recorded observations",
        description="With the recorded configuration every decision must come out equal (exit 1 and the first"
        " differences otherwise); with --config, tells what another configuration would have decided.",
    )
    replay.add_argument("journal", metavar="JOURNAL", help="journal folder, or one of its files")
    replay.add_argument("--config", nargs="+", metavar="CONFIG", help="decide by this configuration instead")
    replay.add_argument("--workload", metavar="NAME", help="this workload only")
    replay.add_argument("--json", action="store_true", help="the comparison as JSON")

    _trace(verbs.add_parser("trace", help="describe, convert or generate traffic", description="Traces of requests."))
    return top


def _trace(trace: argparse.ArgumentParser) -> None:
    actions = trace.add_subparsers(dest="action", required=True, metavar="ACTION")
    describe = actions.add_parser("describe", help="tell a trace's rate, bursts and lengths")
    describe.add_argument("file", metavar="FILE", help="trace in any known format (docs/traffic.md)")
    describe.add_argument("--json", action="store_true", help="the figures as JSON")
    describe.add_argument("--html", metavar="FILE", help="write a page with plots too")
    convert = actions.add_parser("convert", help="write a trace as CSV or Parquet")
    convert.add_argument("file", metavar="IN", help="trace in any known format (docs/traffic.md)")
    convert.add_argument("out", metavar="OUT", help="file to write: .csv, .csv.gz or .parquet")
    convert.add_argument("--speed", type=float, default=1.0, metavar="FACTOR", help="so many times as fast")
    convert.add_argument("--window", metavar="START:END", help="only these seconds; START becomes 0")
    for action in (describe, convert):
        action.add_argument("--format", metavar="NAME", help="the format (default: as the content tells)")
        action.add_argument(
            "--columns", metavar="ROLE=COLUMN,...", help="columns of arrival, prompt, output [, client]"
        )
        action.add_argument("--unit", choices=["s", "ms", "us", "ns"], help="unit of the arrivals")
        action.add_argument("--run", metavar="NAME", help="which run, where a file holds several")
        action.add_argument("--skip-bad", action="store_true", help="leave bad rows out and count them")
        action.add_argument("--seed", type=int, default=0, help="of the chance that spreads coarse arrivals")
    generate = actions.add_parser("generate", help="make a trace")
    generate.add_argument("what", metavar="SPEC", help="YAML file, or a kind of generator (docs/traffic.md)")
    generate.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="the kind's settings")
    generate.add_argument("--out", required=True, metavar="FILE", help="file to write: .csv, .csv.gz or .parquet")
    generate.add_argument("--seed", type=int, default=0, help="of all its chance")


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 well, 1 the answer is no, 2 it could not be done."""
    args = parser().parse_args(argv)
    try:
        code: int = _module(VERBS[args.verb]).command(args)
    except ConfigError as e:
        print(e, file=sys.stderr)
        print(f"{len(e.problems)} problem{'s' * (len(e.problems) != 1)} found", file=sys.stderr)
        return 2
    except (PortError, JournalError) as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return code


def _module(name: str) -> Any:
    """A verb's module; one that the installation lacks the packages for is told so."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if not name.startswith("simulators.") or (e.name or "").split(".")[0] in {"scaler", "simulators"}:
            raise
        print(
            f"forescale: needs the simulator's packages ({e.name} is missing): install forescale[sim]", file=sys.stderr
        )
        raise SystemExit(2) from e


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
