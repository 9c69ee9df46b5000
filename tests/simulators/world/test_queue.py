"""Queue counts as their services report them, and redelivery of messages of lost replicas."""

from __future__ import annotations

import numpy as np
import pytest

from policies.model import Absent, Fresh
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import RequestEnd, RequestMoment
from simulators.world.queue import (
    PUBSUB_LAG_S,
    PUBSUB_SAMPLING_S,
    QUANTITIES,
    QueueCounts,
    QueueView,
    Service,
    SimulatedQueue,
)
from simulators.world.world import World
from tests.simulators.world.makers import POOL, STEADY, trace, world

JOBS = [(0.0, 10, 1001)] * 10
"""Ten messages at once, with a service time of ten seconds each."""


def view(service: Service, seed: int = 1, **settings: float) -> QueueView:
    queue = SimulatedQueue(service=service, **settings)  # type: ignore[arg-type]
    return QueueView(queue, np.random.default_rng(seed), epoch_s=1000.0)


def counts(at_s: float, visible: int = 0, in_flight: int = 0) -> QueueCounts:
    return QueueCounts(at_s, visible, in_flight, delayed=0, dead_letter=0, oldest_age_s=at_s / 2)


def reported(queue_view: QueueView, now: QueueCounts, quantity: str = "visible") -> float:
    counts_read = queue_view.read(now)[quantity]
    assert isinstance(counts_read, Fresh)
    return counts_read.value


def counts_at(simulated: World, at_s: float) -> QueueCounts:
    simulated.run_until(round(at_s * PS_PER_S))
    return simulated.counts()


# --- reported counts


def test_every_service_reports_every_quantity() -> None:
    for service in ("sqs", "service_bus"):
        assert tuple(view(service).read(counts(0.0))) == QUANTITIES
    assert tuple(view("pubsub").read(counts(0.0))) == QUANTITIES


@pytest.mark.parametrize("seed", range(5))
def test_sqs_counts_lag_by_at_most_the_approximation_time(seed: int) -> None:
    queue_view = view("sqs", seed, approximation_s=5)
    assert reported(queue_view, counts(0.0, 100)) == 100
    counts_read = [reported(queue_view, counts(float(t), 100 + 10 * t)) for t in range(10, 2000, 10)]
    true = [100 + 10 * t for t in range(10, 2000, 10)]
    behind = [a - b for a, b in zip(true, counts_read, strict=True)]
    assert 0 <= min(behind) < max(behind) <= 50  # growth of 10 per second, at most 5 s old
    assert 15 < float(np.mean(behind)) < 35


def test_frequent_sqs_reads_stay_within_the_counts_of_the_last_second() -> None:
    queue_view = view("sqs", approximation_s=60)
    counts_read = [reported(queue_view, counts(float(t), 10 * t)) for t in range(200)]
    assert all(10 * (t - 1) <= n <= 10 * t for t, n in enumerate(counts_read))


def test_sqs_timestamps_counts_with_the_present_and_reports_the_exact_age() -> None:
    queue_view = view("sqs")
    queue_view.read(counts(0.0, 100))
    counts_read = queue_view.read(counts(10.0, 0))
    assert counts_read["oldest_age_s"] == Fresh(5.0, 1010.0)
    assert all(isinstance(r, Fresh) and r.measured_at == 1010.0 for r in counts_read.values())


def test_sqs_without_approximation_and_repeated_reads_return_exact_counts() -> None:
    exact = view("sqs", approximation_s=0)
    assert [reported(exact, counts(float(t), t * t)) for t in range(9)] == [t * t for t in range(9)]
    twice = view("sqs", approximation_s=60)
    twice.read(counts(0.0, 1000))
    twice.read(counts(1.0, 0))
    assert reported(twice, counts(1.0, 0)) == 0


