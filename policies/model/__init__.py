"""The records of a tick: readings, observation, recommendation, decision, outcome.

All records are frozen. Times are seconds since the Unix epoch on the controller's clock; shares are 0 to 1.
"""

from policies.model.decision import Decision, Step
from policies.model.error_budget import ErrorBudget, RequestCount, SloState
from policies.model.names import PolicyName, PoolName, SignalName, WorkloadName
from policies.model.observation import Grant, Observation, PoolPart, PoolStatus, Quota, Shortfall
from policies.model.readings import Absent, Fresh, Reading, Stale
from policies.model.recommendation import Evidence, Recommendation
from policies.model.rule_id import RuleId
from policies.model.tick import Outcome, Result, Tick

__all__ = [
    "Absent",
    "Decision",
    "ErrorBudget",
    "Evidence",
    "Fresh",
    "Grant",
    "Observation",
    "Outcome",
    "PolicyName",
    "PoolName",
    "PoolPart",
    "PoolStatus",
    "Quota",
    "Reading",
    "Recommendation",
    "RequestCount",
    "Result",
    "RuleId",
    "Shortfall",
    "SignalName",
    "SloState",
    "Stale",
    "Step",
    "Tick",
    "WorkloadName",
]
