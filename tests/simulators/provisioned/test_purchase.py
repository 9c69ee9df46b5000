"""Arithmetic of provisioned throughput: spillover, cost curves, terms and break-evens."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.provisioned.purchase import (
    TermPrice,
    UnitPurchase,
    break_even_load,
    break_even_use,
    buy,
    cost_curve,
    sizes,
)
from simulators.provisioned.spillover import UnitLoad
from tests.laws import law
from tests.simulators.provisioned.inputs import unit_loads

LOADS = st.lists(st.floats(0.0, 500.0), min_size=1, max_size=40)
PRICES = st.floats(0.05, 2.0)
BOUNDS = st.tuples(st.integers(1, 60), st.integers(1, 30))


@st.composite
def mixed_loads(draw: st.DrawFn) -> UnitLoad:
    """Draw a load whose tokens have another price and another share of the week in each sample."""
    units = np.array(draw(LOADS))
    count = len(units)
    rates = np.array(draw(st.lists(st.floats(0.1, 3.0), min_size=count, max_size=count)))
    weights = np.array(draw(st.lists(st.floats(0.1, 5.0), min_size=count, max_size=count)))
    return UnitLoad(units, units * rates, units * 1000.0, weights / weights.sum())


def test_two_samples_spill_by_hand() -> None:
    load = unit_loads([10.0, 30.0])
    assert load.spill_usd(np.array([0.0, 10.0, 20.0, 30.0])).tolist() == pytest.approx([20.0, 10.0, 5.0, 0.0])
    assert load.spilled_share(20.0) == pytest.approx(10.0 / 40.0)
    assert load.shares(20.0).tolist() == pytest.approx([0.0, 1.0 / 3.0])


@pytest.mark.slow
@law(40)
@given(mixed_loads(), st.floats(0.1, 600.0))
def test_spill_cost_is_the_sum_over_the_samples(load: UnitLoad, held: float) -> None:
    direct = float((load.usd_per_hour * load.weights) @ load.shares(held))
    assert load.spill_usd(np.array([held]))[0] == pytest.approx(direct, abs=1e-6)


@pytest.mark.slow
@law(40)
@given(mixed_loads(), st.floats(0.0, 100.0))
def test_nothing_spills_from_the_peak_on(load: UnitLoad, spare: float) -> None:
    held = load.peak + spare + 1e-9
    assert load.spill_usd(np.array([held]))[0] == 0.0
    assert load.spilled_share(held) == 0.0


def test_a_sample_without_load_in_units_is_pay_as_you_go_only_without_units() -> None:
    load = UnitLoad(np.zeros(1), np.array([3.0]), np.array([500.0]), np.ones(1))
    assert load.spill_usd(np.array([0.0, 1.0])).tolist() == [3.0, 0.0]


@pytest.mark.slow
@law(40)
@given(mixed_loads(), PRICES, st.integers(1, 30))
def test_cost_curve_is_convex(load: UnitLoad, price: float, step: int) -> None:
    slopes = np.diff(cost_curve(load, sizes(load.peak + 3 * step, step, step, None), price))
    assert (np.diff(slopes) >= -1e-6).all()


@pytest.mark.slow
@law(40)
@given(mixed_loads(), PRICES, BOUNDS)
def test_purchase_in_one_term_has_the_minimum_of_the_cost_curve(
    load: UnitLoad, price: float, bounds: tuple[int, int]
) -> None:
    available = sizes(load.peak, *bounds, None)
    purchase = buy(load, {"only": TermPrice(1.0, price)}, available, 0.5)
    assert purchase.usd_per_hour(load) == pytest.approx(float(cost_curve(load, available, price).min()), abs=1e-6)


@pytest.mark.slow
@law(40)
@given(mixed_loads(), PRICES, PRICES, PRICES, BOUNDS, st.floats(0.0, 0.9))
def test_purchase_never_costs_more_than_pay_as_you_go_now_or_after_the_fall_for_commitments(
    load: UnitLoad, hour: float, month: float, year: float, bounds: tuple[int, int], fall: float
) -> None:
    terms = {"hour": TermPrice(1.0, hour), "month": TermPrice(730.0, month), "year": TermPrice(8760.0, year)}
    purchase = buy(load, terms, sizes(load.peak, *bounds, None), fall)
    assert purchase.usd_per_hour(load) <= load.pay_as_you_go + 1e-6
    committed = {name: units for name, units in purchase.held.items() if name != "hour"}
    alone = UnitPurchase(committed, sum(units * terms[name].usd_per_unit_hour for name, units in committed.items()))
    fallen = load.scaled(1.0 - fall)
    assert alone.usd_per_hour(fallen) <= fallen.pay_as_you_go + 1e-6
    assert purchase.units in sizes(load.peak, *bounds, None)


@pytest.mark.slow
@law(40)
@given(
    st.lists(st.floats(0.0, 4.0), min_size=1, max_size=6), st.lists(PRICES, min_size=1, max_size=3), st.integers(1, 4)
)
def test_purchase_has_the_minimum_cost_of_an_exhaustive_search(
    heights: list[float], prices: list[float], step: int
) -> None:
    load = unit_loads([step * height for height in heights])
    terms = {f"t{k}": TermPrice(1.0, price) for k, price in enumerate(prices)}
    available = sizes(load.peak, step, step, None)
    costs = []
    for choice in itertools.product([None, *prices], repeat=len(available) - 1):
        held = [price for price in choice if price is not None]
        spilled = load.spill_usd(np.array([float(step * len(held))]))
        costs.append(step * sum(held) + float(spilled[0]))
    assert buy(load, terms, available, 0.0).usd_per_hour(load) == pytest.approx(min(costs), abs=1e-9)


def test_a_commitment_must_withstand_the_fall_and_the_hour_need_not() -> None:
    """The last ten units are in use all the time, and never after a fall by a fifth."""
    load = unit_loads([50.0])
    terms = {"hour": TermPrice(1.0, 0.9), "year": TermPrice(8760.0, 0.5)}
    available = sizes(50.0, 10, 10, None)
    assert buy(load, terms, available, 0.2).held == {"year": 40, "hour": 10}
    assert buy(load, terms, available, 0.0).held == {"year": 50}
    assert buy(load, {"year": terms["year"]}, available, 0.2).held == {"year": 40}


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((42.0, 15, 5, None), [0, 15, 20, 25, 30, 35, 40, 45]),
        ((42.0, 15, 5, 33), [0, 15, 20, 25, 30]),
        ((3.0, 15, 5, None), [0, 15]),
        ((42.0, 15, 5, 10), [0]),
        ((0.0, 1, 1, None), [0, 1]),
    ],
)
def test_sizes_start_at_the_minimum_and_follow_the_step(
    bounds: tuple[float, int, int, int | None], expected: list[int]
) -> None:
    assert sizes(*bounds).tolist() == expected


def test_break_even_use_by_hand() -> None:
    assert break_even_use(unit_loads([10.0, 20.0], 0.36), 0.30) == pytest.approx(0.30 / 0.36)
    assert break_even_use(unit_loads([0.0]), 0.30) == float("inf")


@pytest.mark.slow
@law(40)
@given(mixed_loads(), PRICES, BOUNDS)
def test_break_even_load_is_where_both_costs_are_equal(load: UnitLoad, price: float, bounds: tuple[int, int]) -> None:
    purchase = buy(load, {"only": TermPrice(8760.0, price)}, sizes(load.peak, *bounds, None), 0.0)
    factor = break_even_load(purchase, load)
    if not purchase.units:
        assert factor == 0.0
        return
    at = load.scaled(factor)
    assert factor <= 1.0
    assert purchase.usd_per_hour(at) == pytest.approx(at.pay_as_you_go, rel=1e-6)
    below = load.scaled(0.9 * factor)
    assert purchase.usd_per_hour(below) > below.pay_as_you_go


def test_a_purchase_that_never_pays_has_no_break_even_load() -> None:
    assert break_even_load(UnitPurchase({"year": 10}, 1000.0), unit_loads([10.0])) == float("inf")
    assert break_even_load(UnitPurchase({"year": 10}, 20.0), unit_loads([10.0])) == float("inf")
    assert break_even_load(UnitPurchase({"year": 100}, 20.0), unit_loads([10.0])) == pytest.approx(2.0)
