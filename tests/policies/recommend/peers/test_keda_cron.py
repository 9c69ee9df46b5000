"""A ScaledObject with a cron trigger: its replicas by time of day, alone and with other triggers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policies.model.weekly_window import Span
from policies.recommend.peers.hpa_behavior import Behavior, ScaleDownRules
from policies.recommend.peers.keda import Keda, Trigger
from policies.recommend.peers.keda_cron import Cron
from tests.factories import ABSENT, NOW
from tests.policies.recommend.peers.ticks import PeerTicks

AT_ONCE = Behavior(scale_down=ScaleDownRules(stabilization_window_s=0))
ALWAYS = (Span(start="00:00", end="00:00"),)
MINUTE = 60.0


def window(minutes: float) -> Cron:
    """Return a cron of four replicas for these minutes from `NOW` on."""
    start, end = (datetime.fromtimestamp(at, UTC).strftime("%H:%M") for at in (NOW, NOW + MINUTE * minutes))
    return Cron(replicas=4, windows=(Span(start=start, end=end),))


def test_cron_requests_its_replicas_in_its_window_and_one_outside() -> None:
    ticks = PeerTicks(Keda(triggers=(), crons=(window(1),), behavior=AT_ONCE), 1)
    assert ticks.run(5, {}) == [4, 4, 4, 4, 1]


def test_cron_activates_from_zero_and_scales_to_zero_after_the_cooldown() -> None:
    keda = Keda(triggers=(), crons=(window(1),), cooldown_s=30, behavior=AT_ONCE)
    ticks = PeerTicks(keda, 0, min_replicas=0)
    assert ticks.run(3, {}) == [1, 4, 4]
    assert ticks.run(5, {})[-1] == 0


def test_larger_of_cron_and_queue_counts() -> None:
    keda = Keda(source="q", triggers=(Trigger(quantities=("n",), target=5),), crons=(Cron(replicas=3, windows=ALWAYS),))
    assert PeerTicks(keda, 3).tick({"q.n": 5}) == 3
    assert PeerTicks(keda, 3).tick({"q.n": 30}) == 6


def test_unreadable_queue_with_a_cron_allows_only_scale_out() -> None:
    queue = (Trigger(quantities=("n",), target=5),)
    keda = Keda(source="q", triggers=queue, crons=(Cron(replicas=3, windows=ALWAYS),), behavior=AT_ONCE)
    assert PeerTicks(keda, 8).run(3, {"q.n": ABSENT}) == [8, 8, 8]
    assert PeerTicks(keda, 1).tick({"q.n": ABSENT}) == 3


@pytest.mark.parametrize(
    ("cron", "rule"),
    [
        (Cron(replicas=1, windows=()), "must not be empty"),
        (Cron(replicas=1, windows=ALWAYS, time_zone="Mars/Olympus"), "is not an IANA time zone"),
    ],
    ids=["no window", "no zone"],
)
def test_invalid_cron_is_reported(cron: Cron, rule: str) -> None:
    assert any(rule in recommendation for _, recommendation in cron.problems())
