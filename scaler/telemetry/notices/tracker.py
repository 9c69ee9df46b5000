"""Decides when to send a notice: at the start and the end of a condition, and between.

The decisions depend on ticks alone. A restart therefore repeats none: the recorded ticks bring the tracker into the
state that it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from policies.model import Tick, WorkloadName
from policies.model.error_budget import MINUTE_S
from policies.model.spec import WorkloadSpec
from scaler.config.notices import NoticeEvent
from scaler.telemetry.notices.conditions import Finding, NotFound, NoticeTopic, State, states

AFTER_S: Final[Mapping[NoticeEvent, float]] = {"reads": 2 * MINUTE_S, "budget": 5 * MINUTE_S}
"""Time that a condition must hold before its first notice. The others are sent at once. Seconds."""
CLEAR_S: Final[Mapping[NoticeEvent, float]] = {
    "slo": 5 * MINUTE_S,
    "reads": 2 * MINUTE_S,
    "capacity": 10 * MINUTE_S,
    "budget": 10 * MINUTE_S,
    "override": 0.0,
}
"""Time that a condition must not hold before it ends, so that one which comes and goes is one. Seconds."""


class Occasion(Enum):
    """Why a notice is sent."""

    START = "start"
    REPEAT = "repeat"
    END = "end"


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice to people. `at` and `since` are Unix times."""

    condition: NoticeTopic
    occasion: Occasion
    finding: Finding
    at: float
    since: float


@dataclass(slots=True)
class Tracked:
    """A condition that holds, and its last notice. Unix times; None before it."""

    since: float
    finding: Finding
    clear_since: float | None = None
    sent_at: float | None = None
    sent: Finding | None = None


class Tracker:
    """The conditions of all workloads. A condition is repeated every `repeat_s` seconds."""

    def __init__(self, repeat_s: float) -> None:
        self._repeat_s = repeat_s
        self._tracked: dict[WorkloadName, dict[NoticeTopic, Tracked]] = {}

    def observe(self, tick: Tick, spec: WorkloadSpec) -> list[Notice]:
        """Return the notices that a tick causes."""
        tracked, current = self._tracked.setdefault(tick.workload, {}), states(tick, spec)
        if tick.clock_step_s:
            for condition in tracked.values():
                _shift(condition, tick.clock_step_s)
        for removed in tracked.keys() - current.keys():
            del tracked[removed]
        notices = (self._advance(tracked, condition, state, tick.at) for condition, state in current.items())
        return [notice for notice in notices if notice is not None]

    def forget(self, workload: WorkloadName) -> None:
        """Drop the conditions of a workload."""
        self._tracked.pop(workload, None)

    def _advance(
        self, all_tracked: dict[NoticeTopic, Tracked], condition: NoticeTopic, state: State, now: float
    ) -> Notice | None:
        tracked = all_tracked.get(condition)
        if isinstance(state, Finding):
            if tracked is None:
                tracked = all_tracked[condition] = Tracked(now if state.since is None else state.since, state)
            tracked.finding, tracked.clear_since = state, None
            occasion = self._occasion(tracked, now - AFTER_S.get(condition.event, 0.0), now)
        elif tracked is None or state is NotFound.UNKNOWN:
            return None
        else:
            if tracked.clear_since is None:
                tracked.clear_since = now
            if now - tracked.clear_since < CLEAR_S[condition.event]:
                return None
            del all_tracked[condition]
            occasion = Occasion.END if tracked.sent_at is not None else None
        if occasion is None:
            return None
        tracked.sent_at, tracked.sent = now, tracked.finding
        return Notice(condition, occasion, tracked.finding, now, tracked.since)

    def _occasion(self, tracked: Tracked, latest_start: float, now: float) -> Occasion | None:
        """Return why a condition that holds is sent now; None where it is not."""
        if tracked.sent_at is None or tracked.sent is None:
            return Occasion.START if tracked.since <= latest_start else None
        if tracked.finding.is_grave and not tracked.sent.is_grave:
            return Occasion.START
        return Occasion.REPEAT if now - tracked.sent_at >= self._repeat_s else None


def _shift(tracked: Tracked, step_s: float) -> None:
    """Apply a jump of the wall clock."""
    tracked.since += step_s
    if tracked.clear_since is not None:
        tracked.clear_since += step_s
    if tracked.sent_at is not None:
        tracked.sent_at += step_s
