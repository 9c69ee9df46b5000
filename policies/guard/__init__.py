"""The last word: what no policy may do, whatever it wants. Every rule gives a `Step` that says why.

`CAPS` cut the need before anything settles it, `GUARD` stands after every policy, the field's own included, and
`LAST` looks at each pool's target after the allocation: nothing comes after it.

A rule of `LAST` only moves a pool's target towards the size held, never past it, and returns None where its own limit
holds. One may undo what another relied on (a removal that is given back leaves growth elsewhere without its room), so
they run until a whole round changes nothing. All of them hold then, in whatever order they stand; and each change makes
the sum of ``|target - held|`` a whole number smaller, so that this ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.guard.blast_radius import limit_blast_radius
from policies.guard.bounds import (
    bound,
    keep_blind_pools,
    keep_full_pools,
    keep_unreplaced,
    never_shrink_blind,
    unmanaged_pools,
    with_override_bounds,
    within,
    within_bounds,
)
from policies.guard.budget import cap_need, cap_targets
from policies.guard.manual_override import maintain, maintain_pools, override, pause
from policies.guard.slo_feasibility import limit_latency_growth
from policies.guard.whole_quanta import keep_whole_quanta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from policies.model import PoolName, Step
    from policies.recommend.context import RuleContext

    LastRule = Callable[[Mapping[PoolName, int], RuleContext], tuple[dict[PoolName, int], Step] | None]

__all__ = [
    "CAPS",
    "GUARD",
    "LAST",
    "last_word",
    "never_shrink_blind",
    "unmanaged_pools",
    "with_override_bounds",
    "within",
]

CAPS: tuple[Callable[[int, RuleContext], Step | None], ...] = (limit_latency_growth, cap_need)
GUARD: tuple[Callable[[int, RuleContext], Step | None], ...] = (never_shrink_blind, override, bound, maintain, pause)
LAST: tuple[LastRule, ...] = (
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


def last_word(
    targets: dict[PoolName, int], s: RuleContext, rules: Sequence[LastRule] = LAST
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
