"""What a workload's history is made from when its daemon starts: the last turns on record, and an older past's work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.forecast.history_seed import HistorySeed
from policies.history.ticks import AT, History
from policies.model import PolicyName, Tick, WorkloadName


@dataclass(frozen=True, slots=True)
class InitialHistory:
    """The record of a start: with it, and the ticks before it in the journal, `replay` begins with the same history.

    `at` is when the workload began to be run (seconds since the Unix epoch), `ticks` how many of its last ticks on
    record were taken over, `span_s` and `step_s` how long the history keeps turns and how far they are apart, `seeds`
    the older past of each policy that had one. `keeps_ticks` where it went on running, and only policies that were
    added are given their older past: with the next tick, before it was decided.
    """

    workload: WorkloadName
    at: float
    ticks: int
    span_s: float
    step_s: float
    seeds: Mapping[PolicyName, HistorySeed] = field(default_factory=dict)
    keeps_ticks: bool = False

    def apply(self, history: History) -> None:
        """Give the policies' outlooks their seasons, those that have noted nothing yet."""
        for policy, seed in self.seeds.items():
            history.seed_forecast(policy, seed)

    def history(self, recorded: Sequence[Tick]) -> History:
        """Return the history that it began with.

        `recorded` are the workload's last ticks, oldest first, `ticks` at least.
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
    """Return whether the clock was set back before this tick while nothing ran, so that no tick has the step.

    The ages of what came before are not known then. Example: the last row is of 12:00, the daemon is stopped, the clock
    is set back by an hour, and the next tick is of 11:01: kept, the rows would lie in the future and refuse new ones.
    """
    at = history.column(AT)
    return at.size > 0 and tick.at < at[-1] + tick.clock_step_s


def recent_ticks(ticks: Sequence[Tick], since: float, most: int) -> list[Tick]:
    """Return the last of the ticks: from the first one at or after `since` on, and `most` of them."""
    first = next((i for i, tick in enumerate(ticks) if tick.at >= since), len(ticks))
    return list(ticks[max(first, len(ticks) - most) :])
