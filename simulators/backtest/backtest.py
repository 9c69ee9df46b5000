"""A recorded workload looked back at: what happened, where to look, and what others would have done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policies.model import WorkloadName
from scaler.config.load import Workload
from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.backtest.counterfactuals import ContenderRequest, Counterfactuals, others
from simulators.backtest.engines import Unknown, engine
from simulators.backtest.period_summary import NotablePeriod, PeriodSummary, looks, summarize_period
from simulators.backtest.reconstruct import AssumedLengths, Unseen, mean_lengths, rebuild
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.world import RebuiltWorld, world
from simulators.experiments.scenario import load_workload
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.world.traffic.trace import TraceError

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""A word that ends so names a workload's file, and any other a peer."""


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """One workload. `world` and `others` are None where they were not asked for or could not be made: `why_not`."""

    found: PeriodSummary
    looks: tuple[NotablePeriod, ...]
    world: RebuiltWorld | None = None
    others: Counterfactuals | None = None
    why_not: str = ""

    @property
    def recorded(self) -> RecordedRun:
        return self.found.recorded


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks for. Without `simulate` nobody else is simulated."""

    simulate: bool = True
    model: str | None = None
    given: AssumedLengths = field(default_factory=AssumedLengths)
    seed: int = 1


def look(
    recorded: RecordedRun, wanted: Wanted, asked: ContenderRequest, progress: Callable[[float], None] = lambda _: None
) -> BacktestResult:
    """Look back at one workload. Raises `ConfigError` for a model or a policy that cannot be had."""
    found = summarize_period(recorded)
    ranked = tuple(looks(found))
    if not wanted.simulate:
        return BacktestResult(found, ranked, why_not="not asked for")
    try:
        served = engine(recorded, wanted.model, mean_lengths(recorded, wanted.given))
        made = world(recorded, served, rebuild(recorded, served.model, wanted.given, wanted.seed))
    except (Unseen, Unknown) as e:
        return BacktestResult(found, ranked, why_not=str(e))
    except ConfigError as e:
        if wanted.model is not None and any(p.file == "catalogue" for p in e.problems):
            raise
        return BacktestResult(found, ranked, why_not="; ".join(f"{p.path}: {p.rule}" for p in e.problems))
    try:
        return BacktestResult(found, ranked, made, others(found, made, asked, wanted.seed, progress))
    except TraceError as e:
        return BacktestResult(found, ranked, made, why_not=str(e))


def asked_of(policies: Sequence[str], names: Sequence[WorkloadName]) -> Mapping[WorkloadName, ContenderRequest]:
    """Return who else is asked for, by the recorded workload that each is about. Raises `ConfigError`.

    A file is about the workload that it names, or about the only one that is recorded; a peer about all.
    """
    files: dict[WorkloadName, list[tuple[Path, Workload]]] = {name: [] for name in names}
    words = [word for word in policies if not _is_file(word)]
    problems: list[Problem] = []
    for path in dict.fromkeys(Path(word) for word in policies if _is_file(word)):
        try:
            workload = load_workload(path)
        except ConfigError as e:
            problems += e.problems
            continue
        of = names[0] if len(names) == 1 else workload.name
        if of not in files:
            hint = did_you_mean(workload.name, list(map(str, names))) or f"there are {', '.join(names)}"
            rule = f"is about the workload {workload.name}, which is not recorded"
            problems.append(Problem(COMMAND_LINE, 1, "--policy", str(path), rule, hint))
            continue
        files[of].append((path, workload))
    if problems:
        raise ConfigError(problems)
    return {name: ContenderRequest(files[name], words) for name in names}


def _is_file(word: str) -> bool:
    return word.endswith(SUFFIXES)
