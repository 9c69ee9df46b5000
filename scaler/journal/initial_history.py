"""The content of a workload's history when its daemon starts.

It consists of the last recorded ticks, and seeds of forecasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.forecast.history_seed import HistorySeed
from policies.history.ticks import AT, History
from policies.model import PolicyName, Tick, WorkloadName


@dataclass(frozen=True, slots=True)
class InitialHistory:
    """The record of a workload's start.

    With it and the ticks before it, `replay` builds the same history.

    `at` is the time of the start (Unix time), and `ticks` the number of recorded ticks that the history began with.
    `span_s` is how long it keeps ticks, and `step_s` their interval (seconds). `seeds` is the backfilled work of each
    policy that has any. With `keeps_ticks` the workload went on running, and the seeds of added policies were applied
    before the next tick's decision.
    """

    workload: WorkloadName
    at: float
    ticks: int
    span_s: float
    step_s: float
    seeds: Mapping[PolicyName, HistorySeed] = field(default_factory=dict)
    keeps_ticks: bool = False

    def apply(self, history: History) -> None:
        """Seed the forecasts of the policies that have noted nothing yet."""
        for policy, seed in self.seeds.items():
            history.seed_forecast(policy, seed)

    def history(self, recorded: Sequence[Tick]) -> History:
        """Return the history at the start.

        `recorded` are at least the last `ticks` ticks, oldest first.
        """
        history = self._empty()
        for tick in recorded[len(recorded) - self.ticks :]:
            if tick.at <= self.at:
                if is_set_back(history, tick):
                    history = self._empty()
                history.add_without_forecast(tick)
        return history

    def _empty(self) -> History:
        history = History(self.span_s, step_s=self.step_s)
        self.apply(history)
        return history


def is_set_back(history: History, tick: Tick) -> bool:
    """Return whether the clock was set back while no daemon ran.

    No tick contains such a step.

    The ages of the rows are unknown then. Example: the last row is of 12:00, the daemon stops, the clock is set back by
    an hour, and the next tick is of 11:01. If the rows stayed, they would lie in the future and refuse new ones.
    """
    times_s = history.column(AT)
    return times_s.size > 0 and tick.at < times_s[-1] + tick.clock_step_s


def recent_ticks(ticks: Sequence[Tick], since: float, max_ticks: int) -> list[Tick]:
    """Return the ticks from the first one at or after `since` on.

    Only the last `max_ticks` of them are returned.
    """
    first = next((i for i, tick in enumerate(ticks) if tick.at >= since), len(ticks))
    return list(ticks[max(first, len(ticks) - max_ticks) :])
