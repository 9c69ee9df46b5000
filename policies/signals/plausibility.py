"""Ceilings on what is read: a value beyond them was not measured, and must not size anything.

A finite number may still be absurd: a counter that wrapped, a unit mistaken by a factor of a billion, a spoiled page.
The ceilings lie far above what the largest deployments show, and low enough that no sum, product or array made of them
overflows or exhausts memory.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from policies.model import Absent
from policies.signals.latency_quantities import LATE, QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Observation, PoolName, PoolStatus, Reading, SignalName

SHARES: Final = LATE | {"utilization", "kv_cache_usage", "tensor_active", "memory_active", "prefix_hit_share"}
"""Quantities that are shares, 0 to 1."""
SHARE_SLACK: Final = 0.02
"""By how much a mean of shares may exceed 1 through rounding and unequal scrapes before it is disbelieved."""
COUNTS: Final = (
    "visible",
    "in_flight",
    "delayed",
    "groups_in_flight",
    "dead_letter",
    "transfer",
    "transfer_dead_letter",
)
"""Messages of a queue."""
LIMITS: Final[Mapping[str, float]] = {
    **dict.fromkeys(SHARES, 1.0 + SHARE_SLACK),
    # Messages: ten million replicas' worth of a hundred thousand messages each.
    **dict.fromkeys(COUNTS, 1e12),
    # Requests in the engines: a million replicas with a million requests each; an engine holds some thousands.
    **dict.fromkeys(("running", "waiting"), 1e12),
    # Requests a second: a million replicas that answer a thousand a second each.
    **dict.fromkeys(("requests_per_s", "preemptions_per_s"), 1e9),
    # Tokens a second: a hundred thousand replicas (the most that max_replicas takes) at a hundred thousand each, three
    # times what a node of eight H200 generates.
    **dict.fromkeys(("prompt_tokens_per_s", "generation_tokens_per_s"), 1e10),
    # Latencies and ages: 32 years, in seconds. A time since the epoch that is taken for a duration is beyond it.
    **dict.fromkeys((q for q in QUANTITIES if q not in LATE), 1e9),
    **dict.fromkeys(("oldest_age_s", "queue_time_p95_s"), 1e9),
}
"""The largest plausible value of each quantity that sources offer by themselves."""
ANY_LIMIT: Final = 1e18
"""The largest plausible value of a quantity that the configuration names. It may count bytes: this is an exabyte."""
MOST_REPLICAS: Final = 1_000_000
"""The largest plausible size of a pool: ten times the most that `max_replicas` takes."""


def implausible(quantity: str, value: float) -> str:
    """Return why `value` cannot be a measurement of `quantity`; empty where it can."""
    limit = LIMITS.get(quantity, ANY_LIMIT)
    if 0 <= value <= limit:
        return ""
    if not -math.inf < value < math.inf:
        return f"{value} is not finite"
    if value < 0:
        return f"{shown(value)} is negative"
    if quantity in SHARES:
        return f"{shown(value)} is not a share from 0 to 1"
    return f"{shown(value)} is beyond any plausible value (limit {limit:g})"


def implausible_size(status: PoolStatus) -> str:
    """Return why a pool cannot have this size; empty where it can."""
    counts = {
        "desired": status.desired,
        "ready": status.ready,
        "doomed": status.interruption_pending,
        "failed": status.failed,
    }
    for name, count in counts.items():
        if not 0 <= count <= MOST_REPLICAS:
            return f"{name} {shown(count)} is beyond any plausible size (limit {MOST_REPLICAS})"
    return ""


def shown(value: float) -> str:
    """Return a number in a few characters, however many digits a platform's JSON gave it."""
    return f"{value:.7g}" if abs(value) <= sys.float_info.max else "a number of more than 308 digits"


def plausible(seen: Observation) -> Observation:
    """Return the observation with every reading and size absent that cannot be a measurement, and why."""
    readings: dict[SignalName, Reading[float]] = {
        signal: Absent(why)
        for signal, r in seen.readings.items()
        if not isinstance(r, Absent) and (why := implausible(quantity_of(signal), r.value))
    }
    pools: dict[PoolName, Reading[PoolStatus]] = {
        name: Absent(why)
        for name, r in seen.pools.items()
        if not isinstance(r, Absent) and (why := implausible_size(r.value))
    }
    if not readings and not pools:
        return seen
    return replace(seen, readings={**seen.readings, **readings}, pools={**seen.pools, **pools})


def quantity_of(signal: SignalName) -> str:
    """Return the quantity of a signal, which is named ``source.quantity``."""
    return signal.partition(".")[2]
