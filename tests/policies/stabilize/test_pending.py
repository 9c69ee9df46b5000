"""Pending replicas while work waits: a recovery never cancels pending replicas to request them again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from policies.history.ticks import History
from policies.model import (
    Decision,
    Outcome,
    PolicyName,
    PoolName,
    Result,
)
from policies.model.limits import Budget
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp, WorkloadSpec
from policies.recommend.predictive.policy import Predictive
from tests.factories import CHAT_SLO, NOW, next_tick
from tests.policies.allocate.worlds import FakePool, Simulation, workload_over
from tests.policies.recommend.engines import STEP_S, Engines

pytestmark = pytest.mark.slow

MAIN = PoolName("main")
HOUR = int(3600.0 / STEP_S)
SURPLUS = Predictive(source="e", rate_window_s=60.0, utilization=2.0, quantile=0.5)
ORDINARY = Predictive(source="e", rate_window_s=60.0)


@dataclass
class Recovery:
    """Engines under a policy on a platform whose replicas take `lead_s` to serve."""

    policy: Predictive
    lead_s: float
    window_s: float
    engines: Engines = field(default_factory=Engines)
    waiting_shrinks: int = 0
    replica_hours: float = 0.0
    cleared: int | None = None

    def run(self, before: float, after: float) -> None:
        """Run a quarter of an hour at one rate, then two hours at another."""
        workload = self._workload()
        history, fake_pool, at = (
            History(workload.lookback_s),
            FakePool(4, 4, start_ticks=int(self.lead_s / STEP_S)),
            NOW,
        )
        for k in range(2 * HOUR + 60):
            at += STEP_S
            fake_pool.tick()
            values = self.engines.readings(before if k < 60 else after, fake_pool.ready)

            def resize(pool: PoolName, target: int, tick: int = k, waiting: float = values["waiting"]) -> Outcome:
                self._count(tick, waiting, fake_pool, target)
                return Outcome(pool, fake_pool.desired, target, fake_pool.resize(target))

            next_tick(
                workload, history, at, {f"e.{n}": v for n, v in values.items()}, {MAIN: fake_pool.status()}, resize
            )

    def _workload(self) -> WorkloadSpec:
        return WorkloadSpec(
            workload="llm",
            max_replicas=100,
            sources={},
            policies={PolicyName("predictive"): self.policy},
            pools={MAIN: Pool(lead_time_s=self.lead_s)},
            slo=CHAT_SLO,
            scale_down=ScaleDown(window_s=self.window_s),
            scale_up=ScaleUp(),
        )

    def _count(self, tick: int, waiting: float, fake_pool: FakePool, target: int) -> None:
        backlog = waiting > 2.0 * fake_pool.ready
        self.waiting_shrinks += backlog and target < fake_pool.desired
        self.replica_hours += target * STEP_S / 3600.0
        self.cleared = tick if backlog else self.cleared


@pytest.mark.parametrize("rate", [150.0, 300.0])
@pytest.mark.parametrize("window_s", [60.0, 300.0])
@pytest.mark.parametrize(
    ("policy", "lead_s"),
    [(SURPLUS, 600.0), (ORDINARY, 120.0), (ORDINARY, 300.0)],
    ids=["filled twice, median", "ordinary", "ordinary, slow starts"],
)
def test_no_scale_in_while_requests_wait(policy: Predictive, lead_s: float, window_s: float, rate: float) -> None:
    recovery = Recovery(policy, lead_s, window_s)
    recovery.run(60.0, rate)
    assert recovery.waiting_shrinks == 0
    assert recovery.cleared is not None, "there was a backlog"
    assert recovery.cleared < 60 + HOUR, "and it is cleared within the hour"


# --- every policy: a queue of messages, ten per replica


def simulation_with_pending(**settings: object) -> Simulation:
    """Return a simulation with 4 ready replicas and 15 pending ones for 190 messages, which start in ten minutes."""
    sim = Simulation.of(
        workload_over({"main": Pool(lead_time_s=600.0)}, **{"scale_down": ScaleDown(window_s=60.0), **settings}), main=4
    )
    sim.fake_pools[MAIN].start_ticks = 40
    sim.tick(19)
    assert sim.sizes() == {"main": 19}
    return sim


def test_pending_replicas_stay_while_the_need_does_not_fall() -> None:
    sim = simulation_with_pending()
    sizes = {sim.tick(14).target for _ in range(20)}
    assert sizes == {19}
    assert sim.reason_of("pending") == "work waits, and 15 pending replicas serve before the ready ones finish it"


def test_pending_replicas_are_cancelled_if_work_ends_before_they_serve() -> None:
    """Ten messages are done per tick: in two minutes the four ready replicas are enough."""
    sim = simulation_with_pending()
    for left in range(18, 4, -1):
        sim.tick(float(left))
    assert sim.sizes()["main"] < 19


def test_windows_decide_once_the_ready_replicas_suffice() -> None:
    sim = simulation_with_pending()
    sim.run(20, 14)
    sim.run(20, 1)
    assert sim.sizes() == {"main": 1}


def test_failed_replicas_are_not_kept() -> None:
    sim = simulation_with_pending()
    sim.fake_pools[MAIN].fail(sim.now)
    sim.run(20, 14)
    assert sim.sizes() == {"main": 14}


def test_abandoned_replicas_are_not_kept() -> None:
    """Patience is three times the configured lead time until a start is observed."""
    sim = simulation_with_pending()
    sim.fake_pools[MAIN].capacity = 4
    sim.fake_pools[MAIN].starts = []
    sim.run(110, 14)
    assert sim.sizes() == {"main": 19}
    sim.run(20, 14)
    assert sim.sizes() == {"main": 14}


def test_budget_removes_pending_replicas_first() -> None:
    sim = simulation_with_pending()
    sim.workload = workload_over(
        {"main": Pool(lead_time_s=600.0)}, scale_down=ScaleDown(window_s=60.0), budget=Budget(gpus=10)
    )
    sim.run(20, 14)
    assert sim.sizes() == {"main": 10}


def test_priced_pools_keep_pending_replicas_too() -> None:
    pools = {"main": Pool(price_usd_per_hour=1.0, lead_time_s=600.0), "dear": Pool(price_usd_per_hour=3.0)}
    sim = Simulation.of(workload_over(pools, scale_down=ScaleDown(window_s=60.0)), main=4)
    sim.fake_pools[MAIN].start_ticks = 40
    sim.tick(19)
    decisions: list[Decision] = [sim.tick(14) for _ in range(20)]
    assert {d.target for d in decisions} == {19}
    assert all(o.result is not Result.ACCEPTED for t in sim.ticks[1:] for o in t.outcomes)
