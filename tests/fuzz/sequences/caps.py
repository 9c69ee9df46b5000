"""Caps that hold together whatever order the rules run in: the maximum, and the blast radius."""

from __future__ import annotations

import math
from typing import Final

from tests.fuzz.sequences.judged import Judged
from tests.fuzz.worlds.manual_override import held, removed_in_window

NOISE: Final = 1e-9


def sum_within_maximum(judged: Judged) -> str | None:
    """The serving pools together have no more than max_replicas, or than they had."""
    most = max(judged.turn.spec.max_replicas, judged.before)
    if judged.after > most:
        changes = ", ".join(f"{name} {found} -> {target}" for name, found, target in judged.turn.changes)
        return f"{judged.before} -> {judged.after} of {judged.turn.spec.max_replicas}: {changes}"
    return None


def within_blast_radius(judged: Judged) -> str | None:
    """In the window no more than the share of the largest size is removed; where that is less, one quantum of one pool.

    What other writers removed counts. A radius of 25 % of 8 replicas lets 2 go in its window, whatever the quanta of
    pools that do not shrink.
    """
    turn = judged.turn
    radius, now = turn.spec.blast_radius, held(turn.tick)
    if radius.share == 1.0 or now is None:
        return None
    shrinking = [(name, found - target) for name, found, target in turn.changes if target < found]
    removal = sum(count for _, count in shrinking)
    removed, largest = removed_in_window(turn, now)
    allowed = math.floor(radius.share * largest + NOISE)
    one = len(shrinking) == 1 and removed + removal <= turn.spec.pools[shrinking[0][0]].quantum
    if removal > max(0, allowed - removed) and not one:
        return f"{removal} of {now} are removed, {removed} of {largest} went before, and {allowed} may go"
    return None
