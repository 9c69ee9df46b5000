"""The queue deadline: enough replicas for the most urgent messages, no more, and no runaway while replicas start."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.history.ticks import History
from policies.model import (
    Decision,
    Evidence,
    Fresh,
    Observation,
    PolicyName,
    PoolName,
    PoolStatus,
    Reading,
    SignalName,
    WorkloadName,
)
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp
from policies.pipeline import decide
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.policy import Predictive
from policies.recommend.predictive.queue_deadline import QueueSlo, QueueState, deadline_need
from policies.recommend.predictive.supply_timeline import Retained, SupplyTimeline
from tests.factories import NOW, spec, tick_of
from tests.laws import law
from tests.policies.recommend.engines import recommendation_of

LAW = law(60)
TICK_S = 15.0
EACH_S = 0.2
SLO = QueueSlo(600.0, 60.0)


def queue_rows(*engine_values: tuple[float, float, float]) -> QueueState:
    """Return ticks given as (seconds ago, messages waiting, replicas ready), oldest first."""
    ago, visible, ready = (np.array(column) for column in zip(*engine_values, strict=True))
    return QueueState(NOW - ago, visible, ready)


def timeline_of(
    ready: float, size: float | None = None, next_s: float = 120.0, kept: Retained | None = None
) -> SupplyTimeline:
    size = ready if size is None else size
    return SupplyTimeline(
        ready, size, 120.0, ready_in_s=np.full(int(size - ready), next_s), retained=kept or Retained()
    )


def retained_until(*engine_values: tuple[float, float]) -> Retained:
    """Return retained sizes given as (seconds from now, replicas)."""
    until_s, replicas = (np.array(column) for column in zip(*engine_values, strict=True))
    return Retained(until_s, replicas)


@pytest.mark.parametrize(
    ("queued", "with_", "replicas"),
    [
        pytest.param(queue_rows((0, 0, 3)), timeline_of(3), 0.0, id="nothing waits, whatever is there"),
        pytest.param(
            queue_rows((0, 2700, 2)), timeline_of(2), 1.1, id="just now: the deadline, a minute and a tenth to spare"
        ),
        pytest.param(
            queue_rows((300, 3000, 1), (285, 2925, 1), (0, 1500, 1)),
            timeline_of(1),
            1.0,
            id="half done in half the time",
        ),
        pytest.param(
            queue_rows((300, 2400, 0), (15, 2400, 0), (0, 2400, 2)),
            timeline_of(2),
            2.0,
            id="nothing done: half is left",
        ),
        pytest.param(
            queue_rows((300, 3000, 1), (15, 1575, 1), (0, 3937.5, 4)),
            timeline_of(4),
            1.65,
            id="who came since has time",
        ),
        pytest.param(
            queue_rows((0, 6000, 1)), timeline_of(1), 1.0 + 600.0 / 480.0, id="more come after a start, and do the rest"
        ),
        pytest.param(
            queue_rows((0, 6000, 1)), timeline_of(1, 3), 1.0 + 780.0 / 420.0, id="enough is under way: no more"
        ),
        pytest.param(queue_rows((570, 150, 0), (0, 150, 1)), timeline_of(1), 1.0, id="due in 30 s, and done in 30"),
        pytest.param(
            queue_rows((590, 3000, 0), (0, 3000, 1)),
            timeline_of(1),
            1.0 + 420.0 / 60.0,
            id="late: done soon after help",
        ),
        pytest.param(
            queue_rows((590, 3000, 0), (0, 3000, 1)), timeline_of(1, 8, 30.0), 8.0, id="late, and help is under way"
        ),
    ],
)
def test_most_urgent_messages_set_the_need(queued: QueueState, with_: SupplyTimeline, replicas: float) -> None:
    assert deadline_need(queued, EACH_S, with_, SLO).replicas == pytest.approx(replicas)


@pytest.mark.parametrize(
    ("kept", "replicas", "slack_s"),
    [
        pytest.param(Retained(), 660.0 / 540.0, -math.inf, id="no window: what the deadline asks"),
        pytest.param(
            retained_until((330, 2)), 0.0, 0.0, id="two are kept for 330 s: that does it, and nothing need be said"
        ),
        pytest.param(retained_until((200, 2)), 260.0 / 340.0, -math.inf, id="two for 200 s, and one may do the rest"),
        pytest.param(
            retained_until((200, 2), (500, 1)), 0.0, 40.0, id="two for 200 s, and the cooldown keeps one for 300 more"
        ),
    ],
)
def test_replicas_retained_by_windows_are_not_requested(kept: Retained, replicas: float, slack_s: float) -> None:
    """The need is reported while there is work, so that a window begins only when the work ends."""
    need = deadline_need(queue_rows((0, 3000, 2)), EACH_S, timeline_of(2, kept=kept), SLO)
    assert (need.replicas, need.slack_s) == pytest.approx((replicas, slack_s))


def test_completed_work_stays_completed_at_a_longer_service_time() -> None:
    """A remainder never exceeds the messages waiting now: 3,000 completed messages are no work."""
    assert deadline_need(queue_rows((300, 3000, 1), (0, 0, 1)), 10 * EACH_S, timeline_of(1), SLO).replicas == 0.0


def test_messages_may_have_arrived_just_after_the_previous_tick() -> None:
    due_s = [
        deadline_need(queue_rows((ago, 0, 1), (0, 3000, 2)), EACH_S, timeline_of(2), SLO).time_s for ago in (15, 60)
    ]
    assert due_s == [585.0, 540.0]


def test_messages_older_than_the_history_count_as_oldest_age() -> None:
    young, old = (
        deadline_need(queue_rows((0, 1200, 5)), EACH_S, timeline_of(5), SLO, age_s).replicas for age_s in (0.0, 300.0)
    )
    assert (young, old) == pytest.approx((264.0 / 540.0, 1.1))


def test_oldest_age_that_the_history_explains_changes_nothing() -> None:
    queued = queue_rows((300, 1500, 1), (0, 1500, 5))
    assert deadline_need(queued, EACH_S, timeline_of(5), SLO, 300.0) == deadline_need(
        queued, EACH_S, timeline_of(5), SLO
    )


def serve_arrivals(arrivals: Sequence[int], lead_ticks: int) -> tuple[list[float], list[int]]:
    """Return the longest wait of each tick's messages and the sizes, with workers as a fluid."""
    waiting: deque[list[float]] = deque()
    observed: list[tuple[float, float, float]] = []
    sizes, waits, size = [0] * lead_ticks, list[float](), 0
    for tick in range(len(arrivals) + 400):
        now = tick * TICK_S
        ready = min(sizes[-lead_ticks:])
        work = ready * TICK_S / EACH_S
        while waiting and work > 0:
            done = min(work, waiting[0][1])
            waiting[0][1] -= done
            work -= done
            if waiting[0][1] <= 1e-9:
                waits.append(now - waiting.popleft()[0])
        if tick < len(arrivals) and arrivals[tick]:
            waiting.append([now, float(arrivals[tick])])
        observed.append((now, sum(left for _, left in waiting), float(ready)))
        past = [row for row in observed if row[0] >= now - SLO.deadline_s]
        at, visible, readies = (np.array(column) for column in zip(*past, strict=True))
        since = [next(k for k in range(1, lead_ticks + 1) if sizes[-k] <= n) for n in range(ready, size)]
        ready_in_s = TICK_S * (lead_ticks + 1.0 - np.array(since, float))
        timeline = SupplyTimeline(ready, size, lead_ticks * TICK_S, ready_in_s=ready_in_s)
        need = deadline_need(QueueState(at, visible, readies), EACH_S, timeline, SLO)
        size = math.ceil(need.replicas - 1e-9)
        sizes.append(size)
        if tick >= len(arrivals) and not waiting:
            break
    assert not waiting
    return waits, sizes


