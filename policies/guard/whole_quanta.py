"""Whole quanta, kept through every cut: a part of a quantum neither comes nor goes.

A cut growth is cut to a multiple, and never below what is held; of a removal that is cut, less goes. Where that keeps
more than may run, the rules on bounds and budgets cut growth elsewhere in the next round.
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


def keep_whole_quanta(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """The targets in whole quanta."""
    pools, held = s.spec.pools, s.desired
    if quantum.largest(pools.values()) == 1:
        return None
    kept = {
        name: min(quantum.round_up(size, pools[name].quantum), held[name])
        if size < held[name]
        else quantum.fit(size, held[name], size, pools[name].quantum)
        for name, size in targets.items()
    }
    if kept == targets:
        return None
    changed = ", ".join(f"{n} {kept[n]} in the place of {size}" for n, size in targets.items() if kept[n] != size)
    return kept, Step(
        RuleId.QUANTUM, replica_equivalents(s.spec, {**held, **kept}), f"replicas come and go by the quantum: {changed}"
    )
