"""The guard after stabilization: limits on the size, and then on each pool's target.

A limit on targets only moves a pool's target towards its current size, never past it, and returns None where it holds.
One limit may undo what another relied on (a cancelled removal uses up the maximum for growth elsewhere), so they run
until a whole round changes nothing. Then all of them hold, in whatever order they run. Each change makes the sum of
``|target - current|`` smaller by a whole number, so the rounds end.

Example: a goes from 2 to 1, b from 1 to 2, and the maximum is 3. Maintenance forbids to scale in, so a keeps 2; the
bounds then cut b to 1, as 2 and 2 exceed 3; the second round changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from policies.guard.blast_radius import limit_blast_radius
from policies.guard.bounds import (
    bound,
    keep_blind_pools,
    keep_blind_size,
    keep_full_pools,
    keep_unreplaced,
    within_bounds,
)
from policies.guard.budget import cap_targets
from policies.guard.manual_override import maintain, maintain_pools, override, pause
from policies.guard.whole_quanta import keep_whole_quanta
from policies.model import PoolName, Step
from policies.recommend.context import RuleContext

if TYPE_CHECKING:
    from policies.recommend.context import SizeRule

TargetRule = Callable[[Mapping[PoolName, int], RuleContext], tuple[dict[PoolName, int], Step] | None]

SIZE_LIMITS: Final[tuple[SizeRule, ...]] = (override, bound, keep_blind_size, maintain, pause)
"""Limits on the size, in this order; each takes the size so far. Evidence is checked after the rules that lower it."""
TARGET_LIMITS: Final[tuple[TargetRule, ...]] = (
    keep_blind_pools,
    keep_full_pools,
    maintain_pools,
    limit_blast_radius,
    keep_whole_quanta,
    within_bounds,
    cap_targets,
    keep_unreplaced,
)
"""Removals are cancelled before growth is cut, so that little is cut twice."""


def enforce_targets(
    targets: dict[PoolName, int], context: RuleContext, rules: Sequence[TargetRule] = TARGET_LIMITS
) -> tuple[tuple[Step, ...], dict[PoolName, int]]:
    """Return the steps that had an effect, and the targets for which all limits hold together."""
    steps: list[Step] = []
    changes = bool(targets)
    while changes:
        changes = False
        for rule in rules:
            changed = rule(targets, context)
            if changed is not None:
                changes = True
                targets, step = changed
                steps.append(step)
    return tuple(steps), targets
