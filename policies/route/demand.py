"""Demand of a route in replica equivalents, and the tokens of its requests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from policies.model import Fresh, Observation, PolicyName, Recommendation, SignalName
from policies.model.route import RouteStatus
from policies.model.route_spec import Route
from policies.model.spec import WorkloadSpec

SERVICE_TIME: Final = "each_s"
"""Key of a recommendation's memory: the time that a request takes of a replica filled to the SLO. Seconds."""
INPUT_TOKENS, OUTPUT_TOKENS = "input_tokens", "output_tokens"
"""Keys of a route's memory: the mean tokens of a request, so far as they are known."""
TOKEN_RATES: Final = {INPUT_TOKENS: "prompt_tokens_per_s", OUTPUT_TOKENS: "generation_tokens_per_s"}
AVERAGE_S: Final = 300.0
"""Time constant of the mean tokens of a request. Seconds."""
NOISE_SIGMAS: Final = 2.0
"""Requests that arrive independently deviate from their mean by less, in 19 of 20 ticks. Standard deviations."""


class RouteDemand(NamedTuple):
    """The requests of a route.

    `replicas` is the demand in replica equivalents; None where a part of it is not known, for the reason in `missing`.
    `noise` is the relative error of a count of so few requests: 0.2 for 100. `service_s` is the time that a request
    takes of a full replica; None where it is not known.
    """

    requests_per_s: float | None
    replicas: float | None
    noise: float
    missing: str = ""
    service_s: float | None = None


def demand_of(route: Route, status: RouteStatus, recommendations: Iterable[Recommendation]) -> RouteDemand:
    """Return the demand of a route.

    It counts the requests to all backends, so it does not depend on the split. Example: 12 requests per second, each of
    which takes 0.4 s of a replica, are 4.8 replicas.
    """
    rate, service_s = status.requests_per_s, service_time_s(route, recommendations)
    if rate is None:
        return RouteDemand(None, None, 0.0, "the gateway's requests were not measured yet", service_s)
    noise = NOISE_SIGMAS / math.sqrt(max(1.0, status.requests))
    if service_s is None:
        missing = "the requests that a replica carries are not learned yet (requests_per_replica_per_s)"
        return RouteDemand(rate, None, noise, missing)
    return RouteDemand(rate, rate * service_s, noise, service_s=service_s)


def service_time_s(route: Route | None, recommendations: Iterable[Recommendation]) -> float | None:
    """Return the time that a request takes of a full replica. Seconds; None where unknown."""
    if route is not None and route.requests_per_replica_per_s is not None:
        return 1.0 / route.requests_per_replica_per_s
    learned = (r.memory.get(SERVICE_TIME, 0.0) for r in recommendations)
    return next((service_s for service_s in learned if service_s > 0.0), None)


def group_policy(spec: WorkloadSpec) -> PolicyName:
    """Return the name under which a group recommends a size."""
    return PolicyName(f"group {spec.group}")


def own_need(spec: WorkloadSpec, recommendations: Iterable[Recommendation]) -> float | None:
    """Return the largest need, without requests that others are to send. Replica equivalents."""
    policy = group_policy(spec)
    return max((r.need for r in recommendations if r.policy != policy and r.need is not None), default=None)


def tokens_of(
    route: Route, spec: WorkloadSpec, observation: Observation, memory: Mapping[str, float], elapsed_s: float
) -> dict[str, float]:
    """Return the mean prompt and generated tokens of a request, so far as they are known.

    Example: 800 tokens so far, and 1,100 in 15 s, are 800 + 15 / 300 * 300 = 815.
    """
    configured = {INPUT_TOKENS: route.input_tokens_per_request, OUTPUT_TOKENS: route.output_tokens_per_request}
    tokens: dict[str, float] = {}
    for key, rate in TOKEN_RATES.items():
        value, before = configured[key], memory.get(key)
        if value is None:
            value = _measured(spec, observation, rate)
            if before is not None:
                weight = min(1.0, elapsed_s / AVERAGE_S)
                value = before if value is None else before + weight * (value - before)
        if value is not None:
            tokens[key] = value
    return tokens


def _measured(spec: WorkloadSpec, observation: Observation, quantity: str) -> float | None:
    """Return a token rate per request rate; None where no policy's source reports both."""
    sources = (getattr(policy, "source", None) for policy in spec.policies.values())
    for source in sources:
        tokens = observation.readings.get(SignalName(f"{source}.{quantity}"))
        requests = observation.readings.get(SignalName(f"{source}.requests_per_s"))
        if isinstance(tokens, Fresh) and isinstance(requests, Fresh) and requests.value > 0.0:
            return tokens.value / requests.value
    return None
