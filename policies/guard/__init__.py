"""The last word: what no policy may do, whatever it wants. Every rule gives a `Step` that says why.

`CAPS` cut the need before anything settles it, `GUARD` stands after every policy, the field's own included, and
`LAST` looks at each pool's target after the allocation: nothing comes after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.guard.blast import contain
from policies.guard.bounds import bound, never_shrink_blind, none_blind, untouchable, widened, within
from policies.guard.hands import maintain, maintain_pools, override, pause
from policies.guard.late import spare_late
from policies.guard.money import afford, ration
from policies.guard.whole import in_quanta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from policies.model import PoolName, Step
    from policies.view import Situation

__all__ = ["CAPS", "GUARD", "LAST", "last_word", "never_shrink_blind", "untouchable", "widened", "within"]

CAPS: tuple[Callable[[int, Situation], Step | None], ...] = (spare_late, ration)
GUARD: tuple[Callable[[int, Situation], Step | None], ...] = (never_shrink_blind, override, bound, maintain, pause)
LAST: tuple[Callable[[Mapping[PoolName, int], Situation], tuple[dict[PoolName, int], Step] | None], ...] = (
    none_blind,
    maintain_pools,
    contain,
    in_quanta,
    afford,
    in_quanta,
)
"""Removals are given back before growth is cut, so that what is kept is paid for; in whole quanta after both."""


def last_word(targets: dict[PoolName, int], s: Situation) -> tuple[tuple[Step, ...], dict[PoolName, int]]:
    """The targets as they may be written, and the rules that had an effect on them."""
    steps: list[Step] = []
    for rule in LAST:
        changed = rule(targets, s)
        if changed is not None:
            targets, step = changed
            steps.append(step)
    return tuple(steps), targets
