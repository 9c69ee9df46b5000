"""Limits on readings.

A value beyond its limit is not a measurement and must not change a size.

A finite number may still be absurd: a counter that wrapped, a unit that is off by a factor of a billion, a corrupt
response. The limits lie far above the values of the largest deployments, and low enough that no sum, product or array
of them overflows or exhausts memory.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from policies.model import Absent
from policies.model.names import RATE_WINDOW
from policies.signals.latency_quantities import E2E_MEAN, E2E_P95, LATE_SHARES, QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Observation, PoolName, PoolStatus, Reading, SignalName

SHARES: Final = LATE_SHARES | {"utilization", "kv_cache_usage", "tensor_active", "memory_active", "prefix_hit_share"}
"""Quantities that are shares, 0 to 1."""
SHARE_SLACK: Final = 0.02
"""A mean of shares may exceed 1 by this much, through rounding and unequal scrapes. Share."""
COUNTS: Final = (
    "visible",
    "in_flight",
    "delayed",
    "groups_in_flight",
    "dead_letter",
    "transfer",
    "transfer_dead_letter",
)
"""Quantities that count the messages of a queue."""
LIMITS: Final[Mapping[str, float]] = {
    **dict.fromkeys(SHARES, 1.0 + SHARE_SLACK),
    # Messages: ten million replicas with a hundred thousand messages each.
    **dict.fromkeys(COUNTS, 1e12),
    # Requests in the engines: a million replicas with a million requests each; an engine holds some thousands.
    **dict.fromkeys(("running", "waiting"), 1e12),
    # Requests a second: a million replicas that serve a thousand a second each.
    **dict.fromkeys(("requests_per_s", "preemptions_per_s"), 1e9),
    # Tokens a second: a hundred thousand replicas (the upper bound of max_replicas) at a hundred thousand each, three
    # times the rate of a node of eight H200.
    **dict.fromkeys(("prompt_tokens_per_s", "generation_tokens_per_s"), 1e10),
    # Latencies and ages: 32 years, in seconds. A Unix time that is mistaken for a duration exceeds it.
    **dict.fromkeys((q for q in QUANTITIES if q not in LATE_SHARES), 1e9),
    **dict.fromkeys(("oldest_age_s", "queue_time_p95_s", E2E_MEAN, E2E_P95), 1e9),
    RATE_WINDOW: 86_400.0,
}
"""The largest plausible value of each quantity that a source provides by default."""
ANY_LIMIT: Final = 1e18
"""The largest plausible value of a quantity that the configuration defines. It may count bytes: 1e18 is an exabyte."""
COUNTED: Final = ("desired", "ready", "interruption_pending", "failed")
"""The fields of a pool's status that count replicas."""
MAX_PLAUSIBLE_REPLICAS: Final = 1_000_000
"""The largest plausible size of a pool: ten times the upper bound of `max_replicas`."""


def implausible(quantity: str, value: float) -> str:
    """Return why `value` cannot be a measurement of `quantity`; empty if it can be one.

    Example: 2e12 messages are beyond 1e12.
    """
    limit = LIMITS.get(quantity, ANY_LIMIT)
    if 0 <= value <= limit:
        return ""
    if not -math.inf < value < math.inf:
        return f"{value} is not finite"
    if value < 0:
        return f"{short_number(value)} is negative"
    if quantity in SHARES:
        return f"{short_number(value)} is not a share from 0 to 1"
    return f"{short_number(value)} exceeds the largest plausible value of {limit:g}"


def implausible_size(status: PoolStatus) -> str:
    """Return why a pool cannot have this size; empty if it can."""
    for name in COUNTED:
        count = getattr(status, name)
        if not 0 <= count <= MAX_PLAUSIBLE_REPLICAS:
            return f"{name} is {short_number(count)}; plausible are 0 to {MAX_PLAUSIBLE_REPLICAS} replicas"
    return ""


def short_number(value: float) -> str:
    """Return a number as short text, even if it has more digits than a float holds."""
    return f"{value:.7g}" if abs(value) <= sys.float_info.max else "a number of more than 308 digits"


def plausible(observation: Observation) -> Observation:
    """Return the observation without implausible readings and sizes.

    Each is replaced by `Absent` and its reason.
    """
    readings: dict[SignalName, Reading[float]] = {
        signal: Absent(implausible(quantity_of(signal), reading.value))
        for signal, reading in observation.readings.items()
        if not isinstance(reading, Absent) and not 0 <= reading.value <= _limit(signal)
    }
    pools: dict[PoolName, Reading[PoolStatus]] = {
        name: Absent(reason)
        for name, reading in observation.pools.items()
        if not isinstance(reading, Absent) and (reason := implausible_size(reading.value))
    }
    if not readings and not pools:
        return observation
    return replace(observation, readings={**observation.readings, **readings}, pools={**observation.pools, **pools})


@lru_cache(maxsize=4096)
def _limit(signal: SignalName) -> float:
    """Return the largest plausible value of a signal."""
    return LIMITS.get(quantity_of(signal), ANY_LIMIT)


def quantity_of(signal: SignalName) -> str:
    """Return the quantity of a signal: ``running`` for ``engines.running``."""
    return signal.partition(".")[2]
