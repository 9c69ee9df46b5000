"""Detection of other writers by sizes that were not requested."""

from __future__ import annotations

import pytest

from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.ports import Conflict
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def writes(clock: ManualClock) -> ForeignWriteDetector:
    detector = ForeignWriteDetector(clock, 600.0, "group llm")
    assert detector.observe(3) is None, "the first size observed is adopted"
    return detector


def test_write_with_a_lost_response_may_be_applied_or_not(writes: ForeignWriteDetector) -> None:
    writes.request(3, [5])
    assert writes.observe(3) is None
    assert writes.observe(5) is None


def test_confirmed_write_discards_earlier_requests(writes: ForeignWriteDetector) -> None:
    writes.request(3, [5])
    writes.request(3, [7])
    writes.confirm(7)
    assert "set group llm to 5" in str(writes.observe(5))


def test_another_writer_is_reported_for_its_yield_time(writes: ForeignWriteDetector, clock: ManualClock) -> None:
    assert "another writer set group llm to 8" in str(writes.observe(8))
    clock.advance(599)
    assert writes.observe(8) is not None
    clock.advance(2)
    assert writes.observe(8) is None


def test_clock_set_back_does_not_prolong_the_yield(writes: ForeignWriteDetector, clock: ManualClock) -> None:
    writes.observe(8)
    clock.advance(-86_400)
    assert writes.observe(8) is None


def test_size_of_a_named_autoscaler_is_not_a_foreign_write(writes: ForeignWriteDetector) -> None:
    writes.observe(8, named=True)
    assert writes.observe(8) is None


def test_a_size_changed_since_its_observation_is_a_conflict(writes: ForeignWriteDetector) -> None:
    with pytest.raises(Conflict, match=r"group llm changed from 3 to 8: kubectl set it; the next tick reads it again"):
        writes.check(8, 3, "kubectl set it")
    writes.request(3, [8])
    writes.check(8, 3)


def test_only_a_larger_request_sets_raised_at(writes: ForeignWriteDetector, clock: ManualClock) -> None:
    writes.request(3, [2])
    assert writes.raised_at == float("-inf")
    writes.request(3, range(4, 7))
    assert writes.raised_at == clock.now()
