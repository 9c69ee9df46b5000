"""What engines before a queue tell of its messages: what one takes, how long it is in work, whether more come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from policies.model import SignalName
    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.engine_load import EngineLoad

EMPTYING: Final = 0.1
"""Engines empty when the requests in them fall by more than this share of those answered."""
COMES: Final = 0.1
"""Where no more messages come than this share of those that are answered, none come any more: they are counted in two
ways, a moment apart."""


def service_time_when_full_s(
    context: PolicyContext, load: EngineLoad, running: SignalName, now: float, turn_s: float
) -> float:
    """Return what a request takes of a replica's saturation, for a second; 0 where that cannot be told.

    `now` run, as the signal `running` tells. Engines before a queue fill up at once when they come to serve: half of
    the work of those in them is done too, and none of them is answered. While they empty the long ones are left, which
    tell nothing of the others.
    """
    if load.requests_per_s <= 0:
        return 0.0
    since = context.at - load.window_s
    at, was = context.history.signal(running, since - turn_s)
    begun = float(was[0]) if at.size and at[0] <= since + turn_s else 0.0
    filled_per_s = (now - begun) / load.window_s
    if filled_per_s < -EMPTYING * load.requests_per_s:
        return 0.0
    return load.done / (load.requests_per_s + max(0.0, filled_per_s / 2.0))


def response_time_s(load: EngineLoad) -> float:
    """Return how long a request is in work, by Little's law; 0 where none is answered. Seconds."""
    return load.in_work / load.requests_per_s if load.requests_per_s > 0 else 0.0


def traffic_has_ended(context: PolicyContext, load: EngineLoad, held: tuple[SignalName, ...], there: float) -> bool:
    """Return whether all that was answered in the rates' window was there before it.

    `held` tell what was, `there` is now.
    """
    was = [context.history.signal(signal, context.at - load.window_s)[1][:1] for signal in held]
    if load.requests_per_s <= 0 or not all(values.size for values in was):
        return False
    answered = load.requests_per_s * load.window_s
    return answered + there - float(np.sum(was)) <= COMES * answered
