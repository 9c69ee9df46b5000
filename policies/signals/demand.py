"""Convert readings to demand in replicas: the common unit of all signals.

Demand is the number of ready replicas that meet the target. It may be a fraction.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from policies.model import Absent, Evidence, Fresh, PolicyName, Reading, Recommendation, SignalName, Stale

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from policies.model import PoolName
    from policies.model.spec import WorkloadSpec


NEVER_READ: Final = Absent("never read")
EPSILON: Final = 1e-9
"""Tolerance for rounding noise: a demand of 10.000000000000002 replicas counts as 10. Replicas."""


def whole_replicas(work: float) -> int:
    """Return the whole replicas that carry `work`: 10 for 9.2, and 10 for 10.000000000000002."""
    return math.ceil(work - EPSILON)


def work_of_amount(amount: float, per_replica: float) -> float:
    """Return the replicas for an amount at `per_replica` each.

    Example: 30 messages at 10 per replica need 3.0 replicas.
    """
    return amount / per_replica


def work_of_share(share: float, ready: int, target: float) -> float:
    """Return the replicas that bring the mean usage from `share` to `target`.

    `share` is the usage of the `ready` replicas.

    Example: 10 ready replicas at 91 % usage with a target of 70 % need 10 * 0.91 / 0.7 = 13 replicas. At zero replicas
    no usage is measured and the result is 0: the caller must check `ready` first.
    """
    return ready * share / target


def equivalents(spec: WorkloadSpec, sizes: Mapping[PoolName, int]) -> float:
    """Return the capacity of the serving pools at these sizes, in replica equivalents."""
    pools = spec.serving_pools
    return float(sum([n * pools[p].work_per_replica for p, n in sizes.items() if p in pools]))


def replica_equivalents(spec: WorkloadSpec, sizes: Mapping[PoolName, int]) -> int:
    """Return the same capacity as a size.

    Example: 3 replicas that carry 0.5 each are 1.5 equivalents, a size of 2.
    """
    return whole_replicas(equivalents(spec, sizes))


def with_headroom(work: float, share: float) -> float:
    """Return the replicas that carry `work` with `share` of their capacity free.

    Example: work of 4.0 with 20 % free needs 5.0.
    """
    return work / (1.0 - share)


def serialized_work(work: float, groups_in_flight: float, groups_per_replica: float, ready: int) -> float:
    """Return `work`, capped at the replicas that a FIFO queue can use.

    A FIFO queue delivers a message group to one consumer at a time. While fewer groups are in flight than the ready
    replicas can hold, the backlog belongs to groups that a consumer already holds, so more replicas would stay idle.

    Example: 100 messages need 10 replicas, 4 are ready, and each works on one group. With 3 groups in flight, 3
    replicas can work. With 4 groups in flight, there may be more groups, so 10 are needed.
    """
    if groups_in_flight >= ready * groups_per_replica:
        return work
    return min(work, float(max(1, math.ceil(groups_in_flight / groups_per_replica))))


def fresh_values(
    names: Iterable[SignalName], readings: Mapping[SignalName, Reading[float]]
) -> tuple[dict[SignalName, float], Evidence, str]:
    """Return the fresh values among `names`, and the evidence.

    The third value is a text about readings that are not fresh and complete.

    Example: visible is fresh at 5, in_flight is absent: {visible: 5}, PARTIAL, "in_flight is absent (no answer)".
    """
    values: dict[SignalName, float] = {}
    problems: list[str] = []
    for name in names:
        reading = readings.get(name, NEVER_READ)
        if isinstance(reading, Fresh):
            values[name] = reading.value
            if reading.missing:
                problems.append(f"{name} is a lower bound: {reading.missing}")
        elif isinstance(reading, Stale):
            problems.append(f"{name} is {reading.age_s:.0f} s old")
        else:
            problems.append(f"{name} is absent ({reading.reason})")
    if not problems:
        return values, Evidence.FULL, ""
    return values, Evidence.PARTIAL if values else Evidence.BLIND, "; ".join(problems)


@lru_cache(maxsize=1024)
def signal_names(source: str | None, quantities: tuple[str, ...]) -> tuple[SignalName, ...]:
    """Return the signal names of these quantities of a source: ``engines.running``."""
    return tuple(SignalName(f"{source}.{quantity}") for quantity in quantities)


def no_opinion(
    name: PolicyName, used: tuple[SignalName, ...], problems: str, memory: Mapping[str, float] | None = None
) -> Recommendation:
    """Return the recommendation of a policy without fresh readings.

    It passes its `memory` on unchanged.
    """
    reason = f"no fresh reading: {problems}"
    return Recommendation(name, None, Evidence.BLIND, active=False, reason=reason, used=used, memory=memory or {})


def quantity_problems(quantities: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the problems of a list of quantities to be summed, as (field, rule)."""
    if not quantities or len(set(quantities)) < len(quantities):
        yield "quantities", "must name at least one quantity, and each only once"
