"""Observed tokens per minute from a journal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from policies.model import SignalName
from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.backtest.journals import read
from simulators.backtest.recorded_run import RecordedRun
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.provisioned.samples import TokenSamples
from simulators.reporting.time_bins import Floats

RATES: Final = ("prompt_tokens_per_s", "generation_tokens_per_s")
MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Signals:
    """Names of the signals of a journal, as source.quantity; None: the default.

    Tokens are per second. `utilization` is 1 for full use.
    """

    input: str | None = None
    output: str | None = None
    cached: str | None = None
    utilization: str | None = None


def of_journal(path: Path, workload: str | None, signals: Signals) -> TokenSamples:
    """Return the samples of one workload. Raises `JournalError` and `ConfigError`."""
    period = read([path], -np.inf, np.inf, workload)
    if len(period.recorded) > 1:
        names = ", ".join(str(r.name) for r in period.recorded)
        rule = "is required: the journal has several workloads"
        raise ConfigError([Problem(COMMAND_LINE, 1, "--workload", "", rule, f"use one of {names}")])
    (recorded,) = period.recorded
    prompt, output = _rate(recorded, "--input", signals.input, 0), _rate(recorded, "--output", signals.output, 1)
    cached = None if signals.cached is None else _named(recorded, "--cached", signals.cached)
    utilization = None if signals.utilization is None else _named(recorded, "--utilization", signals.utilization)
    known = np.isfinite(prompt) & np.isfinite(output)
    if cached is not None:
        known &= np.isfinite(cached)
    samples = TokenSamples(
        recorded.at,
        recorded.over_s,
        prompt * MINUTE_S,
        output * MINUTE_S,
        None if cached is None else np.minimum(cached, prompt) * MINUTE_S,
        utilization,
        f"{path}, {int(known.sum()):,} ticks of {recorded.name}",
    )
    if not known.any():
        raise ConfigError([Problem(str(path), 0, "", "", "no tick has both token rates", "check the sources")])
    return samples.taken(known)


def _rate(recorded: RecordedRun, option: str, name: str | None, index: int) -> Floats:
    """Return a token rate at each tick: the named signal, or that of a source with both rates."""
    if name is not None:
        return _named(recorded, option, name)
    for source in recorded.spec.sources:
        rates = [recorded.reading(str(source), quantity) for quantity in RATES]
        found = rates[index]
        if all(rate is not None for rate in rates) and found is not None:
            return found
    rule = f"is required: no source of the journal has both {' and '.join(RATES)}"
    raise ConfigError([Problem(COMMAND_LINE, 1, option, "", rule, _choices(recorded))])


def _named(recorded: RecordedRun, option: str, name: str) -> Floats:
    values = recorded.readings.get(SignalName(name))
    if values is None or not np.isfinite(values).any():
        rule = "was never read in the journal"
        hint = did_you_mean(name, [str(n) for n in recorded.readings]) or _choices(recorded)
        raise ConfigError([Problem(COMMAND_LINE, 1, option, name, rule, hint)])
    return values


def _choices(recorded: RecordedRun) -> str:
    return f"the signals are {', '.join(sorted(map(str, recorded.readings))) or 'none'}"
