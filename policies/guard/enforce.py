"""The guard after stabilization: limits on the size, and limits on each pool's target, after which nothing comes.

A limit on targets only moves a pool's target towards the size held, never past it, and returns None where it holds. One
may undo what another relied on (a removal that is given back leaves growth elsewhere without its room), so they run
until a whole round changes nothing. All of them hold then, in whatever order they stand; and each change makes the sum
of ``|target - held|`` a whole number smaller, so that this ends.

Example: a holds 2 and is to go to 1, b holds 1 and is to go to 2, and the maximum is 3. Where maintenance forbids to
scale in, a keeps 2; the bounds then cut b to 1, as 2 and 2 exceed 3; in the third round nothing changes.
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
"""Limits on the size, in this order: each takes the size so far. Evidence is checked after all that may lower it."""
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
"""Removals are given back before growth is cut, so that little is cut twice."""


def enforce_targets(
    targets: dict[PoolName, int], s: RuleContext, rules: Sequence[TargetRule] = TARGET_LIMITS
) -> tuple[tuple[Step, ...], dict[PoolName, int]]:
    """Return the rules that had an effect, and the targets as they may be written: all limits hold together."""
    steps: list[Step] = []
    changes = bool(targets)
    while changes:
        changes = False
        for rule in rules:
            changed = rule(targets, s)
            if changed is not None:
                changes = True
                targets, step = changed
                steps.append(step)
    return tuple(steps), targets
