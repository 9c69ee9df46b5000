"""Charts: thinning keeps peaks, a spike compresses its axis, and large pages stay small."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simulators.backtest.backtest import BacktestOptions, backtest
from simulators.backtest.counterfactuals import RequestedContenders
from simulators.backtest.page import page as backtest_page
from simulators.reporting.charts import Axis, Chart, Series, json_numbers, kept, knee, thinned
from simulators.reporting.page import page_of_runs
from simulators.reporting.run_data import run_data
from simulators.reporting.time_bins import Floats, rounded
from simulators.world.traffic.plot import page as trace_page
from simulators.world.traffic.trace import RequestTrace
from tests.simulators.backtest.recorded_runs import make_recorded_run
from tests.simulators.reporting.test_report import MAX_BYTES, charts_of, crowd

VALUES = arrays(float, st.integers(1, 400), elements=st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))))


def peak_of(chart: dict[str, Any], name: str) -> float:
    """Return the largest known value of a chart's series."""
    values = next(s["y"] for s in chart["series"] if s["name"] == name)
    return float(max(value for value in values if value is not None))


@given(VALUES, st.integers(2, 60))
def test_thinning_keeps_the_extremes_the_ends_and_a_gap(values: Floats, points: int) -> None:
    rows = kept(values, points)
    assert len(rows) <= max(points, 2) * 1.5 + 2
    assert (np.diff(rows) > 0).all()
    assert {rows[0], rows[-1]} == {0, len(values) - 1}
    thin = values[rows]
    assert np.isnan(thin).any() == np.isnan(values).any()
    if np.isfinite(values).any():
        assert (np.nanmax(thin), np.nanmin(thin)) == (np.nanmax(values), np.nanmin(values))


def test_stacked_series_keep_the_same_times_and_the_peak_of_their_sum() -> None:
    x, lower, upper = np.arange(1000.0), np.ones(1000), np.ones(1000)
    lower[500], upper[500] = 30.0, 40.0
    stacked = [Series(name=n, x=x, y=y, colour="c1", shape="stack") for n, y in (("a", lower), ("b", upper))]
    a, b = thinned(stacked, 20)
    assert a.x.tolist() == b.x.tolist()
    assert (a.y + b.y).max() == 70.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.append(np.full(98, 10.0), [400.0, 400.0])], 11.5),
        ([np.full(100, 10.0)], None),
        ([np.append(np.full(99, 10.0), 25.0)], None),
        ([np.full(50, 12.0), np.full(50, 14.0), np.full(50, 7000.0)], 16.1),
        ([np.append(np.full(98, 1e-6), [400.0, 400.0])], None),
        ([np.full(5, np.nan)], None),
        ([np.zeros(5)], None),
        ([], None),
    ],
)
def test_an_axis_is_compressed_above_the_normal_range_only_for_a_spike(
    values: list[Floats], expected: float | None
) -> None:
    assert knee(values) == (None if expected is None else pytest.approx(expected))


def test_an_axis_with_fixed_ends_or_a_logarithm_is_not_compressed() -> None:
    y = np.append(np.full(99, 1.0), 1000.0)
    series = [Series(name="a", x=np.arange(100.0), y=y, colour="c1")]
    for axis in (Axis(title="", high=1.0), Axis(title="", kind="log")):
        assert json.loads(Chart(x=Axis(title=""), y=axis, series=series).script(50))["y"]["knee"] is None
    data = json.loads(Chart(x=Axis(title=""), y=Axis(title=""), series=series).script(50))
    assert data["y"]["knee"] == pytest.approx(1.15)
    assert max(data["series"][0]["y"]) == 1000


def test_chart_data_cannot_end_its_script_and_has_no_nan() -> None:
    series = [Series(name="</script><b>", x=np.array([0.0, 1.0]), y=np.array([np.nan, np.inf]), colour="c1")]
    text = Chart(x=Axis(title=""), y=Axis(title=""), series=series).script(9)
    assert "<" not in text
    assert json.loads(text)["series"][0]["y"] == [None, None]
    assert json_numbers(np.array([2.0, 0.123456789])) == [2, 0.123457]


@pytest.mark.slow
def test_a_page_of_thirty_runs_is_small_and_has_every_peak() -> None:
    data = run_data("run", crowd())
    text = page_of_runs([dataclasses.replace(data, name=f"policy-{k}") for k in range(30)])
    assert len(text.encode()) < MAX_BYTES
    charts = charts_of(text)
    for k in range(30):
        for name, values in (("demand", data.sizes.demand), ("desired", data.sizes.desired)):
            peak = float(rounded(np.array([np.nanmax(values)]))[0])
            assert peak_of(charts[f"run{k}-sizes"], name) == peak


@pytest.mark.slow
def test_a_page_of_a_long_record_is_small_and_has_the_peak() -> None:
    ticks = 60_000
    desired = 5.0 + np.sin(np.arange(ticks) / 900.0)
    desired[31_234] = 977.0
    pools = {"gpus": {"desired": desired.tolist(), "ready": desired.tolist()}}
    record = make_recorded_run(ticks, pools=pools)
    result = backtest(record, BacktestOptions(simulate=False), RequestedContenders())
    text = backtest_page([result] * 12, {})
    assert len(text.encode()) < MAX_BYTES
    charts = charts_of(text)
    for k in range(12):
        chart = charts[f"w{k}-record-sizes"]
        assert peak_of(chart, "desired") == 977
        assert (chart["right"] or chart["y"])["knee"] < 10


@pytest.mark.slow
def test_a_page_of_a_long_trace_is_small_and_has_the_busiest_second() -> None:
    rng = np.random.default_rng(1)
    usual, burst = rng.uniform(0, 30 * 86_400, 300_000), rng.uniform(5e5, 5e5 + 0.9, 700)
    arrival = np.sort(np.concatenate((usual, burst)).astype(np.float64)).round(3)
    tokens = rng.integers(1, 4000, len(arrival)).astype(np.int32)
    text = trace_page(RequestTrace(arrival, tokens, tokens))
    assert len(text.encode()) < MAX_BYTES
    assert peak_of(charts_of(text)["rate"], "highest second") >= 700
