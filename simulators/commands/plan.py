"""``forescale plan``: provisioned throughput to hold, from observed tokens per minute."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scaler.config.problems import ConfigError, Problem
from simulators.commands import shared_options
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.provisioned import apply, offers, text
from simulators.provisioned.of_csv import of_csv
from simulators.provisioned.of_journal import Signals, of_journal
from simulators.provisioned.plan import FALL, ThroughputPlan, as_dict, plan, require_week
from simulators.provisioned.samples import TokenSamples
from simulators.world.traffic.writers import replacing

JOURNAL_OPTIONS: Final = ("workload", "input", "output", "cached", "utilization")
MAX_FALL: Final = 0.9


def arguments(parser: argparse.ArgumentParser) -> None:
    tokens = "journal, or CSV of tokens per minute"
    parser.add_argument("tokens", nargs="?", type=Path, metavar="JOURNAL|CSV", help=tokens)
    parser.add_argument(
        "--offers", type=Path, metavar="FILE", help="units, terms and prices (docs/how-to/provisioned-throughput.md)"
    )
    parser.add_argument("--offer", metavar="NAME", help="offer of the file to plan (default: all)")
    parser.add_argument("--units", action="store_true", help="print the shipped table of units instead")
    parser.add_argument(
        "--fall",
        type=float,
        metavar="SHARE",
        help=f"fall of the load that units held for more than a week must withstand (default: {FALL:g})",
    )
    parser.add_argument("--allow-short", action="store_true", help="plan from less than a week of observations")
    parser.add_argument("--workload", metavar="NAME", help="workload to plan, if the journal has several")
    for name, what in (
        ("input", "prompt tokens per second"),
        ("output", "output tokens per second"),
        ("cached", "cached prompt tokens per second"),
        ("utilization", "utilization of the held units, 1 for full use"),
    ):
        parser.add_argument(f"--{name}", metavar="SIGNAL", help=f"signal of the journal with the {what}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure as JSON; - writes it to stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--apply", type=Path, metavar="FILE", help="write a shell script that applies the plan")


def command(args: argparse.Namespace) -> int:
    if args.units:
        print(text.units_table())
        return 0
    problems = list(_misuse(args))
    if problems:
        raise ConfigError(problems)
    named = offers.load(args.offers, args.offer)
    samples = _samples(args)
    require_week(samples, allow_short=args.allow_short)
    plans = [plan(samples, one, FALL if args.fall is None else args.fall) for one in named]
    _write(args, plans)
    return 0


def _write(args: argparse.Namespace, plans: list[ThroughputPlan]) -> None:
    if args.json:
        shared_options.write_json({"plans": [as_dict(one) for one in plans]}, args.json)
    if args.apply:
        with replacing(args.apply) as file:
            file.write(apply.script(plans).encode())
    if args.html:
        from simulators.provisioned.page import page  # noqa: PLC0415 - jinja2 is slow to import

        with replacing(args.html) as file:
            file.write(page(plans).encode())
    if args.json != Path("-"):
        print("\n\n".join("\n".join(text.lines(one)) for one in plans))


def _is_csv(path: Path) -> bool:
    return path.suffix == ".csv"


def _misuse(args: argparse.Namespace) -> Iterator[Problem]:
    """Yield the problems of options that are missing, contradict each other or are out of range."""
    if args.tokens is None:
        yield Problem(COMMAND_LINE, 1, "JOURNAL|CSV", "", "is required", "name a journal or a CSV file")
    elif _is_csv(args.tokens):
        for name in JOURNAL_OPTIONS:
            if getattr(args, name) is not None:
                rule = "applies to a journal only: a CSV names its columns"
                yield Problem(COMMAND_LINE, 1, f"--{name}", str(getattr(args, name)), rule)
    if args.offers is None:
        rule = "is required: Forescale reads no prices from a cloud"
        yield Problem(COMMAND_LINE, 1, "--offers", "", rule, "write one (docs/how-to/provisioned-throughput.md)")
    if args.fall is not None and not 0 <= args.fall <= MAX_FALL:
        yield Problem(COMMAND_LINE, 1, "--fall", f"{args.fall:g}", f"must be 0 to {MAX_FALL:g}")
    files = {"--json": args.json, "--html": args.html, "--apply": args.apply}
    yield from shared_options.output_problems(files)


def _samples(args: argparse.Namespace) -> TokenSamples:
    if _is_csv(args.tokens):
        return of_csv(args.tokens)
    return of_journal(args.tokens, args.workload, Signals(args.input, args.output, args.cached, args.utilization))
