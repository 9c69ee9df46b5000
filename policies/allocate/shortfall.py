"""What may be missing: expected shortfall of a fleet whose spot pools lose replicas, or never get them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.allocate.candidates import PoolCandidate

MAX_RISKY: Final = 6
"""Pools whose fates are combined exactly (3 to the 6th outcomes); of others, expected losses are taken off."""
TOGETHER: Final = 0.3
"""How far zones that have none have none together: correlations of availability between zones are 0.22 (9 zones of AWS
V100 spot) and 0.37 (6 zones of GCP A100 spot). So asking everywhere at once is no surety."""
Outcome = tuple[float, float]
"""Work lost, and with which probability."""


def shortfall(rungs: Sequence[PoolCandidate], fleet: Sequence[int], work: float) -> float:
    """Expected replicas' worth below `work`: the area below the quantiles of survivors.

    Pools lose independently. What is pending fails to come independently, or, by TOGETHER, everywhere or nowhere.
    """
    supply = sum(n * r.work for r, n in zip(rungs, fleet, strict=True))
    risky = [(r, n) for r, n in zip(rungs, fleet, strict=True) if n and r.interruptible]
    if supply - sum(n * r.work for r, n in risky) >= work:
        return 0.0
    late = sum(max(0, n - r.ready) * r.work for r, n in risky)
    apart = _missing([outcomes(r, n, 1.0 - r.grant_probability) for r, n in risky], work - supply)
    if not late:
        return apart
    doubt = max(1.0 - r.grant_probability for r, n in risky if n > r.ready)
    if not doubt:
        return apart
    lost = [outcomes(r, n, 0.0) for r, n in risky]
    nowhere = _missing([outcomes(r, min(n, r.ready), 0.0) for r, n in risky], work - supply + late)
    together = doubt * nowhere + (1.0 - doubt) * _missing(lost, work - supply)
    return TOGETHER * together + (1.0 - TOGETHER) * apart


def outcomes(rung: PoolCandidate, replicas: int, doubt: float) -> tuple[Outcome, ...]:
    """Return what may become of `replicas` of a pool's supply until something else could serve in their place.

    Either nothing; or a loss takes a share of them; or, with the probability `doubt`, what is pending does not come.
    """
    pending = max(0, replicas - rung.ready)
    taken = math.ceil(rung.interrupted_share * replicas - 1e-9) * rung.work
    if not pending or not doubt:
        return (0.0, 1.0 - rung.loss_probability), (taken, rung.loss_probability)
    fails = doubt * (1.0 - rung.loss_probability)
    return (0.0, 1.0 - rung.loss_probability - fails), (taken, rung.loss_probability), (pending * rung.work, fails)


def _missing(risky: list[tuple[Outcome, ...]], short: float) -> float:
    """Expected work missing when `short` is missing before any loss (below zero: spare)."""
    if len(risky) > MAX_RISKY:
        risky = sorted(risky, key=lambda o: -max(lost * p for lost, p in o))
        short += sum(lost * p for o in risky[MAX_RISKY:] for lost, p in o)
        risky = risky[:MAX_RISKY]
    fates: list[Outcome] = [(0.0, 1.0)]
    for possible in risky:
        fates = [(lost + more, p * q) for lost, p in fates for more, q in possible]
    return sum(p * (short + lost) for lost, p in fates if short + lost > 0)
