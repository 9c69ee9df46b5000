"""Decide again from recorded observations, with the recorded specification or another one."""

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
"""What a daemon remembers by default, for runs whose start is not recorded."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One recorded turn and what was decided anew. `comparable` is False where the past before it is not recorded."""

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
        """Yield the fields that differ: name, recorded, anew."""
        for field in dataclasses.fields(Decision):
            recorded, anew = getattr(self.tick.decision, field.name), getattr(self.decision, field.name)
            if recorded != anew:
                yield field.name, recorded, anew


def replay(
    records: Iterable[Tick | InitialHistory],
    recorded: Mapping[str, Workload],
    other: Mapping[WorkloadName, Workload] | None = None,
) -> Iterator[Compared]:
    """Yield each tick decided again, by `other`'s specification of its workload where one is given.

    The past that a decision looks back on is built from the ticks themselves, and from the starts among them, as it
    was: a daemon that starts anew remembers less. With another specification it is the past as that one would have
    decided it; the sizes observed stay the recorded ones.
    """
    lives: dict[WorkloadName, Life] = {}
    for record in records:
        life = lives.setdefault(record.workload, Life())
        if isinstance(record, InitialHistory):
            life.begin(record)
            continue
        workload = recorded.get(record.spec) if other is None else other.get(record.workload)
        if workload is None:
            continue
        history = life.before(record, workload.spec)
        decision = decide(workload.spec, history, _with_pools_of(workload.spec, record.observation))
        yield Compared(record, decision, other is not None or life.knows(record, workload.spec))
        life.append(record if other is None else dataclasses.replace(record, decision=decision))


def _with_pools_of(spec: WorkloadSpec, seen: Observation) -> Observation:
    """Return the observation with the pools of this specification; one that was not recorded is absent."""
    if seen.pools.keys() == spec.pools.keys():
        return seen
    pools = {name: seen.pools.get(name, Absent("not in the record")) for name in spec.pools}
    return dataclasses.replace(seen, pools=pools)


@dataclass(slots=True)
class Life:
    """One workload's past while its record is gone through: its history, and the ticks that a next start may need.

    `whole` tells whether the history is the one that was: it began with a recorded start, or with nothing.
    """

    history: History | None = None
    whole: bool = False
    ticks: deque[Tick] = dataclasses.field(default_factory=deque)
    given: InitialHistory | None = None

    def begin(self, past: InitialHistory) -> None:
        """Begin as a daemon that started there, from the last ticks that it took over.

        Or as one that went on with added policies, which have their past from the next tick on.
        """
        if past.keeps_ticks:
            self.given = past
            return
        self.history, self.whole = past.history(tuple(self.ticks)), past.ticks <= len(self.ticks)

    def before(self, tick: Tick, spec: WorkloadSpec) -> History:
        """Return the history before a tick."""
        history = self.history
        if history is None or _began_anew(history, tick):
            history = self.history = History(max(SPAN_S, spec.lookback_s), step_s=spec.interval_s)
            self.whole = True
        if tick.clock_step_s:
            history.shift(tick.clock_step_s)
        if self.given is not None:
            self.given.apply(history)
            self.given = None
        history.span_s = max(history.span_s, spec.lookback_s)
        self.whole = self.whole and len(history) == tick.history_len
        return history

    def append(self, tick: Tick) -> None:
        """After a tick."""
        assert self.history is not None  # noqa: S101 - `before` made it
        self.history.append(tick)
        self.ticks.append(tick)
        while len(self.ticks) > MAX_ROWS or self.ticks[0].at < tick.at - self.history.span_s:
            self.ticks.popleft()

    def knows(self, tick: Tick, spec: WorkloadSpec) -> bool:
        """Return whether the history holds all that the decision could have looked back on.

        A policy's forecast goes back beyond any window.
        """
        if self.whole or self.history is None:
            return self.whole
        if any(r.work is not None for r in tick.decision.recommendations):
            return False
        at = self.history.column(AT)
        return len(at) >= tick.history_len or (at.size > 0 and float(at[0]) <= tick.at - spec.lookback_s)


def _began_anew(history: History, tick: Tick) -> bool:
    """Return whether the tick belongs to a run whose start is not recorded.

    Nothing was remembered, or its clock started earlier.
    """
    return is_set_back(history, tick) or (tick.history_len == 0 and len(history) > 0)
