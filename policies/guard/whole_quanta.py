"""Whole quanta after every cut: no part of a quantum is added or removed.

Growth is cut to a multiple, and never below the current size; a removal that is cut removes fewer. Where the total then
exceeds the maximum, the rules on bounds and budgets cut growth elsewhere in the next round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.allocate import quantum
from policies.model import RuleId, Step
from policies.signals.demand import replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import PoolName
    from policies.recommend.context import RuleContext


def keep_whole_quanta(targets: Mapping[PoolName, int], context: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Return the targets in whole quanta: by 4, 8 -> 5 becomes 8, and 4 -> 10 becomes 8."""
    pools, desired = context.spec.pools, context.desired
    if quantum.largest(pools.values()) == 1:
        return None
    allowed = {
        name: min(quantum.round_up(size, pools[name].quantum), desired[name])
        if size < desired[name]
        else quantum.fit(size, desired[name], size, pools[name].quantum)
        for name, size in targets.items()
    }
    if allowed == targets:
        return None
    changed = ", ".join(f"{n} {allowed[n]} instead of {size}" for n, size in targets.items() if allowed[n] != size)
    return allowed, Step(
        RuleId.QUANTUM,
        replica_equivalents(context.spec, {**desired, **allowed}),
        f"pools change in whole quanta: {changed}",
    )
