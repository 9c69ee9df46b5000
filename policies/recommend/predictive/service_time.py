"""The service time and the response time of a queue's messages.

Both are measured on the engines that process the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from policies.model import SignalName
    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.engine_load import EngineLoad

EMPTYING_SHARE: Final = 0.1
"""Engines are emptying if the requests in them fall by more than this share of the completed ones."""
MIN_ARRIVAL_SHARE: Final = 0.1
"""Arrivals below this share of the completed messages count as none: both are counted in different ways, a moment
apart."""


def service_time_when_full_s(
    context: PolicyContext, load: EngineLoad, running: SignalName, now: float, interval_s: float
) -> float:
    """Return the replica-seconds of a request; 0 where they cannot be measured.

    `now` requests are running, as the signal `running` reports. Engines on a queue fill up as soon as they serve. Then
    half of the work of the new requests is done too, although none of them is completed. While engines are emptying,
    only the longest requests remain, and these do not show the mean.

    Example: a new replica fills up with 64 requests in a window of 60 s and completes 6, with 7.6 replica-seconds of
    work done. The service time is 7.6 / (6 + 64 / 2) = 0.2 s, and not 7.6 / 6 = 1.3 s.
    """
    if load.requests_per_s <= 0:
        return 0.0
    since = context.at - load.window_s
    times, counts = context.history.signal(running, since - interval_s)
    at_start = float(counts[0]) if times.size and times[0] <= since + interval_s else 0.0
    growth_per_s = (now - at_start) / load.window_s
    if growth_per_s < -EMPTYING_SHARE * load.requests_per_s:
        return 0.0
    return load.processed / (load.requests_per_s + max(0.0, growth_per_s / 2.0))


def mean_response_time_s(load: EngineLoad) -> float:
    """Return the time of a request in an engine by Little's law. Seconds.

    It is 0 if no request is completed. Example: 40 requests at 20 per s take 2 s.
    """
    return load.in_work / load.requests_per_s if load.requests_per_s > 0 else 0.0


def traffic_has_ended(
    context: PolicyContext, load: EngineLoad, gauges: tuple[SignalName, ...], in_system: float
) -> bool:
    """Return whether the requests completed in the rate window all arrived before it.

    `gauges` are the signals whose sum is the requests in the queue and the engines, `in_system` is that sum now.

    Example: 120 are completed in the window, 125 were in the system at its start and 10 are now. So 120 + 10 - 125 = 5
    arrived, less than 10 % of 120: the traffic has ended.
    """
    at_start = [context.history.signal(signal, context.at - load.window_s)[1][:1] for signal in gauges]
    if load.requests_per_s <= 0 or not all(values.size for values in at_start):
        return False
    completed = load.requests_per_s * load.window_s
    return completed + in_system - float(np.sum(at_start)) <= MIN_ARRIVAL_SHARE * completed
