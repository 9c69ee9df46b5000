"""Caps on the sum of the pools: the maximum, and the blast radius."""

from __future__ import annotations

import math
from typing import Final

from tests.fuzz.sequences.judged import Judged
from tests.fuzz.worlds.manual_override import observed_size, removed_in_window

NOISE: Final = 1e-9


def sum_within_maximum(judged: Judged) -> str | None:
    """The serving pools together have at most max_replicas, or their observed sum."""
    maximum = max(judged.context.spec.max_replicas, judged.before)
    if judged.after > maximum:
        changes = ", ".join(f"{name} {size} -> {target}" for name, size, target in judged.context.changes)
        return f"{judged.before} -> {judged.after} of {judged.context.spec.max_replicas}: {changes}"
    return None


def within_blast_radius(judged: Judged) -> str | None:
    """Within the window at most the share of the largest size is removed, or one quantum of one pool if that is more.

    Removals by other writers count. A radius of 25 % of 8 replicas allows 2 removals in its window; quanta of pools
    that do not shrink have no effect.
    """
    context = judged.context
    radius, now = context.spec.blast_radius, observed_size(context.tick)
    if radius.share == 1.0 or now is None:
        return None
    shrinking = [(name, size - target) for name, size, target in context.changes if target < size]
    removal = sum(count for _, count in shrinking)
    removed, largest = removed_in_window(context, now)
    allowed = math.floor(radius.share * largest + NOISE)
    is_one_quantum = len(shrinking) == 1 and removed + removal <= context.spec.pools[shrinking[0][0]].quantum
    if removal > max(0, allowed - removed) and not is_one_quantum:
        return f"{removal} of {now} are removed, {removed} of {largest} went before, and {allowed} may go"
    return None
