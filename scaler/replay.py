"""Decide again from recorded observations, with the recorded specification or another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policies.history import AT, History
from policies.model import Decision, Tick, WorkloadName
from policies.pipeline import decide
from policies.spec import WorkloadSpec
from scaler.config.load import Workload


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
        """The fields that differ: name, recorded, anew."""
        for field in dataclasses.fields(Decision):
            recorded, anew = getattr(self.tick.decision, field.name), getattr(self.decision, field.name)
            if recorded != anew:
                yield field.name, recorded, anew


def replay(
    ticks: Iterable[Tick], recorded: Mapping[str, Workload], other: Mapping[WorkloadName, Workload] | None = None
) -> Iterator[Compared]:
    """Each tick decided again, by `other`'s specification of its workload where one is given.

    The past that a decision looks back on is built from the ticks themselves. With another specification it is the
    past as that one would have decided it; the sizes observed stay the recorded ones.
    """
    histories: dict[WorkloadName, History] = {}
    for tick in ticks:
        workload = recorded.get(tick.spec) if other is None else other.get(tick.workload)
        if workload is None:
            continue
        history = histories.get(tick.workload)
        if history is None or _began_anew(history, tick):
            history = histories[tick.workload] = History(max(3600.0, workload.spec.lookback_s))
        if tick.clock_step_s:
            history.shift(tick.clock_step_s)
        decision = decide(workload.spec, history, tick.observation)
        yield Compared(tick, decision, other is not None or _covers(history, tick, workload.spec))
        history.append(tick if other is None else dataclasses.replace(tick, decision=decision))


def _began_anew(history: History, tick: Tick) -> bool:
    """Whether the tick belongs to another run: nothing was remembered, or its clock started earlier."""
    at = history.column(AT)
    return tick.history_len == 0 or (at.size > 0 and tick.at <= at[-1] + tick.clock_step_s)


def _covers(history: History, tick: Tick, spec: WorkloadSpec) -> bool:
    """Whether the rebuilt past holds all that the decision could have looked back on."""
    at = history.column(AT)
    return len(history) >= tick.history_len or (at.size > 0 and float(at[0]) <= tick.at - spec.lookback_s)
