"""The size of a pool that KEDA or an HPA reads from the decision and writes."""

from __future__ import annotations

from dataclasses import replace

from policies.model import Decision, Outcome, Result
from scaler.leases.fence import check_write
from scaler.ports import Fenced


def publish(decided: Outcome, decision: Decision, last: int, partner: str | None) -> Outcome:
    """Return the outcome of a published pool, from the decided change of its observed size.

    `last` is the last published size. A size is withheld while no policy recommends one, so that the other autoscaler
    keeps its own. Without full evidence a published size never falls: the other autoscaler may have applied the last
    one since the observation. Example: 5 were observed after 7 were published, and one source cannot be read now: 7
    stays published. Without a valid lease the outcome is `fenced`, and no size is published.
    """
    try:
        check_write()
    except Fenced as e:
        return replace(decided, result=e.result, reason=str(e))
    size, target = decided.before, decided.after
    if target == size and decision.demand is None:
        return replace(decided, after=max(size, last), result=Result.WITHHELD, reason=decision.reason)
    if target >= size and not decision.may_scale_in:
        target = max(target, last)
    if partner is None:
        reason = "no HPA or ScaledObject that applies it is known"
    else:
        reason = f"applied by {partner}" if target == size else f"{partner} has applied {size} so far"
    return replace(decided, after=target, result=Result.PUBLISHED, reason=reason)
