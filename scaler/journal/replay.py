"""Decides again from recorded observations, by the recorded specification or another one."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.history.ticks import AT, MAX_ROWS, History
from policies.model import Absent, Decision, Observation, Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from scaler.config.load import Workload
from scaler.journal.initial_history import InitialHistory, is_set_back

SPAN_S: Final = 3600.0
"""Default length of a daemon's history, for runs whose start is not recorded. Seconds."""


@dataclass(frozen=True, slots=True)
class ReplayedTick:
    """A recorded tick and the replayed decision.

    `comparable` is False where the history before it is not recorded.
    """

    tick: Tick
    decision: Decision
    comparable: bool

    @property
    def equal(self) -> bool:
        return self.decision == self.tick.decision

    @property
    def same_size(self) -> bool:
        return self.decision.target == self.tick.decision.target

    def differences(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield the fields that differ: name, recorded value, replayed value."""
        for field in dataclasses.fields(Decision):
            recorded, replayed = getattr(self.tick.decision, field.name), getattr(self.decision, field.name)
            if recorded != replayed:
                yield field.name, recorded, replayed


def replay(
    records: Iterable[Tick | InitialHistory],
    recorded: Mapping[str, Workload],
    override: Mapping[WorkloadName, Workload] | None = None,
) -> Iterator[ReplayedTick]:
    """Yield each tick decided again.

    The specification in `override` of its workload decides, if `override` is present.

    The history of a decision is rebuilt from the ticks and the starts among them: after a start it is shorter. With
    `override` it contains the replayed decisions. The observed sizes are always the recorded ones.
    """
    histories: dict[WorkloadName, ReplayedHistory] = {}
    for record in records:
        replayed = histories.setdefault(record.workload, ReplayedHistory())
        if isinstance(record, InitialHistory):
            replayed.start(record)
            continue
        workload = recorded.get(record.spec) if override is None else override.get(record.workload)
        if workload is None:
            continue
        history = replayed.history_before(record, workload.spec)
        decision = decide(workload.spec, history, _with_pools_of(workload.spec, record.observation))
        yield ReplayedTick(record, decision, override is not None or replayed.covers(record, workload.spec))
        replayed.append(record if override is None else dataclasses.replace(record, decision=decision))


def _with_pools_of(spec: WorkloadSpec, observation: Observation) -> Observation:
    """Return the observation with the pools of this specification.

    A pool that was not recorded is absent.
    """
    if observation.pools.keys() == spec.pools.keys():
        return observation
    pools = {name: observation.pools.get(name, Absent("not in the journal")) for name in spec.pools}
    return dataclasses.replace(observation, pools=pools)


@dataclass(slots=True)
class ReplayedHistory:
    """One workload's history during a replay, and the ticks that a later start may need.

    `complete` is True where the history equals that of the recorded run: it began with a recorded start, or empty.
    `pending_seeds` are seeds of added policies to apply before the next tick.
    """

    history: History | None = None
    complete: bool = False
    ticks: deque[Tick] = dataclasses.field(default_factory=deque)
    pending_seeds: InitialHistory | None = None

    def start(self, start: InitialHistory) -> None:
        """Rebuild the history of a recorded start, or keep it.

        If it stays, added policies are seeded before the next tick.
        """
        if start.keeps_ticks:
            self.pending_seeds = start
            return
        self.history, self.complete = start.history(tuple(self.ticks)), start.ticks <= len(self.ticks)

    def history_before(self, tick: Tick, spec: WorkloadSpec) -> History:
        """Return the history before a tick."""
        history = self.history
        if history is None or _is_new_run(history, tick):
            history = self.history = History(max(SPAN_S, spec.lookback_s), step_s=spec.interval_s)
            self.complete = True
        if tick.clock_step_s:
            history.shift(tick.clock_step_s)
        if self.pending_seeds is not None:
            self.pending_seeds.apply(history)
            self.pending_seeds = None
        history.span_s = max(history.span_s, spec.lookback_s)
        self.complete = self.complete and len(history) == tick.history_len
        return history

    def append(self, tick: Tick) -> None:
        """Add a tick to the history."""
        assert self.history is not None  # noqa: S101 - `history_before` set it
        self.history.append(tick)
        self.ticks.append(tick)
        while len(self.ticks) > MAX_ROWS or self.ticks[0].at < tick.at - self.history.span_s:
            self.ticks.popleft()

    def covers(self, tick: Tick, spec: WorkloadSpec) -> bool:
        """Return whether the history contains everything that the tick's decision used.

        An incomplete history does not cover a decision with a forecast, which uses rows older than any window.
        """
        if self.complete or self.history is None:
            return self.complete
        if any(r.work is not None for r in tick.decision.recommendations):
            return False
        times_s = self.history.column(AT)
        return len(times_s) >= tick.history_len or (times_s.size > 0 and float(times_s[0]) <= tick.at - spec.lookback_s)


def _is_new_run(history: History, tick: Tick) -> bool:
    """Return whether the tick belongs to a run whose start is not recorded.

    The signs are an empty history, or an earlier clock.
    """
    return is_set_back(history, tick) or (tick.history_len == 0 and len(history) > 0)
