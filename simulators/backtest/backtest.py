"""Backtest of a recorded workload: summary, notable periods, and counterfactual policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policies.model import WorkloadName
from scaler.config.load import Workload
from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.backtest.counterfactuals import Counterfactuals, RequestedContenders, simulate_counterfactuals
from simulators.backtest.engines import EngineUnknown, infer_engine
from simulators.backtest.period_summary import NotablePeriod, PeriodSummary, notable_periods, summarize_period
from simulators.backtest.reconstruct import ArrivalsUnknown, AssumedLengths, mean_lengths, rebuild
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.world import RebuiltWorld, rebuild_world
from simulators.experiments.scenario import load_workload
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.world.traffic.trace import TraceError

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""The suffixes of a workload's file: any other text names a peer."""


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """One workload's backtest.

    `world` and `counterfactuals` are None if not simulated, for `skip_reason`.
    """

    summary: PeriodSummary
    notable: tuple[NotablePeriod, ...]
    world: RebuiltWorld | None = None
    counterfactuals: Counterfactuals | None = None
    skip_reason: str = ""

    @property
    def recorded(self) -> RecordedRun:
        return self.summary.recorded


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """The options of a backtest. Without `simulate` no policy is simulated."""

    simulate: bool = True
    model: str | None = None
    lengths: AssumedLengths = field(default_factory=AssumedLengths)
    seed: int = 1


def backtest(
    recorded: RecordedRun,
    options: BacktestOptions,
    requested: RequestedContenders,
    progress: Callable[[float], None] = lambda _: None,
) -> BacktestResult:
    """Run the backtest of one workload. Raises `ConfigError` for an unknown model or policy."""
    summary = summarize_period(recorded)
    notable = tuple(notable_periods(summary))
    if not options.simulate:
        return BacktestResult(summary, notable, skip_reason="--record-only is set")
    try:
        inferred = infer_engine(recorded, options.model, mean_lengths(recorded, options.lengths))
        rebuilt_world = rebuild_world(
            recorded, inferred, rebuild(recorded, inferred.model, options.lengths, options.seed)
        )
    except (ArrivalsUnknown, EngineUnknown) as e:
        return BacktestResult(summary, notable, skip_reason=str(e))
    except ConfigError as e:
        if options.model is not None and any(p.file == "catalogue" for p in e.problems):
            raise
        return BacktestResult(summary, notable, skip_reason="; ".join(f"{p.path}: {p.rule}" for p in e.problems))
    try:
        counterfactuals = simulate_counterfactuals(summary, rebuilt_world, requested, options.seed, progress)
        return BacktestResult(summary, notable, rebuilt_world, counterfactuals)
    except TraceError as e:
        return BacktestResult(summary, notable, rebuilt_world, skip_reason=str(e))


def contenders_by_workload(
    policies: Sequence[str], names: Sequence[WorkloadName]
) -> Mapping[WorkloadName, RequestedContenders]:
    """Return the requested contenders by recorded workload. Raises `ConfigError`.

    A file belongs to the workload that it names, or to the only recorded one. A peer belongs to all.
    """
    files: dict[WorkloadName, list[tuple[Path, Workload]]] = {name: [] for name in names}
    peers = [policy for policy in policies if not _is_file(policy)]
    problems: list[Problem] = []
    for path in dict.fromkeys(Path(policy) for policy in policies if _is_file(policy)):
        try:
            workload = load_workload(path)
        except ConfigError as e:
            problems += e.problems
            continue
        name = names[0] if len(names) == 1 else workload.name
        if name not in files:
            hint = (
                did_you_mean(workload.name, list(map(str, names))) or f"the recorded workloads are {', '.join(names)}"
            )
            rule = f"configures workload {workload.name}, which is not in the journals"
            problems.append(Problem(COMMAND_LINE, 1, "--policy", str(path), rule, hint))
            continue
        files[name].append((path, workload))
    if problems:
        raise ConfigError(problems)
    return {name: RequestedContenders(files[name], peers) for name in names}


def _is_file(policy: str) -> bool:
    return policy.endswith(SUFFIXES)
