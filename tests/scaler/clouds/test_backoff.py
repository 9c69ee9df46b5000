"""Pauses after failed reads."""

from __future__ import annotations

from scaler.clouds.backoff import Backoff
from scaler.ports import Misconfigured, Throttled, Unavailable


def test_backoff_doubles_up_to_its_maximum_and_resets_on_success() -> None:
    backoff = Backoff(1.0, 10.0, 30.0)
    assert [backoff.pause_after_s(Unavailable("down")) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeeded()
    assert backoff.pause_after_s(Unavailable("down")) == 1


def test_requested_retry_pause_is_bounded() -> None:
    backoff = Backoff(1.0, 10.0, 30.0)
    assert backoff.pause_after_s(Throttled("slow", 20.0)) == 20
    assert backoff.pause_after_s(Throttled("slow", 500.0)) == 30


def test_misconfiguration_has_the_longest_pause() -> None:
    assert Backoff(1.0, 10.0, 30.0).pause_after_s(Misconfigured("no such queue")) == 30
