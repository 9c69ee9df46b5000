"""A zone as a pool meets it: what it offers now, which nodes are there, and which of them the cloud takes."""

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
    """One zone.

    `nodes` are the numbers of the nodes that hold capacity, in the order they came; those in `doomed` have an
    interruption pending. `coming` is the next change of its limit, and when.
    """

    name: str
    supply: Supply
    limit: int | None = None
    coming: tuple[int, int | None] | None = None
    nodes: dict[int, None] = field(default_factory=dict)
    doomed: dict[int, None] = field(default_factory=dict)
    falls: int = 0

    def release(self, number: int) -> None:
        """Release the capacity that a node held."""
        self.nodes.pop(number, None)
        self.doomed.pop(number, None)

    def excess(self, limit: int | None) -> int:
        """Nodes beyond a limit that are not doomed yet."""
        return 0 if limit is None else max(0, len(self.nodes) - len(self.doomed) - limit)

    @property
    def room(self) -> int:
        """Nodes that may still be had."""
        return UNLIMITED if self.limit is None else max(0, self.limit - len(self.nodes))


def choose(zones: Sequence[Zone], placement: Literal["balanced", "ordered"]) -> int | None:
    """Return the zone for a new node, None if none has room; among equals the first in the offer's order."""
    open_ = [i for i, zone in enumerate(zones) if zone.room > 0]
    if not open_:
        return None
    return open_[0] if placement == "ordered" else min(open_, key=lambda i: len(zones[i].nodes))


def taken(zone: Zone, count: int, how: Literal["random", "newest"], seed: int, pool: str) -> list[int]:
    """Return the `count` nodes that the cloud takes from a zone, besides those that are doomed already."""
    zone.falls += 1
    if how == "newest":
        return list(islice((n for n in reversed(zone.nodes) if n not in zone.doomed), count))
    candidates = [n for n in zone.nodes if n not in zone.doomed]
    rng = stream(seed, "reclaim", f"{pool}/{zone.name}", zone.falls)
    return [candidates[i] for i in rng.permutation(len(candidates))[:count].tolist()]
