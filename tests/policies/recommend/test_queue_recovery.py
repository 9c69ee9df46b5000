"""A batch tick by tick: the service time is known from the first engines on, and no replica stays too long."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from policies.history.ticks import History
from policies.model import Decision, Outcome, PoolName, Result
from policies.model.pool import Pool
from policies.model.spec import ScaleDown
from policies.pipeline import decide
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.policy import Predictive
from policies.recommend.predictive.supply_timeline import SupplyTimeline
from tests.factories import NOW, queue, seen, spec, tick_of
from tests.policies.recommend.engines import recommendation_of
from tests.policies.recommend.test_queue_deadline import EACH_S, PATIENT, TICK_S, Workers

UNKNOWN = dataclasses.replace(PATIENT, message_service_s=None)
FULL = 64.0
"""Messages in flight in a full replica."""


def engines(running: float, work_done: float) -> dict[str, float]:
    """Return the readings of engines with `running` requests and this work in the window, all of it prompts."""
    prompts = work_done * PATIENT.capacity.prompt_tokens_per_s
    return {"running": running, "waiting": 0.0, "prompt_tokens_per_s": prompts, "generation_tokens_per_s": 0.0}


def test_service_time_counts_work_in_flight_at_the_first_responses() -> None:
    """64 are in work and 6 answered in a minute: at 0.2 s each (6 + 32) x 0.2 s were computed, and not 6 x 0.2 s."""
    workers = Workers(UNKNOWN, 1)
    decision = workers.tick(5000.0, engines(FULL, 38 * EACH_S / 60), per_replica=0.1)
    assert recommendation_of(decision).memory["each_s"] == pytest.approx(EACH_S, rel=0.2), (
        "the engine's estimated capacity is a little lower"
    )


def test_draining_engines_do_not_change_the_service_time() -> None:
    """The last requests to run are the longest: their duration is not the mean service time."""
    workers = Workers(PATIENT, 2)
    for _ in range(10):
        before = workers.tick(500.0, engines(2 * FULL, 1.6), per_replica=5.0)
    after = workers.tick(0.0, engines(10.0, 1.6), per_replica=1.0)
    assert recommendation_of(after).memory["each_s"] == recommendation_of(before).memory["each_s"]


def batch(policy: Predictive, messages: float, ready: int, window_s: float, cooldown_s: float) -> list[Decision]:
    """Return the decisions for a batch of messages of 0.2 s each, until no replica is left."""
    workers = Workers(policy, ready)
    down = dataclasses.replace(workers.spec.scale_down, window_s=window_s)
    workers.spec = dataclasses.replace(workers.spec, scale_down=down, cooldown_s=cooldown_s)
    decisions, visible, running, rates = list[Decision](), messages, 0.0, [0.0] * 4
    while workers.ready and len(decisions) < 200:
        running = FULL * workers.ready if visible else running // 4
        rates = [*rates[1:], workers.ready / EACH_S if visible else running / TICK_S]
        rate = float(np.mean(rates))
        engine_values = {**engines(running, rate * EACH_S), "requests_per_s": rate}
        decisions.append(workers.tick(visible, engine_values, per_replica=rate / workers.ready))
        visible = max(0.0, visible - workers.ready / EACH_S * TICK_S)
        workers.ready = decisions[-1].target or 0
    return decisions


@pytest.mark.slow
@pytest.mark.parametrize(("window_s", "cooldown_s"), [(0.0, 60.0), (60.0, 60.0), (300.0, 300.0), (300.0, 60.0)])
def test_replicas_leave_soon_after_the_last_message_despite_windows(window_s: float, cooldown_s: float) -> None:
    """Work goes on in a window: 4,500 messages are 15 minutes of one replica."""
    decisions = batch(PATIENT, 4500.0, 2, window_s, cooldown_s)
    work_done = next(k for k, d in enumerate(decisions) if not [r for r in d.recommendations if r.active or r.need])
    empty = next(k for k, d in enumerate(decisions) if "the queue is empty" in recommendation_of(d).reason)
    assert work_done <= empty, "replicas retained by windows are not requested"
    assert 0 <= (len(decisions) - 1 - empty) * TICK_S <= 120.0, "the last replica leaves soon after"


def test_steady_messages_keep_a_replica() -> None:
    workers = Workers(PATIENT, 1)
    for _ in range(60):
        decision = workers.tick(20.0, engines(30.0, 0.4), per_replica=2.0)
        assert (decision.active, decision.target) == (True, 1)


def test_queue_deadline_takes_precedence_over_the_tolerance() -> None:
    """6.2 replicas are needed and 6 run: with a tolerance of 10 % all messages would violate the SLO."""
    workers = Workers(PATIENT, 6)
    workers.spec = dataclasses.replace(workers.spec, tolerance=0.1)
    decision = workers.tick(27_500.0, engines(6 * FULL, 6.0), per_replica=5.0)
    assert "6.23 replicas needed" in recommendation_of(decision).reason
    assert (decision.current, decision.target) == (6, 7)


def test_windows_retain_the_sizes_requested_in_them() -> None:
    """The need was 10 replicas 75 s ago and 4 replicas 15 s ago; the workload was active 30 s ago."""
    shape = spec(scale_down=ScaleDown(window_s=300.0), cooldown_s=600.0)
    history = History()
    for ago_s, need, active in ((75.0, 10, True), (30.0, 3, True), (15.0, 4, False)):
        observation = seen(queue(0.0), 10, at=NOW - ago_s)
        decision = dataclasses.replace(decide(shape, History(), observation), capped_need=need, active=active)
        history.append(tick_of(observation, decision))
    timeline = SupplyTimeline.of(PolicyContext(NOW, {}, 10, 10, None, history, spec=shape), 120.0)
    times_s = np.array([0.0, 239.0, 240.0, 299.0, 300.0, 584.0, 585.0])
    assert timeline.retained.at(times_s).tolist() == [10.0, 10.0, 4.0, 4.0, 1.0, 1.0, 0.0]
    assert timeline.work_s(times_s[1:3], 0.0).tolist() == [2390.0, 2400.0]
    assert timeline.spare_s == 0.0, "the window is longer than a start"


@pytest.mark.parametrize(("least", "cooldown_end_s"), [(1, np.inf), (0, 45.0)])
def test_cooldown_ends_a_longer_window_where_zero_is_allowed(least: int, cooldown_end_s: float) -> None:
    """The need was 4 replicas 15 s ago and the workload active 30 s ago: zero after 60 s, despite a window of 300 s."""
    shape = spec(scale_down=ScaleDown(window_s=300.0), cooldown_s=60.0, min_replicas=least)
    history = History()
    for ago_s, need, active in ((30.0, 3, True), (15.0, 4, False)):
        observation = seen(queue(0.0), 10, at=NOW - ago_s)
        decision = dataclasses.replace(decide(shape, History(), observation), capped_need=need, active=active)
        history.append(tick_of(observation, decision))
    timeline = SupplyTimeline.of(PolicyContext(NOW, {}, 10, 10, None, history, shape.min_replicas, spec=shape), 120.0)
    assert timeline.retained.cooldown_end_s == cooldown_end_s
    assert timeline.slack_s(40.0) == min(cooldown_end_s, 300.0) - 10.0


def test_old_unfulfilled_requests_are_not_expected_to_serve_soon() -> None:
    """Six pending replicas have no capacity; two more were requested 30 s ago."""
    shape = spec(pools={"main": Pool(lead_time_s=90.0)})
    history = History()
    for ago_s, desired, requested in ((30_000.0, 4, 10), (60.0, 10, 10), (30.0, 10, 12)):
        observation = seen(queue(0.0), desired, 4, at=NOW - ago_s)
        decision = dataclasses.replace(decide(shape, History(), observation), target=requested, ready=4)
        outcome = Outcome(PoolName("main"), desired, requested, Result.ACCEPTED)
        history.append(dataclasses.replace(tick_of(observation, decision), outcomes=(outcome,)))
    context = PolicyContext(NOW, {}, 4, 12, None, history, spec=shape)
    assert context.pending_since() == [NOW - 30.0] * 2
    coming = SupplyTimeline.of(context, 120.0).ready_in_s
    assert coming.tolist() == [90.0] * 2 + [120.0] * 6, "the others take a whole lead time"
