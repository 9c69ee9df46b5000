"""A zone of a pool: its capacity, its nodes, and the choice of nodes to interrupt.

The cloud interrupts the chosen nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal

from simulators.world.infrastructure.supply import Supply
from simulators.world.rng import stream

UNLIMITED: Final = 10**9


@dataclass(slots=True)
class Zone:
    """One zone. `nodes` are the numbers of the nodes that hold capacity, in order of launch.

    `next_change` is (time, limit) of its next change of capacity. `reclaims` counts the choices of nodes so far.
    """

    name: str
    supply: Supply
    limit: int | None = None
    next_change: tuple[int, int | None] | None = None
    nodes: dict[int, None] = field(default_factory=dict)
    pending_interruptions: dict[int, None] = field(default_factory=dict)
    reclaims: int = 0

    def release(self, number: int) -> None:
        """Release the capacity that a node held."""
        self.nodes.pop(number, None)
        self.pending_interruptions.pop(number, None)

    def excess(self, limit: int | None) -> int:
        """Return the number of nodes above a limit, without those that have an interruption pending."""
        return 0 if limit is None else max(0, len(self.nodes) - len(self.pending_interruptions) - limit)

    @property
    def free(self) -> int:
        """Number of nodes that the zone still offers."""
        return UNLIMITED if self.limit is None else max(0, self.limit - len(self.nodes))


def choose(zones: Sequence[Zone], placement: Literal["balanced", "ordered"]) -> int | None:
    """Return the zone for a new node; None if all are full.

    Among equals, the first in the offer's order.
    """
    available = [i for i, zone in enumerate(zones) if zone.free > 0]
    if not available:
        return None
    return available[0] if placement == "ordered" else min(available, key=lambda i: len(zones[i].nodes))


def choose_interrupted(zone: Zone, count: int, how: Literal["random", "newest"], seed: int, pool: str) -> list[int]:
    """Return the `count` nodes that the cloud interrupts next.

    They are chosen among those without an interruption pending.
    """
    zone.reclaims += 1
    if how == "newest":
        return list(islice((n for n in reversed(zone.nodes) if n not in zone.pending_interruptions), count))
    candidates = [n for n in zone.nodes if n not in zone.pending_interruptions]
    rng = stream(seed, "reclaim", f"{pool}/{zone.name}", zone.reclaims)
    return [candidates[i] for i in rng.permutation(len(candidates))[:count].tolist()]
