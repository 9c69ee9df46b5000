"""The command line: parses arguments and calls the module of the verb."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import sys
import textwrap
import traceback
from types import TracebackType
from typing import Any

from scaler.commands.verbs import VERBS
from scaler.signal_handlers import startup_signals


def parser(verb: str = "") -> argparse.ArgumentParser:
    """Return the argument parser.

    Of the simulator's verbs, only `verb` gets its arguments: they need imports.
    """
    from importlib.metadata import version  # noqa: PLC0415 - imported late, as in `_run`

    from scaler.commands.arguments import Parser, listen_address, seconds  # noqa: PLC0415

    top = Parser(
        prog="forescale",
        description="Autoscaling control plane for self-hosted LLM serving.",
        epilog="forescale help COMMAND shows a command's options and examples, forescale version the version.\n"
        "Start with: forescale run config/quickstart --for 30",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("-V", "--version", action="version", version=f"forescale {version('forescale')}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    parsers = {
        name: verbs.add_parser(
            name,
            help=v.summary,
            description=v.description,
            epilog="examples:\n" + textwrap.indent(v.examples, "  "),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, v in VERBS.items()
    }

    run = parsers["run"]
    run.add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of YAML files")
    run.add_argument("--dry-run", action="store_true", help="decide and record, but resize no pool")
    run.add_argument("--once", action="store_true", help="run one tick per workload, explain it, then exit")
    run.add_argument(
        "--shadow",
        nargs="+",
        default=[],
        metavar="NEW",
        help="YAML files of workloads to run as shadows: they decide, but resize nothing (docs/how-to/shadow.md)",
    )
    run.add_argument(
        "--for", dest="for_s", type=seconds, metavar="SECONDS", help="stop after SECONDS (default: run until Ctrl-C)"
    )
    run.add_argument(
        "--listen",
        type=listen_address,
        metavar="HOST:PORT",
        help="address of the dashboard and metrics (default: daemon.listen, else 127.0.0.1:8080 or the next free port)",
    )
    run.add_argument(
        "--log",
        choices=("console", "json", "live"),
        help="log lines as text or JSON, or a live view of the workloads (default: daemon.log, else a live view on a"
        " terminal and JSON elsewhere)",
    )
    run.add_argument("--json", action="store_true", help="print log lines and the final summary as JSON")

    parsers["check"].add_argument(
        "--live", action="store_true", help="also read every source and pool and check permissions, without writing"
    )
    for name in ("check", "doctor", "shards"):
        parsers[name].add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of YAML files")
        parsers[name].add_argument("--json", action="store_true", help="print the result as JSON")

    schema = parsers["schema"]
    printed = schema.add_mutually_exclusive_group()
    printed.add_argument("--example", action="store_true", help="print a documented example configuration instead")
    printed.add_argument(
        "--crd", action="store_true", help="print the Kubernetes definition of the custom resource Workload instead"
    )

    explain = parsers["explain"]
    explain.add_argument("journal", metavar="JOURNAL", help="journal directory, or one of its files")
    explain.add_argument(
        "--at",
        metavar="TIME",
        help="explain the last tick at or before TIME, as a log line or the dashboard shows it: ISO 8601, a time of day"
        " (both UTC without an offset) or Unix seconds (default: the last tick)",
    )
    explain.add_argument("--workload", metavar="NAME", help="explain only this workload (default: all)")
    explain.add_argument("--shadow", action="store_true", help="explain the shadow's tick (docs/how-to/shadow.md)")
    explain.add_argument("--json", action="store_true", help="print the recorded tick as JSON")

    _add_import(parsers["import"])

    approve = parsers["approve"]
    approve.add_argument("pool", metavar="WORKLOAD/POOL", help="pool whose plan is approved")
    approve.add_argument(
        "plan_id", metavar="PLAN_ID", help="identifier of the plan, as forescale check --live shows it"
    )
    approve.add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of YAML files")

    notify = parsers["notify"]
    notify.add_argument("config", nargs="+", metavar="CONFIG", help="YAML file, or directory of YAML files")
    notify.add_argument("--to", metavar="NAME", help="send to this destination only (default: all)")
    notify.add_argument("--json", action="store_true", help="print the result as JSON")

    replay = parsers["replay"]
    replay.add_argument("journal", metavar="JOURNAL", help="journal directory, or one of its files")
    replay.add_argument(
        "--config", nargs="+", metavar="CONFIG", help="decide with these YAML files (default: as recorded)"
    )
    replay.add_argument("--workload", metavar="NAME", help="replay only this workload (default: all)")
    replay.add_argument("--json", action="store_true", help="print the comparison as JSON")

    completion = parsers["completion"]
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="shell of the script")
    completion.set_defaults(parser=top)

    for name in VERBS if verb == "completion" else {verb} & VERBS.keys():
        if VERBS[name].module.startswith("simulators."):
            _module(VERBS[name].module).arguments(parsers[name])
    return top


def _add_import(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("manifest", nargs="*", metavar="MANIFEST", help="YAML file, directory of YAML files, or - for standard input")
    add("--cluster", action="store_true", help="read the objects of the current cluster instead, without writing")
    add("--namespace", metavar="NAME", help="with --cluster: read only this namespace (default: all)")
    add(
        "--prometheus",
        metavar="URL",
        help="Prometheus server to query for what the HPA reads from Kubernetes' metrics APIs",
    )
    add(
        "--native",
        action="store_true",
        help="propose Forescale's own policies (default: the same algorithm as the HPA or KEDA)",
    )
    add(
        "--skip",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out the object NAME or NAMESPACE/NAME, or accept that the trigger type or key NAME is not"
        " carried over; repeatable",
    )
    add("--strict", action="store_true", help="write nothing unless everything is carried over")
    add(
        "--out",
        metavar="PATH",
        help="new file for all workloads, or a directory (PATH/) for one file per workload (default: stdout)",
    )
    add("--force", action="store_true", help="replace files that exist")
    add("--json", action="store_true", help="print workloads and findings as JSON")


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
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if arguments[:1] == ["version"]:
        arguments = ["--version", *arguments[1:]]
    try:
        args = _parse(arguments)
        code: int = _module(VERBS[args.verb].module).command(args)
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


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Return the parsed arguments.

    Exits with the nearest command where the first argument names none.
    """
    from scaler.registry import did_you_mean  # noqa: PLC0415 - imported late, as in `_run`

    verb = arguments[0] if arguments else ""
    top = parser(verb)
    if verb and not verb.startswith("-") and verb not in VERBS:
        hint = did_you_mean(verb, list(VERBS)) or f"the commands are {', '.join(VERBS)}"
        top.error(f"{verb!r} is not a command; {hint}")
    return top.parse_args(arguments)


def hide_secrets() -> None:
    """Mask secrets in tracebacks, and in log messages without a configured handler.

    Such log messages come from libraries.
    """
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
    """Return a verb's module.

    Raises `SystemExit` where a package that it needs is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if not name.startswith("simulators.") or (e.name or "").split(".")[0] in {"scaler", "simulators"}:
            raise
        print(f"forescale: this command needs the package {e.name}: pip install 'forescale[sim]'", file=sys.stderr)
        raise SystemExit(2) from e


if __name__ == "__main__":
    sys.exit(main())