@LAW
@given(st.lists(st.sampled_from([0, 0, 0, 10, 200, 3000]), min_size=1, max_size=80), st.integers(1, 12))
def test_every_message_meets_its_deadline_without_a_runaway(arrivals: list[int], lead_ticks: int) -> None:
    waits, sizes = serve_arrivals(arrivals, lead_ticks)
    assert max(waits, default=0.0) <= SLO.deadline_s + 2 * TICK_S, "one tick to be observed, one to be processed"
    max_work_s = max(sum(arrivals[k : k + 40]) for k in range(len(arrivals))) * EACH_S
    assert max(sizes) <= math.ceil(max_work_s / (SLO.deadline_s - (lead_ticks + 2) * TICK_S)) + 1, "no runaway"


def test_steady_stream_holds_the_replicas_it_needs() -> None:
    sizes = serve_arrivals([150] * 200, 8)[1]
    assert {*sizes[120:190]} <= {2, 3}


QUEUE = SignalName("q.visible")
PATIENT = Predictive(source="e", queue="q", rate_window_s=60.0, queue_deadline_s=900.0, message_service_s=EACH_S)
ENGINES = {
    "running": 64.0,
    "waiting": 0.0,
    "requests_per_s": 20.0,
    "prompt_tokens_per_s": 2e4,
    "generation_tokens_per_s": 4e3,
}


