"""Expected shortfall of a supply whose spot pools lose replicas or are refused.

Example: 4 spot replicas in one zone that loses all of them with a probability of 0.1 leave 0.4 of 4 replicas missing on
average. With one replica to spare (3 are needed) it is 0.3. Two independent zones of 2 are better then: one of them is
lost with a probability of 0.18 (1 missing), both with 0.01 (3 missing), which makes 0.21.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.allocate.candidates import PoolCandidate

MAX_EXACT_POOLS: Final = 6
"""Pools whose outcomes are combined exactly (3**6 = 729 combinations); of others the expected loss is subtracted."""
ZONE_CORRELATION: Final = 0.3
"""How often zones are without capacity together: correlations of availability between zones are 0.22 (9 zones of AWS
V100 spot) and 0.37 (6 zones of GCP A100 spot). So requests in several zones at once may all fail."""
Outcome = tuple[float, float]
"""Lost work in replica equivalents, and its probability."""


def shortfall(
    candidates: Sequence[PoolCandidate], supply: Sequence[int], work: float, *, refusals: bool = True
) -> float:
    """Return the expected missing replica equivalents, with the `supply` of each candidate.

    Losses of pools are independent. Pending replicas fail to arrive either independently or, with the weight
    `ZONE_CORRELATION`, in all pools at once. Example: 1 is needed, and 1 is pending in each of two zones that grant it
    with a probability of 0.6: ``0.7 * 0.4 * 0.4 + 0.3 * 0.4 = 0.232`` is missing. Without `refusals`, all arrive.
    """
    total = sum(n * c.work for c, n in zip(candidates, supply, strict=True))
    risky = [(c, n) for c, n in zip(candidates, supply, strict=True) if n and c.interruptible]
    if total - sum(n * c.work for c, n in risky) >= work:
        return 0.0
    pending = sum(max(0, n - c.ready) * c.work for c, n in risky)
    if_granted = _missing([outcomes(c, n, 0.0) for c, n in risky], work - total)
    refusal_probability = max((c.refusal_risk for c, n in risky if n > c.ready), default=0.0)
    if not (refusals and pending and refusal_probability):
        return if_granted
    independent = _missing([outcomes(c, n, c.refusal_risk) for c, n in risky], work - total)
    if_refused = _missing([outcomes(c, min(n, c.ready), 0.0) for c, n in risky], work - total + pending)
    together = refusal_probability * if_refused + (1.0 - refusal_probability) * if_granted
    return ZONE_CORRELATION * together + (1.0 - ZONE_CORRELATION) * independent


def outcomes(candidate: PoolCandidate, replicas: int, refusal_probability: float) -> tuple[Outcome, ...]:
    """Return the possible losses of `replicas` of a pool until a substitute could serve.

    Either nothing is lost; or an interruption takes a share of them; or the pending ones do not arrive.
    """
    pending = max(0, replicas - candidate.ready)
    interrupted = math.ceil(candidate.interrupted_share * replicas - 1e-9) * candidate.work
    loss = candidate.loss_probability
    if not pending or not refusal_probability:
        return (0.0, 1.0 - loss), (interrupted, loss)
    refused = refusal_probability * (1.0 - loss)
    return (0.0, 1.0 - loss - refused), (interrupted, loss), (pending * candidate.work, refused)


def _missing(risky: list[tuple[Outcome, ...]], missing: float) -> float:
    """Return the expected missing work; `missing` is that before any loss, below zero a spare."""
    if len(risky) > MAX_EXACT_POOLS:
        risky = sorted(risky, key=lambda o: -max(lost * p for lost, p in o))
        missing += sum(lost * p for o in risky[MAX_EXACT_POOLS:] for lost, p in o)
        risky = risky[:MAX_EXACT_POOLS]
    joint: list[Outcome] = [(0.0, 1.0)]
    for pool_outcomes in risky:
        joint = [(lost + more, p * q) for lost, p in joint for more, q in pool_outcomes]
    return sum(p * (missing + lost) for lost, p in joint if missing + lost > 0)
