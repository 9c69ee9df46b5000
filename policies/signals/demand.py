"""Readings to replicas' worth of work: the one unit in which every signal is compared.

Each function answers "how many ready replicas does this need to meet the target", as a fraction.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from policies.model import Absent, Evidence, Fresh, PolicyName, Reading, Recommendation, SignalName, Stale

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from policies.model import PoolName
    from policies.model.spec import WorkloadSpec


EPSILON: Final = 1e-9
"""Above rounding noise in a quotient (10.000000000000002 replicas are 10), below any work that matters."""


def whole_replicas(work: float) -> int:
    """Return the whole replicas that carry `work`: 10 for 9.2, and 10 for 10.000000000000002."""
    return math.ceil(work - EPSILON)


def work_of_amount(amount: float, per_replica: float) -> float:
    """An amount (messages, requests in flight, tokens a second) shared out at `per_replica` each."""
    return amount / per_replica


def work_of_share(share: float, ready: int, target: float) -> float:
    """`ready` replicas, each used to `share` on average, brought to `target`.

    Says nothing at zero replicas: nobody measures a share there, and the product would keep zero at zero.
    """
    return ready * share / target


def equivalents(spec: WorkloadSpec, sizes: Mapping[PoolName, int]) -> float:
    """Return what the serving pools among these sizes carry, in replica equivalents."""
    return float(sum(n * spec.pools[p].work_per_replica for p, n in sizes.items() if spec.pools[p].tier == "serving"))


def replica_equivalents(spec: WorkloadSpec, sizes: Mapping[PoolName, int]) -> int:
    """Return the same as a size: 3 replicas that carry 0.5 each are 1.5 equivalents, a size of 2."""
    return whole_replicas(equivalents(spec, sizes))


def with_headroom(work: float, share: float) -> float:
    """The replicas that carry `work` with `share` of their capacity left free."""
    return work / (1.0 - share)


def serialized_work(work: float, groups_in_flight: float, groups_per_replica: float, ready: int) -> float:
    """`work` capped at what an ordered queue can use.

    A FIFO queue hands a message group to one consumer at a time. While fewer groups are in flight than the ready
    replicas could hold, the rest of the backlog belongs to groups already held: more replicas would find nothing.
    """
    if groups_in_flight >= ready * groups_per_replica:
        return work
    return min(work, float(max(1, math.ceil(groups_in_flight / groups_per_replica))))


def fresh_values(
    names: Iterable[SignalName], readings: Mapping[SignalName, Reading[float]]
) -> tuple[dict[SignalName, float], Evidence, str]:
    """The fresh values among `names`, how complete they are, and what is wrong with the others in words."""
    values: dict[SignalName, float] = {}
    wrong: list[str] = []
    for name in names:
        match readings.get(name, Absent("never read")):
            case Fresh(value, _, missing):
                values[name] = value
                if missing:
                    wrong.append(f"{name} is a lower bound: {missing}")
            case Stale(_, _, age_s):
                wrong.append(f"{name} is {age_s:.0f} s old")
            case Absent(reason):
                wrong.append(f"{name} is absent ({reason})")
    if not wrong:
        return values, Evidence.FULL, ""
    return values, Evidence.PARTIAL if values else Evidence.BLIND, "; ".join(wrong)


def signal_names(source: str | None, quantities: Iterable[str]) -> tuple[SignalName, ...]:
    """The names of a source's quantities."""
    return tuple(SignalName(f"{source}.{quantity}") for quantity in quantities)


def no_opinion(
    name: PolicyName, used: tuple[SignalName, ...], why: str, memory: Mapping[str, float] | None = None
) -> Recommendation:
    """The recommendation of a policy that saw nothing; what it had in mind it keeps in mind."""
    reason = f"no fresh reading: {why}"
    return Recommendation(name, None, Evidence.BLIND, active=False, reason=reason, used=used, memory=memory or {})


def quantity_problems(quantities: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with a choice of quantities to be added up, as (field, rule)."""
    if not quantities or len(set(quantities)) < len(quantities):
        yield "quantities", "must name each quantity once, and one at least"
