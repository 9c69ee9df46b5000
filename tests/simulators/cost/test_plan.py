"""Purchase plans: break-evens by hand, and the minimum cost against an exhaustive search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.cost.curve import LoadDurationCurve
from simulators.cost.plan import Prices, by_reserved, cheapest, cost_under

SHARES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6).map(lambda s: sorted(s, reverse=True))


def of(*shares: float) -> LoadDurationCurve:
    return LoadDurationCurve(np.array(shares), 100.0)


@pytest.mark.parametrize(("share", "market"), [(0.61, "reserved"), (0.59, "on_demand")])
def test_a_replica_is_reserved_above_its_break_even_share(share: float, market: str) -> None:
    assert cheapest(of(share), Prices(on_demand=10.0, reserved=6.0), 0.5).markets == (market,)


def test_spot_share_never_exceeds_its_maximum_for_any_prefix_of_the_plan() -> None:
    plan = cheapest(of(1.0, 1.0, 1.0, 1.0), Prices(on_demand=10.0, spot=3.0), 0.5)
    assert plan.count("spot") == 2
    assert [plan.markets[:k].count("spot") <= k / 2 for k in range(1, 5)] == [True] * 4
    assert cheapest(of(1.0, 1.0), Prices(on_demand=10.0, spot=3.0), 0.0).count("spot") == 0
    assert cheapest(of(1.0, 1.0), Prices(on_demand=10.0, spot=3.0), 1.0).count("spot") == 2


def test_spot_replaces_the_replica_with_the_largest_saving() -> None:
    """The base is almost as cheap reserved, so the only spot replica replaces the on-demand one."""
    plan = cheapest(of(1.0, 0.55), Prices(on_demand=10.0, reserved=6.0, spot=5.9), 0.5)
    assert plan.markets == ("reserved", "spot")
    assert plan.usd_per_hour == pytest.approx(6.0 + 0.55 * 5.9)


@given(
    SHARES,
    st.floats(1.0, 20.0),
    st.none() | st.floats(0.5, 20.0),
    st.none() | st.floats(0.5, 20.0),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_plan_has_the_minimum_cost_of_an_exhaustive_search(
    shares: list[float], on_demand: float, reserved: float | None, spot: float | None, max_share: float
) -> None:
    result = cheapest(of(*shares), Prices(on_demand, reserved, spot), max_share)
    markets = ["on_demand"] + ["reserved"] * (reserved is not None) + ["spot"] * (spot is not None)
    costs = []
    for assignment in itertools.product(markets, repeat=len(shares)):
        if all(assignment[:k].count("spot") <= max_share * k + 1e-9 for k in range(1, len(assignment) + 1)):
            price = {"on_demand": on_demand, "reserved": reserved or 0.0, "spot": spot or 0.0}
            held = [1.0 if m == "reserved" else s for m, s in zip(assignment, shares, strict=True)]
            costs.append(sum(price[m] * h for m, h in zip(assignment, held, strict=True)))
    assert result.usd_per_hour == pytest.approx(min(costs))


@given(SHARES, st.floats(1.0, 20.0), st.floats(0.5, 20.0))
def test_the_plan_reserves_the_cost_minimizing_number_of_replicas(
    shares: list[float], on_demand: float, reserved: float
) -> None:
    prices = Prices(on_demand, reserved)
    costs, plan = by_reserved(of(*shares), prices), cheapest(of(*shares), prices, 0.5)
    assert plan.usd_per_hour == pytest.approx(min(costs))
    assert costs[plan.count("reserved")] == pytest.approx(min(costs))


def test_reserved_replicas_are_paid_for_when_the_load_falls() -> None:
    prices = Prices(on_demand=10.0, reserved=6.0)
    plan = cheapest(of(1.0, 0.9, 0.2), prices, 0.5)
    assert plan.markets == ("reserved", "reserved", "on_demand")
    assert cost_under(plan, of(1.0, 0.9, 0.2), prices) == pytest.approx(plan.usd_per_hour)
    assert cost_under(plan, of(0.5), prices) == pytest.approx(12.0)
    assert cost_under(plan, of(1.0, 1.0, 1.0, 0.5), prices) == pytest.approx(12.0 + 10.0 + 5.0), (
        "replicas beyond the plan are on demand"
    )
