"""Contract of every policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from policies.history.ticks import History
from policies.model import Absent, Evidence, Fresh, PolicyName, Reading, Recommendation, SignalName, Stale
from policies.pipeline import decide
from policies.recommend.context import PolicyContext
from tests.contracts.frozen import frozen
from tests.factories import NOW, seen, spec, tick_of

POLICY_NAME = PolicyName("me")


class PolicyContract:
    """Subclass it as ``TestMyPolicy`` with the `policy` and readings that make it recommend replicas (`busy`)."""

    policy: ClassVar[Any]
    busy: ClassVar[Mapping[str, float]] = {}

    def recommend(self, readings: Mapping[str, Reading[float]], ready: int | None = 4) -> Recommendation:
        signals = {SignalName(n): r for n, r in readings.items()}
        demand = 3.0 if self.policy.post_demand else None
        result: Recommendation = self.policy.recommend(
            POLICY_NAME, PolicyContext(NOW, signals, ready, ready, demand, History())
        )
        return result

    def fresh(self) -> dict[str, Reading[float]]:
        return {n: Fresh(v, NOW) for n, v in self.busy.items()}

    def test_recommendation_has_replicas_and_a_reason(self) -> None:
        result = self.recommend(self.fresh())
        assert result.policy == POLICY_NAME
        assert result.replicas is not None
        assert result.replicas > 0
        assert result.evidence is Evidence.FULL
        assert result.reason

    def test_equal_contexts_give_equal_recommendations(self) -> None:
        assert self.recommend(self.fresh()) == self.recommend(self.fresh())

    def test_recommendation_names_the_used_signals(self) -> None:
        assert set(self.recommend(self.fresh()).used) == set(self.busy)

    def test_evidence_is_blind_without_a_fresh_signal(self) -> None:
        if not self.busy:
            pytest.skip("reads no signal")
        absent: Mapping[str, Reading[float]] = dict.fromkeys(self.busy, Absent("gone"))
        stale = {n: Stale(v, NOW - 100, 100.0) for n, v in self.busy.items()}
        for readings in ({}, absent, stale):
            result = self.recommend(readings)
            assert (result.replicas, result.evidence, result.active) == (
                None,
                Evidence.BLIND,
                False,
            )

    def test_missing_signal_reduces_the_evidence(self) -> None:
        for name in self.busy:
            result = self.recommend({**self.fresh(), name: Absent("gone")})
            assert result.evidence is not Evidence.FULL

    def test_measured_zero_recommends_no_replicas(self) -> None:
        if not self.busy:
            pytest.skip("reads no signal")
        result = self.recommend({n: Fresh(0.0, NOW) for n in self.busy})
        assert (result.active, result.evidence) == (False, Evidence.FULL)
        if self.policy.owns_stabilization:  # its windows may hold the size, and its steps may be small
            assert result.need is not None
            assert result.need <= 4
        else:
            assert result.replicas == 0.0

    def test_unstabilized_value_needs_own_stabilization(self) -> None:
        result = self.recommend(self.fresh())
        assert (result.unstabilized is not None) <= self.policy.owns_stabilization
        assert self.policy.lookback_s >= 0

    def test_memory_is_finite_and_has_no_absolute_times(self) -> None:
        for value in self.recommend(self.fresh()).memory.values():
            assert 0 <= abs(value) < 1e6

    def test_decision_does_not_change_the_history(self) -> None:
        history, workload = History(), spec({POLICY_NAME: self.policy})
        for k in range(4):
            observation = seen(self.fresh(), 4, at=NOW - 60.0 + 15.0 * k)
            before = frozen(history)
            decision = decide(workload, history, observation)
            assert frozen(history) == before
            history.append(tick_of(observation, decision))
        assert frozen(history) != before

    def test_policy_reports_activity_at_zero_replicas_or_cannot_activate(self) -> None:
        result = self.recommend(self.fresh(), ready=0)
        if not self.policy.can_activate:
            assert not result.active
        elif self.busy:
            assert result.active
