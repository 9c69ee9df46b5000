"""Random faults: every kind, in a share of 0 to 1 of the calls, permanent or temporary; and poor telemetry."""

from __future__ import annotations

from typing import Any, Final, get_args

from simulators.world.faults import Fault
from tests.fuzz.worlds.rng import WorldRng

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
UNFIT: Final = {"zero": "pools", "out_of_capacity": "sources"}
"""Targets that a fault does not apply to."""


def fault_settings(rng: WorldRng, duration_s: float) -> list[dict[str, Any]]:
    """Return no fault in half of the worlds, else one to four kinds."""
    if rng.happens(0.5):
        return []
    return [_random_fault(rng, fault, duration_s) for fault in rng.subset(FAULTS, 4)]


def _random_fault(rng: WorldRng, fault: Fault, duration_s: float) -> dict[str, Any]:
    """Return a temporary fault, or a permanent one in a share of the calls; sometimes in all calls."""
    places = [place for place in ("sources", "pools", "both") if place != UNFIT.get(fault)]
    settings: dict[str, Any] = {"fault": fault, "where": rng.choice(places)}
    if rng.happens(0.6):
        since_s = round(rng.share(0.0, 0.9) * duration_s, 1)
        until_s = since_s + round(rng.scale(10, duration_s), 1)
        return {**settings, "share": rng.choice((1.0, rng.share())), "since_s": since_s, "until_s": until_s}
    return {**settings, "share": rng.choice((0.02, 0.05, 0.2, rng.share(), 1.0))}


def telemetry(rng: WorldRng) -> dict[str, Any]:
    """Return settings for the scrapes of the engines."""
    return {
        "scrape_interval_s": rng.choice((5.0, 10.0, 15.0, 15.0, 15.0, 60.0)),
        "lag_s": rng.choice((0.0, 0.0, 0.0, 5.0, 30.0, 90.0)),
        "rate_window_s": rng.choice((30.0, 60.0, 120.0)),
        "lost_share": rng.choice((0.0, 0.0, 0.0, 0.05, rng.share())),
        "partial_share": rng.choice((0.0, 0.0, 0.0, 0.05, rng.share())),
    }


def queue(rng: WorldRng) -> dict[str, Any]:
    """Return settings of a cloud queue."""
    return {
        "service": rng.choice(("sqs", "sqs", "pubsub", "service_bus")),
        "per_replica": rng.choice((None, 1, 8)),
        "visibility_timeout_s": rng.choice((0.0, 30.0, 300.0)),
        "max_receives": rng.integer(1, 5),
        "delay_s": rng.choice((0.0, 0.0, 20.0)),
        "throttled_share": rng.choice((0.0, 0.05, rng.share())),
    }