class Workers:
    """A workload on a queue, tick by tick. Its engines report the readings of busy ones."""

    def __init__(self, policy: Predictive, ready: int) -> None:
        self.spec = spec(
            {"p": policy},
            {"main": Pool(lead_time_s=90.0)},
            min_replicas=0,
            max_replicas=1000,
            scale_up=ScaleUp(max_replicas=1000),
            scale_down=ScaleDown(window_s=60.0, max_replicas=1000),
        )
        self.history = History()
        self.at, self.ready = NOW, ready

    def tick(self, visible: float, engine_values: Mapping[str, float] = ENGINES, per_replica: float = 5.0) -> Decision:
        self.at += TICK_S
        values = {**engine_values, "requests_per_s": per_replica * self.ready} if engine_values else {}
        readings: dict[SignalName, Reading[float]] = {
            SignalName(f"e.{name}"): Fresh(value, self.at) for name, value in values.items()
        }
        readings[QUEUE] = Fresh(visible, self.at)
        pools = {PoolName("main"): Fresh(PoolStatus(self.ready, self.ready), self.at)}
        observed = Observation(WorkloadName("llm"), self.at, readings, pools)
        decision = decide(self.spec, self.history, observed)
        self.history.append(tick_of(observed, decision, history_len=len(self.history)))
        return decision


def test_busy_workers_do_not_count_as_demand() -> None:
    """Their rate is their capacity. Taken as demand, it would keep all of them, and its forecast would add more."""
    workers = Workers(PATIENT, 10)
    decisions = [workers.tick(2000.0 - 20 * k) for k in range(30)]
    assert recommendation_of(decisions[-1]).replicas == pytest.approx(0.0, abs=0.1), (
        "the replica that the cooldown keeps suffices"
    )
    assert decisions[-1].target == 1


def test_service_time_is_learned_while_the_queue_never_empties() -> None:
    workers = Workers(dataclasses.replace(PATIENT, message_service_s=1.0), 10)
    for _ in range(40):
        decision = workers.tick(5000.0, per_replica=4.0)
    assert recommendation_of(decision).memory["each_s"] == pytest.approx(0.25, rel=0.02)


def test_unknown_service_time_starts_one_replica() -> None:
    workers = Workers(dataclasses.replace(PATIENT, message_service_s=None), 0)
    decision = workers.tick(5000.0, engine_values={})
    assert (decision.target, recommendation_of(decision).evidence) == (1, Evidence.PARTIAL)
    assert "messages wait, service time unknown" in recommendation_of(decision).reason
    assert (Workers(PATIENT, 0).tick(5000.0, engine_values={}).target or 0) > 1


def test_short_deadline_includes_expected_arrivals() -> None:
    short_deadline = Predictive(
        source="e", queue="q", rate_window_s=60.0, queue_deadline_s=100.0, message_service_s=EACH_S, quantile=0.5
    )
    workers, patient = Workers(short_deadline, 10), Workers(PATIENT, 10)
    for _ in range(30):
        decision, waiting = workers.tick(0.0), patient.tick(0.0)
    assert (recommendation_of(decision).replicas or 0) > 0.5
    assert recommendation_of(waiting).replicas == 0.0
    assert recommendation_of(waiting).active, "running requests keep a replica"


def test_lookback_covers_the_queue_deadline() -> None:
    assert PATIENT.lookback_s == 900.0
    assert dataclasses.replace(PATIENT, queue=None).lookback_s == 300.0, "for queues of a few engines"


def test_absent_queue_reading_blocks_scale_in() -> None:
    workers = Workers(PATIENT, 10)
    engine_values: dict[SignalName, Reading[float]] = {SignalName(f"e.{k}"): Fresh(v, NOW) for k, v in ENGINES.items()}
    need = PATIENT.recommend(
        PolicyName("p"), PolicyContext(NOW, engine_values, 10, 10, None, History(), spec=workers.spec)
    )
    assert need.evidence is Evidence.PARTIAL