def test_pubsub_reports_absent_before_its_first_sample() -> None:
    queue_view = view("pubsub")
    assert set(queue_view.read(counts(0.0, 5)).values()) == {Absent("Cloud Monitoring has no sample yet")}
    queue_view.sample(counts(0.0, 5))
    out_s = next(t for t in range(122) if isinstance(queue_view.read(counts(float(t), 9))["visible"], Fresh))
    assert 0 < out_s <= PUBSUB_LAG_S
    assert queue_view.read(counts(float(out_s), 9))["visible"] == Fresh(5.0, 1000.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_pubsub_reports_samples_in_order_after_their_lag(seed: int) -> None:
    queue_view, ages, last = view("pubsub", seed), [], -1.0
    for t in range(3600):
        if t % PUBSUB_SAMPLING_S == 0:
            queue_view.sample(counts(float(t), t))
        counts_read = queue_view.read(counts(float(t), 10**6))["visible"]
        if isinstance(counts_read, Fresh):
            assert counts_read.value + 1000.0 == counts_read.measured_at  # the sample's own value, at its own time
            assert counts_read.value >= last
            last = counts_read.value
            ages.append(t - counts_read.value)
    assert 0 <= min(ages) < PUBSUB_SAMPLING_S < max(ages) <= PUBSUB_SAMPLING_S + PUBSUB_LAG_S


def test_service_bus_reports_exact_counts_and_zero_while_throttled() -> None:
    assert reported(view("service_bus"), counts(7.0, 42)) == 42
    throttled = view("service_bus", throttled_share=1)
    assert throttled.read(counts(7.0, 42, in_flight=3)) == dict.fromkeys(QUANTITIES, Fresh(0.0, 1007.0))
    sometimes = view("service_bus", throttled_share=0.3)
    counts_read = [reported(sometimes, counts(float(t), 42)) for t in range(1000)]
    assert set(counts_read) == {0.0, 42.0}
    assert 0.25 < counts_read.count(0.0) / 1000 < 0.35


# --- the queue itself


@pytest.mark.slow
def test_messages_wait_for_a_free_replica_and_are_in_flight_until_done() -> None:
    simulated = world(trace(*JOBS), queue=SimulatedQueue())
    now = counts_at(simulated, 1.0)
    assert (now.visible, now.in_flight, now.oldest_age_s) == (6, STEADY.max_seqs, 1.0)
    now = counts_at(simulated, 15.0)  # each four take 1001 steps of 10 ms
    assert (now.visible, now.in_flight, now.oldest_age_s) == (2, 4, 15.0)
    now = counts_at(simulated, 60.0)
    assert (now.visible, now.in_flight, now.oldest_age_s) == (0, 0, 0.0)


def test_oldest_age_is_that_of_the_longest_waiting_message() -> None:
    simulated = world(trace(*JOBS[:4], (2.0, 10, 1), (7.0, 10, 1)), queue=SimulatedQueue())
    assert counts_at(simulated, 9.0).oldest_age_s == 7.0
    assert counts_at(simulated, 1.0 + 9.0).visible == 2


def test_delayed_messages_count_as_delayed_and_are_delivered_afterwards() -> None:
    simulated = world(trace((10.0, 10, 2), (30.0, 10, 2)), queue=SimulatedQueue(delay_s=15))
    assert [counts_at(simulated, t).delayed for t in (5.0, 9.0, 12.0, 24.0, 26.0, 31.0, 46.0)] == [0, 0, 1, 1, 0, 1, 0]
    assert simulated.kernel.requests.at_ps(RequestMoment.ADMITTED).tolist() == [25 * PS_PER_S, 45 * PS_PER_S]


def test_a_lost_message_is_redelivered_after_its_visibility_timeout() -> None:
    simulated = world(trace((0.0, 10, 1001)), replicas=2, queue=SimulatedQueue(visibility_timeout_s=30))
    simulated.run_until(5 * PS_PER_S)
    interrupt(simulated, 0)
    now = counts_at(simulated, 34.9)
    assert (now.visible, now.in_flight, now.dead_letter) == (0, 1, 0)
    assert counts_at(simulated, 60.0).in_flight == 0
    assert simulated.kernel.requests.at_ps(RequestMoment.ADMITTED)[0] == 35 * PS_PER_S
    assert simulated.kernel.requests.finished_ps[0] == round(45.01 * PS_PER_S)
    assert simulated.kernel.requests.deliveries[0] == 2


def test_a_message_received_too_often_becomes_a_dead_letter() -> None:
    queue = SimulatedQueue(visibility_timeout_s=10, max_receives=2)
    simulated = world(trace((0.0, 10, 1001)), replicas=1, queue=queue)
    simulated.run_until(5 * PS_PER_S)
    interrupt(simulated, 0)  # its replacement serves 35 s later
    simulated.run_until(45 * PS_PER_S)
    assert counts_at(simulated, 45.0).in_flight == 1
    interrupt(simulated, 1)
    now = counts_at(simulated, 200.0)
    assert (now.visible, now.in_flight, now.dead_letter) == (0, 0, 1)
    assert simulated.kernel.requests.finished_ps[0] == RequestEnd.DEAD_LETTER


def test_requests_of_a_lost_replica_are_lost_without_a_queue() -> None:
    simulated = world(trace(*JOBS[:3]), replicas=1)
    simulated.run_until(5 * PS_PER_S)
    interrupt(simulated, 0)
    simulated.run_until(100 * PS_PER_S)
    assert simulated.kernel.requests.finished_ps.tolist() == [RequestEnd.LOST] * 3
    assert simulated.lost_requests == 3


def interrupt(simulated: World, node: int) -> None:
    """Interrupt a node now."""
    simulated.pools[POOL].interrupt(node, simulated.now_ps, simulated.now_ps)


@pytest.mark.parametrize(("service", "expected"), [("sqs", (5, 3)), ("pubsub", (8, 0)), ("service_bus", (8, 0))])
def test_messages_in_progress_count_as_each_service_counts_them(service: Service, expected: tuple[int, int]) -> None:
    queue_view = view(service)
    queue_view.sample(counts(0.0, 5, 3))
    later = counts(2 * PUBSUB_LAG_S, 5, 3)
    assert (reported(queue_view, later), reported(queue_view, later, "in_flight")) == expected
