"""Why sizes were what they were: the rules that had the last word, and the largest changes with their reasons."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from policies.model import Decision, RuleId

KEPT: Final = 20
"""Changes kept, the largest ones: more nobody reads in a table."""
SHARING: Final = {RuleId.COST_ALLOCATION, RuleId.MAKE_BEFORE_BREAK, RuleId.HEADROOM, RuleId.ABANDONED}
"""Rules that share a size out over pools."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A size that was changed, with the reason told for it."""

    by: int
    at: float
    before: int
    after: int
    reason: str


@dataclass(slots=True)
class RuleUse:
    """How often a rule had the last word, in how many changes, and what it said last."""

    turns: int = 0
    changes: int = 0
    at: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Reasons:
    """Of all turns of a workload. `ups` and `downs` count the changes."""

    rules: dict[str, RuleUse] = field(default_factory=dict)
    ups: int = 0
    downs: int = 0
    _largest: list[Change] = field(default_factory=list)

    @property
    def largest(self) -> list[Change]:
        """The largest changes, oldest first."""
        return sorted(self._largest, key=lambda change: change.at)

    def note(self, decision: Decision) -> None:
        """Record one more tick."""
        name, reason = last_word(decision)
        rule = self.rules.setdefault(name, RuleUse())
        rule.turns, rule.at, rule.reason = rule.turns + 1, decision.at, reason
        if decision.target is None or decision.current is None or decision.target == decision.current:
            return
        rule.changes += 1
        self.ups += decision.target > decision.current
        self.downs += decision.target < decision.current
        by = abs(decision.target - decision.current)
        heapq.heappush(self._largest, Change(by, decision.at, decision.current, decision.target, reason))
        if len(self._largest) > KEPT:
            heapq.heappop(self._largest)


def last_word(decision: Decision) -> tuple[str, str]:
    """Return the rule that made the size, and its reason. How a size is shared out over pools is no reason for it."""
    made = [step for step in decision.steps if step.rule not in SHARING] or list(decision.steps)
    return (made[-1].rule, made[-1].reason) if made else ("none", decision.reason)


def by_hand(decision: Decision) -> float:
    """By how many replicas an override moved the size that the rules before it had made; 0 where it moved none."""
    before: float | None = None
    for k, step in enumerate(decision.steps):
        if step.rule == RuleId.OVERRIDE and step.replicas is not None and before is not None:
            kept = next((s.replicas for s in decision.steps[k:] if s.rule == RuleId.EVIDENCE), None)
            return abs((step.replicas if kept is None else kept) - before)
        before = step.replicas if step.replicas is not None else before
    return 0.0
