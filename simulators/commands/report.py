"""``forescale report``: backtest of a live period.

It reports the period's cost, and the results that other policies would have had.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scaler.commands.explain import parse_time
from scaler.config.problems import ConfigError, Problem
from simulators.backtest import figures, journals, text
from simulators.backtest.backtest import BacktestOptions, BacktestResult, backtest, contenders_by_workload
from simulators.backtest.reconstruct import MAX_OUTPUT, MAX_PROMPT, AssumedLengths
from simulators.commands import shared_options
from simulators.engine.models import catalogue
from simulators.experiments.contenders.contenders import peer_names
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.reporting.progress import ProgressBar
from simulators.world.traffic.writers import replacing

SIMULATION_OPTIONS: Final = ("policy", "model", "prompt_tokens", "output_tokens", "seed")
"""The options of counterfactual simulations."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", nargs="+", type=Path, metavar="JOURNAL", help="journal folders or files")
    parser.add_argument("--since", metavar="TIME", help="start of the period (ISO 8601 or Unix seconds)")
    parser.add_argument("--until", metavar="TIME", help="end of the period, exclusive")
    parser.add_argument("--workload", metavar="NAME", help="workload to report (default: all)")
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="FILE",
        help="workload file to simulate in addition to HPA and KEDA, or a built-in peer"
        f" ({', '.join(peer_names())}); settings follow a colon, as in static:replicas=8; repeatable",
    )
    parser.add_argument(
        "--record-only", action="store_true", help="report the recorded period only; simulate no policy"
    )
    parser.add_argument("--model", metavar="NAME", help="service model of a replica (default: as recorded)")
    parser.add_argument(
        "--prompt-tokens", type=float, metavar="N", help="mean prompt length in tokens (default: as recorded)"
    )
    parser.add_argument(
        "--output-tokens", type=float, metavar="N", help="mean output length in tokens (default: as recorded)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="random seed, also of the rebuilt requests (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure as JSON; - writes it to stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")


def command(args: argparse.Namespace) -> int:
    since, until = _period_of(args)
    problems = [*_misuse(args), *shared_options.output_problems({"--json": args.json, "--html": args.html})]
    if problems:
        raise ConfigError(problems)
    try:
        results, left_out = _backtest(args, since, until)
    except InvariantBroken as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("forescale: interrupted", file=sys.stderr)
        return 130
    if args.json:
        shared_options.write_json(figures.as_dict(results, left_out), args.json)
    if args.html:
        from simulators.backtest.page import page  # noqa: PLC0415 - jinja2 is slow to import

        with replacing(args.html) as file:
            file.write(page(results, left_out).encode())
    if args.json != Path("-"):
        print("\n\n".join("\n".join(text.lines(result)) for result in results))
        for name, reason in left_out.items():
            print(f"{name} is excluded: {reason}")
    return 0


def _period_of(args: argparse.Namespace) -> tuple[float, float]:
    since = parse_time(args.since, "--since") if args.since else -math.inf
    return since, parse_time(args.until, "--until") if args.until else math.inf


def _misuse(args: argparse.Namespace) -> Iterator[Problem]:
    """Yield the problems of options that contradict each other or are out of range."""

    def problem(option: str, value: object, rule: str, hint: str = "") -> Problem:
        return Problem(COMMAND_LINE, 1, option, str(value), rule, hint)

    since, until = _period_of(args)
    if until <= since:
        yield problem("--until", args.until, f"must be after --since, {args.since}")
    for option in SIMULATION_OPTIONS:
        value = getattr(args, option)
        if args.record_only and value not in (None, []):
            yield problem(
                f"--{option.replace('_', '-')}",
                value,
                "cannot be combined with --record-only, which simulates no policy",
            )
    for option, maximum in (("prompt_tokens", MAX_PROMPT), ("output_tokens", MAX_OUTPUT)):
        value = getattr(args, option)
        if value is not None and not 1 <= value <= maximum:
            yield problem(f"--{option.replace('_', '-')}", value, f"must be 1 to {maximum}")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        yield problem("--seed", args.seed, "must be 0 to 2**63 - 1")


def _backtest(args: argparse.Namespace, since: float, until: float) -> tuple[list[BacktestResult], dict[str, str]]:
    if args.model is not None:
        catalogue.load(args.model)
    with ProgressBar("read journals") as progress:
        period = journals.read(
            args.journal, since, until, args.workload, lambda done, total: progress(done / max(total, 1))
        )
    options = BacktestOptions(
        simulate=not args.record_only,
        model=args.model,
        lengths=AssumedLengths(args.prompt_tokens, args.output_tokens),
        seed=1 if args.seed is None else args.seed,
    )
    contenders = contenders_by_workload(args.policy, [recorded.name for recorded in period.recorded])
    results = []
    for number, recorded in enumerate(period.recorded, 1):
        with ProgressBar(f"simulate {recorded.name} ({number} of {len(period.recorded)})") as progress:
            results.append(backtest(recorded, options, contenders[recorded.name], progress))
    return results, {str(name): reason for name, reason in period.left_out.items()}
