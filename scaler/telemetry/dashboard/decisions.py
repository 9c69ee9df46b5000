"""Stores the decisions that the dashboard shows.

It renders them by the sections of `explain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from policies.model import Evidence, Tick
from scaler.journal.explain import paragraphs, verdict

MAX_RUNS: Final = 50
"""Maximum number of decisions stored per workload: an hour of a busy one."""


@dataclass(slots=True)
class DecisionRun:
    """Consecutive ticks with the same decision, represented by the last one."""

    kind: str
    key: tuple[object, ...]
    since: float
    times: int
    tick: Tick

    @property
    def until(self) -> float:
        return self.tick.at


class Decisions:
    """The last decisions of one workload, and the last tick.

    The decisions changed, refused or held a size.
    """

    __slots__ = ("_open", "last", "runs")

    def __init__(self) -> None:
        self.runs: list[DecisionRun] = []
        self.last: Tick | None = None
        self._open = False

    def add(self, tick: Tick, limit: int) -> None:
        self.last = tick
        tick_kind, newest = kind(tick), self.runs[-1] if self.runs else None
        if tick_kind == "quiet":
            self._open = newest is not None and newest.kind == "held"  # demand may vary around a held size
            return
        d = tick.decision
        key = (tick_kind, d.current, d.target, *(o.result for o in tick.outcomes))
        if newest is not None and self._open and newest.key == key:
            newest.times, newest.tick = newest.times + 1, tick
        else:
            self.runs.append(DecisionRun(tick_kind, key, tick.at, 1, tick))
            del self.runs[:-limit]
        self._open = True

    def read(self, since: float | None) -> list[dict[str, Any]]:
        """Return the runs that ended after `since`, newest first."""
        runs = [r for r in reversed(self.runs) if since is None or r.until > since]
        return [
            {"since": r.since, "until": r.until, "times": r.times, "kind": r.kind, **decision_text(r.tick)}
            for r in runs
        ]


def kind(tick: Tick) -> str:
    """Return the kind of a tick, the most severe that applies."""
    d = tick.decision
    if any(o.result.refused for o in tick.outcomes):
        return "refused"
    if d.target is not None and d.current != d.target:
        return "changed"
    if d.target is None or not d.may_scale_in:
        return "blind"
    return "held" if d.capped_need is not None and d.capped_need != d.target else "quiet"


def direction(tick: Tick) -> int:
    """Return 1 for a decided scale-out, -1 for a scale-in, and 0 for neither."""
    d = tick.decision
    if d.target is None or d.current is None:
        return 0
    return (d.target > d.current) - (d.target < d.current)


def problem(tick: Tick) -> str:
    """Return the refused writes, or else the policies that lack evidence, in one clause.

    It is empty if there are none.
    """
    refused = [o for o in tick.outcomes if o.result.refused]
    if refused:
        return "; ".join(
            f"{o.pool}: {o.result.value.replace('_', ' ')}{': ' if o.reason else ''}{o.reason}" for o in refused
        )
    return "; ".join(
        f"{r.policy}: {r.reason}" for r in tick.decision.recommendations if r.evidence is not Evidence.FULL
    )


def decision_text(tick: Tick) -> dict[str, Any]:
    """Return the verdict, the problem, and the explanation by section."""
    sections: list[dict[str, Any]] = []
    for line in list(paragraphs(tick))[1:]:
        if line.startswith("    ") and sections:
            sections[-1]["lines"].append(line.strip())
        else:
            sections.append({"title": line.strip().rstrip(":"), "lines": []})
    return {"verdict": verdict(tick), "direction": direction(tick), "problem": problem(tick), "sections": sections}
