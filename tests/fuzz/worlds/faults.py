"""Random trouble: every kind of fault, in none to all of the calls, all the time or in bouts; and poor telemetry."""

from __future__ import annotations

from typing import Any, Final, get_args

from simulators.world.faults import Fault
from tests.fuzz.worlds.rng import Chance

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
UNFIT: Final = {"zero": "pools", "out_of_capacity": "sources"}
"""Where a fault can't strike."""


def weather(chance: Chance, duration_s: float) -> list[dict[str, Any]]:
    """None in half of the worlds, else up to four kinds."""
    if chance.happens(0.5):
        return []
    return [_trouble(chance, fault, duration_s) for fault in chance.some(FAULTS, 4)]


def _trouble(chance: Chance, fault: Fault, duration_s: float) -> dict[str, Any]:
    """A bout of it, or a share of the calls all the time; now and then both are total."""
    places = [place for place in ("sources", "pools", "both") if place != UNFIT.get(fault)]
    trouble: dict[str, Any] = {"fault": fault, "where": chance.one(places)}
    if chance.happens(0.6):
        since_s = round(chance.share(0.0, 0.9) * duration_s, 1)
        until_s = since_s + round(chance.scale(10, duration_s), 1)
        return {**trouble, "share": chance.one((1.0, chance.share())), "since_s": since_s, "until_s": until_s}
    return {**trouble, "share": chance.one((0.02, 0.05, 0.2, chance.share(), 1.0))}


def telemetry(chance: Chance) -> dict[str, Any]:
    """How the engines are scraped."""
    return {
        "scrape_interval_s": chance.one((5.0, 10.0, 15.0, 15.0, 15.0, 60.0)),
        "lag_s": chance.one((0.0, 0.0, 0.0, 5.0, 30.0, 90.0)),
        "rate_window_s": chance.one((30.0, 60.0, 120.0)),
        "lost_share": chance.one((0.0, 0.0, 0.0, 0.05, chance.share())),
        "partial_share": chance.one((0.0, 0.0, 0.0, 0.05, chance.share())),
    }


def queue(chance: Chance) -> dict[str, Any]:
    """A cloud's queue."""
    return {
        "service": chance.one(("sqs", "sqs", "pubsub", "service_bus")),
        "per_replica": chance.one((None, 1, 8)),
        "visibility_timeout_s": chance.one((0.0, 30.0, 300.0)),
        "max_receives": chance.whole(1, 5),
        "delay_s": chance.one((0.0, 0.0, 20.0)),
        "throttled_share": chance.one((0.0, 0.05, chance.share())),
    }
