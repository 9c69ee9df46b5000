"""The command line: parses arguments and calls the module of the verb."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from scaler.signal_handlers import startup_signals

VERBS: Final = {
    "advise": "simulators.commands.advise",
    "calibrate": "simulators.commands.calibrate",
    "check": "scaler.commands.check",
    "compare": "simulators.commands.compare",
    "doctor": "scaler.commands.doctor",
    "explain": "scaler.commands.explain",
    "import": "scaler.commands.import_",
    "replay": "scaler.commands.replay",
    "report": "simulators.commands.report",
    "run": "scaler.commands.run",
    "schema": "scaler.commands.schema",
    "simulate": "simulators.commands.simulate",
    "trace": "simulators.commands.trace",
    "tune": "simulators.commands.tune",
}
"""The module of each verb, imported on use. Its `command` runs the verb."""
SIMULATION: Final = {
    "advise": (
        "tell what demand costs, and how to buy it",
        "By a journal or a scenario: GPUs, reserved or spot, batching, headroom, an API; docs/advise.md.",
    ),
    "calibrate": (
        "fit a service model to recorded runs",
        "How to record and fit: docs/calibration.md.",
    ),
    "compare": ("run a scenario under several policies", "All face the same requests, start-up times and losses."),
    "report": (
        "look back at a live period",
        "What happened in it, what it cost, where to look, and what others would have done: docs/report.md.",
    ),
    "simulate": ("run a scenario, or engines alone", "The daemon's own controller in a simulated world."),
    "trace": ("describe, convert or generate traffic", "Traces of requests: docs/traffic.md."),
    "tune": ("search a workload's settings on the simulator", "What is searched, and what comes of it: docs/tune.md."),
}
"""Help line and description of each verb whose packages are an extra."""


def parser(verb: str = "") -> argparse.ArgumentParser:
    """Return the argument parser.

    Of the simulator's verbs, only `verb` gets its arguments: they need imports.
    """
    from importlib.metadata import version  # noqa: PLC0415 - imported late, as in `_run`

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
    run.add_argument(
        "--shadow", nargs="+", default=[], metavar="NEW", help="let these workloads decide too, act never, and compare"
    )
    run.add_argument("--for", dest="for_s", type=_seconds, metavar="SECONDS", help="end after so many seconds")
    run.add_argument("--json", action="store_true", help="log lines and summary as JSON")

    check = verbs.add_parser("check", help="validate configuration", description="Tell every problem at once.")
    check.add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of them")
    check.add_argument(
        "--live", action="store_true", help="ask every source and pool, and for every permission; nothing is written"
    )
    check.add_argument("--json", action="store_true", help="problems as JSON")

    doctor = verbs.add_parser(
        "doctor",
        help="tell what each source and pool answers now",
        description="Readings with their ages, sizes by zone and market, lead times, permissions; nothing is written.",
    )
    doctor.add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of them")
    doctor.add_argument("--json", action="store_true", help="the same as JSON")

    schema = verbs.add_parser("schema", help="print the configuration's JSON Schema")
    schema.add_argument("--example", action="store_true", help="print the documented example instead")

    explain = verbs.add_parser(
        "explain", help="tell why a size was chosen", description="One decision in words, with all that led to it."
    )
    explain.add_argument("journal", metavar="JOURNAL", help="journal folder, or one of its files")
    explain.add_argument("--at", metavar="TIME", help="the turn at or before this time (ISO 8601, or Unix seconds)")
    explain.add_argument("--workload", metavar="NAME", help="this workload (default: every one)")
    explain.add_argument("--shadow", action="store_true", help="the shadow's turn instead (docs/shadow.md)")
    explain.add_argument("--json", action="store_true", help="the recorded tick as JSON")

    imported = verbs.add_parser(
        "import",
        help="make a workload's file of HPAs and KEDA ScaledObjects",
        description="Today's behaviour by the same rules, or with --native a proposal; what of it is not as today is"
        " told on stderr and in the file (exit 1 if something was not carried over).",
    )
    imported.add_argument("manifest", nargs="+", metavar="MANIFEST", help="YAML file, or directory of them")
    imported.add_argument("--prometheus", metavar="URL", help="a server for what Kubernetes has from its metrics API")
    imported.add_argument("--native", action="store_true", help="by Forescale's own policies")
    imported.add_argument("--out", type=Path, metavar="FILE", help="write it there (default: stdout)")
    imported.add_argument("--json", action="store_true", help="workloads and remarks as JSON")

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

    for name, (summary, description) in SIMULATION.items():
        simulation = verbs.add_parser(name, help=summary, description=description)
        if name == verb:
            _module(VERBS[name]).arguments(simulation)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 success, 1 a negative result, 2 the command failed."""
    arguments = sys.argv[1:] if argv is None else argv
    with startup_signals() if arguments[:1] == ["run"] else contextlib.nullcontext():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    """Run one command. Slow imports (1 s) are here, after the signal handlers are installed."""
    from scaler.config.problems import ConfigError  # noqa: PLC0415
    from scaler.journal.reader import JournalError  # noqa: PLC0415
    from scaler.ports import PortError  # noqa: PLC0415

    hide_secrets()
    try:
        args = parser(arguments[0] if arguments else "").parse_args(arguments)
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


def hide_secrets() -> None:
    """Mask secrets in tracebacks, and in the messages that libraries log without a configured handler."""
    from scaler.masking import mask  # noqa: PLC0415

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        print(mask("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)

    class Masked(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return mask(super().format(record))

    sys.excepthook = hook
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Masked())


def _module(name: str) -> Any:
    """Return a verb's module. Raises `SystemExit` where a package that it needs is not installed."""
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
