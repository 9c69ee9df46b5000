"""Ticks in given conditions, with all other parts in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.model import (
    Decision,
    ErrorBudget,
    Fresh,
    Observation,
    Outcome,
    PoolName,
    PoolStatus,
    RequestCount,
    Result,
    RuleId,
    Step,
    Tick,
    WorkloadName,
)
from policies.model.error_budget import BURN_WINDOWS_S, DAY_S
from policies.model.observation import Shortfall
from tests.factories import NOW

GPUS = PoolName("gpus")


def budget(late: float, measured_s: float = DAY_S, requests: float = 10_000.0) -> ErrorBudget:
    """Return a budget of 1 % late requests, with the same late share in every window."""
    count = RequestCount(measured_s, requests, late * requests)
    return ErrorBudget(0.99, {"ttft_s": 1.0}, dict.fromkeys((*BURN_WINDOWS_S, 28 * DAY_S), count), NOW)


def tick(at_s: float = 0.0, **conditions: Any) -> Tick:
    """Return a tick `at_s` after `NOW`."""
    given = {"slo": None, "errors": {}, "pool_errors": {}, "result": Result.UNCHANGED, "steps": (), **conditions}
    at = NOW + at_s
    status = PoolStatus(2, 2, shortfall=given.get("shortfall"))
    readings = {GPUS: Fresh(status, at)}
    errors: Mapping[str, str] = given["errors"]
    observation = Observation(WorkloadName("chat"), at, {}, readings, errors, given["pool_errors"], None, given["slo"])
    steps = tuple(Step(rule, 2.0, reason) for rule, reason in given["steps"])
    demand, target = given.get("demand", 2.0), given.get("target", 2)
    decision = Decision(at, (), demand, 2, True, True, 2, 2, target, steps, {GPUS: 2})
    outcome = Outcome(GPUS, 2, 2, given["result"], given.get("reason", ""))
    return Tick("abc", observation, decision, (outcome,), 0, 0.0, 0.0, given.get("clock_step_s", 0.0))


QUOTA = Shortfall(NOW, "VcpuLimitExceeded: 64 vCPUs", quota=True)
BUDGET = (RuleId.BUDGET, "budget.gpus is 8, 8 in use: no growth beyond 2 replicas")
