"""What may be missing: expected shortfall of a fleet whose spot pools lose replicas, or never get them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.allocate.rungs import Rung

MAX_RISKY: Final = 6
"""Pools whose fates are combined exactly (3 to the 6th outcomes); of others, expected losses are taken off."""
Outcome = tuple[float, float]
"""Work lost, and with which probability."""


def outcomes(rung: Rung, replicas: int) -> tuple[Outcome, ...]:
    """What may become of `replicas` of a pool's supply until something else could serve in their place.

    Either nothing; or a loss takes a share of them; or what has been asked for does not come.
    """
    late = max(0, replicas - rung.ready)
    taken = math.ceil(rung.share * replicas - 1e-9)
    doubt = (1.0 - rung.belief) * (1.0 - rung.chance) if late else 0.0
    found = [(0.0, 1.0 - rung.chance - doubt), (taken * rung.work, rung.chance)]
    return (*found, (late * rung.work, doubt)) if doubt else tuple(found)


def shortfall(rungs: Sequence[Rung], fleet: Sequence[int], work: float) -> float:
    """Expected replicas' worth below `work`, pools losing independently: the area below the quantiles of survivors."""
    supply = sum(n * r.work for r, n in zip(rungs, fleet, strict=True))
    risky = [outcomes(r, n) for r, n in zip(rungs, fleet, strict=True) if n and r.takes]
    if supply - sum(max(lost for lost, _ in o) for o in risky) >= work:
        return 0.0
    if len(risky) > MAX_RISKY:
        risky.sort(key=lambda o: -max(lost * p for lost, p in o))
        supply -= sum(lost * p for o in risky[MAX_RISKY:] for lost, p in o)
        risky = risky[:MAX_RISKY]
    fates: list[Outcome] = [(0.0, 1.0)]
    for possible in risky:
        fates = [(lost + more, p * q) for lost, p in fates for more, q in possible]
    short = work - supply
    return sum(p * (short + lost) for lost, p in fates if short + lost > 0)
