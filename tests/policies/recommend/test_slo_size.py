"""The size with the planned share of late requests."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model.pool import Pool
from policies.recommend.predictive.latency_model import LearnedLatency
from policies.recommend.predictive.policy import Predictive
from policies.recommend.predictive.slo_size import REACH, SloPlan, demand_parts, has_whole_replicas, largest_quantile
from tests.factories import spec
from tests.laws import LAW

MODEL = LearnedLatency.from_memory("itl_s", {})
LIMIT_S = 0.05
CERTAIN, HALF = np.array([1.0]), np.array([0.5, 0.5])


def plan(planned: float = 0.002, allowed: float = 0.01, limit_s: float = LIMIT_S) -> SloPlan:
    return SloPlan({"itl_s": MODEL}, {"itl_s": limit_s}, MODEL.limit(LIMIT_S, 0.99), math.inf, allowed, planned)


def test_certain_demand_needs_as_many_replicas_as_the_latency_model_says() -> None:
    """At a planned share of the allowed 1 %, replicas are filled to their limit, and less at 0.1 %."""
    assert plan(0.01).size(np.array([4.0]), CERTAIN) == pytest.approx(4.0, rel=0.02)
    expected = 4.0 * MODEL.limit(LIMIT_S, 0.99) / MODEL.limit(LIMIT_S, 0.999)
    assert plan(0.001).size(np.array([4.0]), CERTAIN) == pytest.approx(expected, rel=0.02)


def test_expected_late_share_at_the_size_is_the_planned_share() -> None:
    demand, sloplan = np.array([3.0, 5.0]), plan()
    load = sloplan.replica_load * demand / sloplan.size(demand, HALF)
    late = MODEL.late_shares(LIMIT_S, load)
    assert float(late @ (HALF * demand) / (HALF @ demand)) == pytest.approx(0.002, rel=0.05)


def late_share(sloplan: SloPlan, size: float, demand: float) -> float:
    return float(MODEL.late_shares(LIMIT_S, np.array(sloplan.replica_load * demand / size)))


@pytest.mark.parametrize("demand", np.linspace(0.5, 12.0, 47).tolist())
def test_whole_sizes_are_rounded_down_where_few_requests_are_late(demand: float) -> None:
    exact = plan().size(np.array([demand]), CERTAIN)
    whole = dataclasses.replace(plan(), whole=True)
    size = whole.size(np.array([demand]), CERTAIN)
    if size == exact:
        assert exact <= 1.0 or late_share(whole, math.floor(exact), demand) > 0.005 * 0.95
    else:
        assert size == math.floor(exact)
        assert late_share(whole, size, demand) <= 0.005 * 1.05


def test_rounding_never_plans_for_more_late_requests_than_allowed() -> None:
    spending = dataclasses.replace(plan(planned=0.008), whole=True)
    for demand in np.linspace(1.0, 12.0, 45).tolist():
        assert late_share(spending, math.ceil(spending.size(np.array([demand]), CERTAIN)), demand) <= 0.01 * 1.05


def test_replicas_are_whole_where_every_serving_pool_counts_them_as_one() -> None:
    whole, half = Pool(), Pool(work_per_replica=0.5)
    policies = {"predictive": Predictive(source="e")}
    assert has_whole_replicas(spec(policies, {"a": whole}))
    assert not has_whole_replicas(spec(policies, {"a": whole, "b": half}))
    assert not has_whole_replicas(None)


def test_likely_peak_is_covered_and_an_unlikely_one_is_not() -> None:
    demand = np.array([4.0, 8.0])
    likely, unlikely = (plan().size(demand, np.array([1.0 - p, p])) for p in (0.1, 0.0001))
    assert likely > 7.0
    assert unlikely < 5.5


def test_strict_slo_reads_more_of_the_tail() -> None:
    assert demand_parts(0.01).levels[-1] == pytest.approx(0.975)
    assert demand_parts(0.001).levels[-1] == pytest.approx(0.9975)
    assert demand_parts(0.05).levels[-1] == pytest.approx(0.875)
    for allowed in (1e-6, 0.001, 0.01, 0.3):
        assert demand_parts(allowed).probabilities.sum() == pytest.approx(1.0)


def test_largest_quantile_follows_cost_ratio_and_slo() -> None:
    assert largest_quantile(19.0, 0.01) == pytest.approx(0.95)
    assert largest_quantile(4.0, 0.1) == pytest.approx(0.8)
    assert largest_quantile(19.0, 0.001) == pytest.approx(0.995)


def test_no_demand_needs_no_replicas() -> None:
    assert plan().size(np.zeros(2), HALF) == 0.0


@LAW
@given(
    st.lists(st.floats(0.0, 1e6), min_size=2, max_size=2),
    st.floats(1e-6, 0.5),
    st.floats(1e-3, 100.0),
)
def test_size_is_bounded_and_falls_with_the_planned_share(demands: list[float], planned: float, limit_s: float) -> None:
    demand = np.array(sorted(demands))
    size, smaller = (
        plan(planned, limit_s=limit_s).size(demand, HALF),
        plan(planned * 2, limit_s=limit_s).size(demand, HALF),
    )
    assert 0.0 <= smaller <= size * (1.0 + 1e-9)
    assert size <= REACH * demand.max() * (1.0 + 1e-6)
