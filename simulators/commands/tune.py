"""``forescale tune``: search a workload's settings on the simulator.

It writes policy files to deploy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from scaler.config.problems import ConfigError, Problem
from simulators.commands import shared_options
from simulators.experiments import run as running
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.scenario import Case, load
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.tune import files, text
from simulators.tune.baseline import Baseline, load_baseline
from simulators.tune.executor import Executor, ExecutorFailed, LocalExecutor
from simulators.tune.progress import ProgressScreen
from simulators.tune.result import TuneResult
from simulators.tune.run import TuneListeners, tune
from simulators.tune.search import SearchBudget, SearchListener, StopRequests
from simulators.tune.space import Space, space_of
from simulators.tune.storage import LostLease, StudyLease, lead_folder, open_storage
from simulators.tune.study import SAMPLERS, study
from simulators.tune.study_inputs import RecordedTrace, StudyInputs, study_inputs
from simulators.tune.trial import WrongVersion
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import TraceError

BUDGET: Final = "10m"
VALIDATION_RUNS: Final = 3
"""Default replications of the validation: with recorded requests they differ in start-ups and losses only."""
EXTRA: Final = ("optuna", "cmaes")


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("scenario", type=Path, metavar="SCENARIO", help="the scenario's YAML file; its slo is the target")
    add("--trace", type=Path, action="append", default=[], metavar="FILE", help="replay this trace instead of the"
        " scenario's traffic; repeatable; the last third of each is held out for validation")  # fmt: skip
    add(
        "--unseen",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a trace for validation only; repeatable",
    )
    add("--skip-bad", action="store_true", help="skip malformed rows of the traces and count them")
    add("--from", dest="source", type=Path, metavar="FILE", help="start from this workload, HPA or KEDA ScaledObject"
        " (default: the scenario's workload)")  # fmt: skip
    add("--prometheus", metavar="URL", help="Prometheus server for an HPA or ScaledObject, as in forescale import")
    add("--native", action="store_true", help="with an HPA or ScaledObject: tune Forescale policies against it")
    add(
        "--search",
        type=Path,
        metavar="FILE",
        help="settings and ranges to search (docs/how-to/tune.md; default: by policy kind)",
    )
    add(
        "--budget", default=BUDGET, metavar="B", help=f"total trials, as in 500-trials, or run time (default: {BUDGET})"
    )
    add("--sampler", choices=SAMPLERS, default=SAMPLERS[0], help="sampler: TPE, NSGA-II or CMA-ES (default: tpe)")
    add("--seed", type=int, metavar="N", help="random seed (default: the scenario's)")
    add("--replications", type=int, default=1, metavar="R", help="runs of each trial (default: 1)")
    add(
        "--proof",
        type=int,
        default=VALIDATION_RUNS,
        metavar="R",
        help=f"validation runs of each point (default: {VALIDATION_RUNS})",
    )
    add("--jobs", type=int, metavar="J", help="processes on this machine (default: one per CPU)")
    add("--on", metavar="ADDRESS", help="run on this Dask scheduler, as in tcp://scheduler:8786")
    add("--storage", metavar="URL", help="keep the study in a database: postgresql://user@host/name, sqlite:///file")
    add("--study", metavar="NAME", help="name of the study in the database (default: the scenario's name)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: tune-SCENARIO)")
    add("--json", action="store_true", help="print the result as JSON")


def command(args: argparse.Namespace) -> int:
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        print(f"forescale: tune needs {', '.join(missing)}: install forescale[tune]", file=sys.stderr)
        return 2
    budget, problems = _budget(args)
    problems += _misuse(args)
    if problems:
        raise ConfigError(problems)
    try:
        return _tune(args, budget)
    except (TraceError, InvariantBroken, ExecutorFailed, LostLease, WrongVersion) as e:
        print(f"forescale: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("forescale: interrupted; finished trials are saved: repeat the command to continue", file=sys.stderr)
        return 130


def _budget(args: argparse.Namespace) -> tuple[SearchBudget, list[Problem]]:
    try:
        return SearchBudget.of(args.budget), []
    except ValueError as e:
        return SearchBudget(), [Problem(COMMAND_LINE, 1, "--budget", args.budget, str(e))]


def _misuse(args: argparse.Namespace) -> Iterator[Problem]:
    limits = (("replications", 1, 1000), ("proof", 1, 1000), ("jobs", 1, 4096), ("seed", 0, 2**62))
    for key, minimum, maximum in limits:
        value = getattr(args, key)
        if value is not None and not minimum <= value <= maximum:
            yield Problem(COMMAND_LINE, 1, f"--{key}", str(value), f"must be {minimum} to {maximum}")
    if args.on is not None and args.jobs is not None:
        yield Problem(COMMAND_LINE, 1, "--jobs", str(args.jobs), "cannot be combined with --on, which runs elsewhere")
    if args.on is not None and importlib.util.find_spec("distributed") is None:
        yield Problem(
            COMMAND_LINE, 1, "--on", args.on, "needs the Python package distributed", "install forescale[tune]"
        )
    if args.source is None:
        for key in ("native", "prometheus"):
            if getattr(args, key):
                yield Problem(COMMAND_LINE, 1, f"--{key}", "", "requires --from")
    if args.skip_bad and not (args.trace or args.unseen):
        yield Problem(COMMAND_LINE, 1, "--skip-bad", "", "requires --trace or --unseen")
    if args.out is not None and not args.out.parent.is_dir():
        rule = "cannot be created: its parent directory does not exist"
        yield Problem(COMMAND_LINE, 1, "--out", str(args.out), rule, "create the parent first")


def _tune(args: argparse.Namespace, budget: SearchBudget) -> int:
    baseline = load_baseline(load(args.scenario), args.source, args.prometheus, native=args.native)
    case = baseline.case
    seed = case.scenario.seed if args.seed is None else args.seed
    space = space_of(case, args.search)
    folder = args.out or Path(f"tune-{case.scenario.scenario}")
    inputs = _study_inputs(args, baseline, seed)
    manifest = _manifest(args, case, inputs, space, seed)
    name = args.study or case.scenario.scenario
    with lead_folder(folder) as leader, _stop_on_signal() as stop:
        tune_study = study(open_storage(args.storage, folder), name, space, manifest, 1 - case.target.share)
        lease = StudyLease(tune_study.optuna, leader) if args.storage is not None else None
        if lease is not None:
            lease.take()
        executor = _open_executor(args, inputs, stop)
        screen = ProgressScreen(f"tune {name}")
        study_info = _study_info(args, case, name, manifest, baseline)
        try:
            listener = SearchListener(screen, stop, lease)
            parts = TuneListeners(screen.proving, screen.drawing)
            result = tune(tune_study, executor, inputs, budget, listener, parts, study_info, baseline.remarks)
        finally:
            screen.clear()
            executor.close()
        if lease is not None:
            lease.leave()
        return _report(args, folder, result, baseline, space)


def _report(args: argparse.Namespace, folder: Path, result: TuneResult | None, baseline: Baseline, space: Space) -> int:
    """Write and print the result.

    Return the exit code: 1 if nothing is better than today's configuration.
    """
    if result is None:
        print(
            "forescale: stopped before the first trial ended, so there is no result; repeat the command to continue",
            file=sys.stderr,
        )
        return 130
    written = files.write(folder, result, baseline, space)
    if args.json:
        print(json.dumps(shared_options.without_nan(result.as_dict()), indent=2, allow_nan=False))
    else:
        print("\n".join(text.lines(result)))
        print(f"Written to {folder}: {', '.join(path.name for path in written)}")
    if result.stopped:
        return 130
    return 0 if result.recommended is not None else 1


def _study_inputs(args: argparse.Namespace, baseline: Baseline, seed: int) -> StudyInputs:
    def recorded(file: Path) -> RecordedTrace:
        return RecordedTrace(file.name, running.checked(read(file, ReadOptions(skip_bad=args.skip_bad))))

    return study_inputs(
        baseline.case,
        [recorded(file) for file in args.trace],
        seed,
        args.replications,
        args.proof,
        validation_only=[recorded(file) for file in args.unseen],
        present=baseline.present,
    )


def _manifest(args: argparse.Namespace, case: Case, inputs: StudyInputs, space: Space, seed: int) -> dict[str, Any]:
    """Return the inputs that identify a study.

    The budget is not among them, since it may be raised.
    """
    dimensions = [[d.path, d.present, d.low, d.high, d.log, d.whole, list(d.choices)] for d in space.dimensions]
    return {
        "sampler": args.sampler,
        "seed": seed,
        "traffic and worlds": inputs.digest,
        "what is searched": json.dumps(dimensions),
        "the promise": case.target.share,
        "version": version("forescale"),
    }


def _study_info(
    args: argparse.Namespace, case: Case, name: str, manifest: dict[str, Any], baseline: Baseline
) -> dict[str, Any]:
    return {
        "scenario": case.scenario.scenario,
        "file": str(args.scenario),
        "from": baseline.file,
        "imported": baseline.imported,
        "proposal": baseline.present is not None,
        "study": name,
        "sampler": args.sampler,
        "seed": manifest["seed"],
        "version": manifest["version"],
        "digest": manifest["traffic and worlds"],
    }


def _open_executor(args: argparse.Namespace, inputs: StudyInputs, stop: StopRequests) -> Executor:
    if args.on is None:
        return LocalExecutor(inputs, args.jobs or os.cpu_count() or 1)
    from simulators.tune.executor_dask import DaskExecutor  # noqa: PLC0415 - slow to import

    return DaskExecutor(inputs, args.on, stop)


@contextmanager
def _stop_on_signal() -> Iterator[StopRequests]:
    """Turn Ctrl-C and SIGTERM into stop requests.

    Each ends the current part: search, validation or page runs.
    """
    stop = StopRequests()
    previous = {number: signal.signal(number, lambda *_: stop.request()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
