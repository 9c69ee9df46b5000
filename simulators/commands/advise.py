"""``forescale advise``: the cost of demand and how to buy it, from a journal or a scenario."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scaler.config.problems import ConfigError, Problem
from simulators.backtest.reconstruct import AssumedLengths as Lengths
from simulators.commands import shared_options
from simulators.cost import inputs as cost_inputs
from simulators.cost import of_journal, of_scenario
from simulators.cost.advice import Advice, advice, as_dict
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.text import lines
from simulators.experiments import group_cases
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.reporting.progress import ProgressBar
from simulators.world.traffic.trace import TraceError
from simulators.world.traffic.writers import replacing

SEED: Final = 1
JOURNAL_OPTIONS: Final = ("workload", "model", "prompt_tokens", "output_tokens")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", type=Path, metavar="JOURNAL|SCENARIO", help="journal folder or file, or scenario file")
    parser.add_argument("--offers", type=Path, metavar="FILE", help="GPUs and their prices (docs/how-to/advise.md)")
    parser.add_argument("--workload", metavar="NAME", help="workload to analyse, if the journal has several")
    parser.add_argument(
        "--model", metavar="NAME", help="service model of the journal's replicas (default: as recorded)"
    )
    parser.add_argument(
        "--prompt-tokens", type=float, metavar="N", help="mean prompt length of the journal's requests in tokens"
    )
    parser.add_argument(
        "--output-tokens", type=float, metavar="N", help="mean output length of the journal's requests in tokens"
    )
    shared_options.trace_arguments(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="random seed (default: the scenario's, or 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure as JSON; - writes it to stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")


def command(args: argparse.Namespace) -> int:
    problems = list(_misuse(args))
    if problems:
        raise ConfigError(problems)
    try:
        result = _advice(args)
    except (TraceError, InvariantBroken) as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    if args.json:
        shared_options.write_json(as_dict(result), args.json)
    if args.html:
        from simulators.cost.page import page  # noqa: PLC0415 - jinja2 is slow to import

        with replacing(args.html) as file:
            file.write(page(result).encode())
    if args.json != Path("-"):
        print("\n".join(lines(result)))
    return 0


def _is_scenario(path: Path) -> bool:
    return path.suffix in {".yaml", ".yml"}


def _misuse(args: argparse.Namespace) -> Iterator[Problem]:
    """Yield the problems of options that contradict each other or are out of range."""
    if _is_scenario(args.what):
        for name in JOURNAL_OPTIONS:
            if getattr(args, name) is not None:
                option = f"--{name.replace('_', '-')}"
                yield Problem(
                    COMMAND_LINE,
                    1,
                    option,
                    str(getattr(args, name)),
                    "applies to a journal only: set it in the scenario",
                )
    elif args.trace is not None:
        yield Problem(
            COMMAND_LINE, 1, "--trace", str(args.trace), "applies to a scenario only: a journal has its own requests"
        )
    for name in ("prompt_tokens", "output_tokens"):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= 1e6:
            yield Problem(COMMAND_LINE, 1, f"--{name.replace('_', '-')}", f"{value:g}", "must be 1 to 1,000,000 tokens")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        yield Problem(COMMAND_LINE, 1, "--seed", str(args.seed), "must be 0 to 2**63 - 1")
    yield from shared_options.trace_option_problems(args)
    yield from shared_options.output_problems({"--json": args.json, "--html": args.html})


def _advice(args: argparse.Namespace) -> Advice:
    offers = cost_inputs.load(args.offers)
    if _is_scenario(args.what):
        evidence, seed = _scenario_evidence(args, offers)
    else:
        seed = SEED if args.seed is None else args.seed
        lengths = Lengths(args.prompt_tokens, args.output_tokens)
        evidence = of_journal.of_journal(
            args.what, of_journal.JournalInputs(args.workload, args.model, lengths), seed, offers
        )
    return advice(evidence, offers, seed)


def _scenario_evidence(args: argparse.Namespace, offers: cost_inputs.LoadedOffers) -> tuple[WorkloadEvidence, int]:
    case, trace, seed = shared_options.read_case(args, args.what)
    group_cases.require_no_group(case, str(args.what), "advise")
    with ProgressBar(f"simulate {case.scenario.scenario}") as progress:
        inputs = of_scenario.ScenarioInputs(args.what, case, trace, seed)
        return of_scenario.of_scenario(inputs, offers, progress), seed
