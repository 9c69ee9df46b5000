"""Reasons of the recorded sizes: the deciding rules, and the largest changes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from policies.model import Decision, RuleId

MAX_CHANGES: Final = 20
"""The number of largest changes to keep."""
SHARING_RULES: Final = {RuleId.COST_ALLOCATION, RuleId.MAKE_BEFORE_BREAK, RuleId.HEADROOM, RuleId.ABANDONED}
"""Rules that divide a size among pools."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A change of the size by `replicas`, with its reason."""

    replicas: int
    at: float
    before: int
    after: int
    reason: str


@dataclass(slots=True)
class RuleUse:
    """The ticks and changes that a rule decided, and its last reason and time."""

    ticks: int = 0
    changes: int = 0
    at: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Reasons:
    """The reasons of all ticks of a workload. `ups` and `downs` count the changes."""

    rules: dict[str, RuleUse] = field(default_factory=dict)
    ups: int = 0
    downs: int = 0
    _largest: list[Change] = field(default_factory=list)

    @property
    def largest(self) -> list[Change]:
        """The largest changes, oldest first."""
        return sorted(self._largest, key=lambda change: change.at)

    def record(self, decision: Decision) -> None:
        """Record a tick's decision."""
        name, reason = deciding_rule(decision)
        rule = self.rules.setdefault(name, RuleUse())
        rule.ticks, rule.at, rule.reason = rule.ticks + 1, decision.at, reason
        if decision.target is None or decision.current is None or decision.target == decision.current:
            return
        rule.changes += 1
        self.ups += decision.target > decision.current
        self.downs += decision.target < decision.current
        replicas = abs(decision.target - decision.current)
        heapq.heappush(self._largest, Change(replicas, decision.at, decision.current, decision.target, reason))
        if len(self._largest) > MAX_CHANGES:
            heapq.heappop(self._largest)


def deciding_rule(decision: Decision) -> tuple[str, str]:
    """Return the last rule that set the size, and its reason.

    Rules that divide it among pools do not count.

    Steps ``demand 4``, ``step 3`` and ``cost allocation 3`` give ``step``.
    """
    steps = [step for step in decision.steps if step.rule not in SHARING_RULES] or list(decision.steps)
    return (steps[-1].rule, steps[-1].reason) if steps else ("none", decision.reason)


def override_change(decision: Decision) -> float:
    """Return the number of replicas by which a manual override moved the size; 0 if none.

    The move is measured from the result of the rules before the override. With 4 replicas of demand an override to 9
    moves 5.
    """
    previous: float | None = None
    for k, step in enumerate(decision.steps):
        if step.rule == RuleId.OVERRIDE and step.replicas is not None and previous is not None:
            final = next((s.replicas for s in decision.steps[k:] if s.rule == RuleId.EVIDENCE), None)
            return abs((step.replicas if final is None else final) - previous)
        previous = step.replicas if step.replicas is not None else previous
    return 0.0
