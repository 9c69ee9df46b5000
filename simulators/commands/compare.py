"""``forescale compare``: compare policies in one scenario, with significance tests."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scaler.config.problems import ConfigError, Problem
from simulators.commands import shared_options
from simulators.experiments import group_cases
from simulators.experiments.compare import REPLICATIONS, Comparison, compare
from simulators.experiments.contenders.contenders import contenders, peer_names, split_texts
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.oracle.plan import SloUnreachable
from simulators.experiments.scenario import load
from simulators.experiments.statistics import LEVEL
from simulators.reporting import comparison
from simulators.reporting.page import page_of_runs
from simulators.reporting.progress import ProgressBar
from simulators.world.traffic.trace import TraceError
from simulators.world.traffic.writers import replacing


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", type=Path, metavar="SCENARIO", help="the scenario's YAML file")
    parser.add_argument(
        "--policies",
        default="",
        metavar="A,B",
        help="policies to compare: workload files, names of workload files in the scenario's folder, oracle, or peers"
        f" ({', '.join(peer_names())}); settings follow a colon, as in static:replicas=8;min_replicas=8",
    )
    parser.add_argument("--without-self", action="store_true", help="exclude the scenario's own workload")
    parser.add_argument(
        "--replications",
        type=int,
        default=REPLICATIONS,
        metavar="R",
        help=f"runs of each policy, with consecutive seeds (default: {REPLICATIONS})",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="first random seed (default: the scenario's)")
    shared_options.trace_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure as JSON; - writes it to stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--jobs", type=int, metavar="J", help="maximum number of processes (default: one per CPU)")


def command(args: argparse.Namespace) -> int:
    try:
        result = _compare(args)
        if args.json:
            shared_options.write_json(as_dict(result), args.json)
        if args.html:
            replications = [replication for name in result.names for replication in result.runs[name]]
            runs_data = [r.run_data for r in replications if r.run_data is not None]
            with replacing(args.html) as file:
                file.write(page_of_runs(runs_data, "comparison.html.j2", **comparison.view(result)).encode())
    except (TraceError, InvariantBroken, SloUnreachable) as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print("forescale: a process was killed, most likely for lack of memory: use --jobs 1", file=sys.stderr)
        return 2
    if args.json != Path("-"):
        print("\n".join(comparison.lines(result)))
    return 0


def _compare(args: argparse.Namespace) -> Comparison:
    problems = [
        Problem("command line", 1, f"--{key}", str(value), f"must be {minimum} to {maximum}")
        for key, value, minimum, maximum in (
            ("replications", args.replications, 1, 10_000),
            ("jobs", args.jobs, 1, 4096),
            ("seed", args.seed, 0, 2**63 - 10_001),
        )
        if value is not None and not minimum <= value <= maximum
    ]
    problems += [
        *shared_options.trace_option_problems(args),
        *shared_options.output_problems({"--json": args.json, "--html": args.html}),
    ]
    if problems:
        raise ConfigError(problems)
    case = load(args.scenario)
    group_cases.require_no_group(case, str(args.scenario), "compare")
    policies = contenders(case, split_texts(args.policies), with_self=not args.without_self)
    if case.scenario.slo is None and any(policy.oracle for policy in policies):
        rule = "requires an SLO: set slo in the scenario"
        raise ConfigError([Problem("command line", 1, "--policies", "oracle", rule)])
    first = case.scenario.seed if args.seed is None else args.seed
    trace = None if args.trace is None else shared_options.read_trace(args)
    seeds = range(first, first + args.replications)
    with ProgressBar(f"compare {len(policies)} in {case.scenario.scenario}") as progress:
        jobs = args.jobs or os.cpu_count() or 1
        return compare(policies, seeds, trace, jobs=jobs, with_run_data=bool(args.html), progress=progress)


def as_dict(result: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data.

    It has the ranking, every replication, the differences from the first policy, and regret.
    """
    policies = {
        name: [
            r.summary.as_dict() | {"unsettled_s": r.unsettled_s, "bound_usd": r.bound_usd} for r in result.runs[name]
        ]
        for name in result.names
    }
    ranking = [
        {
            "policy": name,
            "slo_met": None if result.slo is None else result.met(name),
            "slo_missed_by": result.missed_by(name),
            "cost_usd": result.mean_cost_usd(name),
            "api_usd": result.mean_api_usd(name),
        }
        for name in result.names
    ]
    return {
        "scenario": result.scenario,
        "version": version("forescale"),
        "level": LEVEL,
        "slo": None if result.slo is None else dataclasses.asdict(result.slo),
        "slo_share": None if result.slo is None else result.slo.share,
        "seeds": list(result.seeds),
        "same_requests": result.replayed,
        "ranking": ranking,
        "policies": policies,
        "differences": [
            {**dataclasses.asdict(c), "to": result.base, "significant": c.significant} for c in result.contrasts()
        ],
        "regret": {name: dataclasses.asdict(regret) for name, regret in result.regrets().items()},
    }
