"""A record as text, figures and a page, with any data missing and any text in its reasons."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import RuleId, Step
from simulators.backtest import figures
from simulators.backtest import text as report_text
from simulators.backtest.backtest import BacktestOptions, BacktestResult, backtest
from simulators.backtest.counterfactuals import RequestedContenders
from simulators.backtest.page import page
from simulators.backtest.plots import MAX_POINTS, thinned
from simulators.backtest.reasons import Reasons
from simulators.backtest.recorded_run import MAX_GAP_INTERVALS
from simulators.commands.shared_options import without_nan
from tests.laws import law
from tests.simulators.backtest.recorded_runs import BEGAN, NAN, make_recorded_run
from tests.simulators.backtest.test_reasons import DECISION
from tests.simulators.reporting.test_report import script_of

HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


def all_output(result: BacktestResult) -> str:
    """Return all output about a record."""
    json_text = json.dumps(without_nan(figures.as_dict([result], {})), allow_nan=False)
    return "\n".join([json_text, *report_text.lines(result), script_of(page([result], {}))])


@st.composite
def records(draw: st.DrawFn) -> BacktestResult:
    """Draw records with missing data and gaps of any length."""
    ticks, missing = draw(st.integers(4, 60)), draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def column() -> list[float]:
        values = np.round(rng.exponential(10.0, ticks) * rng.integers(0, 2, ticks), 2)
        return np.where(rng.random(ticks) < missing, NAN, values).tolist()  # type: ignore[no-any-return]

    def flags() -> list[float]:
        return (rng.random(ticks) < 0.3).astype(np.float64).tolist()  # type: ignore[no-any-return]

    at = BEGAN + np.cumsum(np.where(rng.random(ticks) < 0.2, 900.0, 15.0))
    columns = {name: column() for name in ("demand", "work", "target", "ready")}
    columns |= {name: flags() for name in ("blind", "refused", "short", "dry_run")}
    sizes = {name: column() for name in ("desired", "ready", "interrupted", "reserved")}
    readings = {f"engines.{name}": column() for name in ("running", "waiting", "requests_per_s", "ttft_p95_s")}
    record = make_recorded_run(ticks, columns={**columns, "at": at.tolist()}, pools={"gpus": sizes}, readings=readings)
    return backtest(record, BacktestOptions(simulate=False), RequestedContenders())


@pytest.mark.slow
@law(8)
@given(records())
def test_missing_data_does_not_hide_other_figures(result: BacktestResult) -> None:
    text = all_output(result)
    assert "nan" not in " ".join(report_text.lines(result)).split()
    if result.summary.total(result.summary.usd) is None:
        assert "unknown" in text
    for period in result.notable:
        assert math.isfinite(period.amount)
        assert period.amount > 0


@law(40)
@given(records())
def test_plot_lines_are_broken_at_every_gap(result: BacktestResult) -> None:
    record = result.recorded
    at, values = thinned(record, np.ones(len(record)), np.fmax)
    assert (np.diff(at) >= 0).all()
    for k in np.flatnonzero(np.diff(record.at) > MAX_GAP_INTERVALS * record.interval_s):
        within = (at > record.at[k]) & (at < record.at[k + 1])
        assert np.isnan(values[within]).any(), "the line is broken in every gap"
    assert np.isfinite(values).sum() <= MAX_POINTS + len(record)


def test_long_records_are_thinned_to_the_worst_value_of_each_interval() -> None:
    ticks = 50_000
    record = make_recorded_run(ticks)
    values = np.zeros(ticks)
    values[31_234] = 7.0
    at, thinned_values = thinned(record, values, np.fmax)
    assert len(at) <= MAX_POINTS
    assert thinned_values.max() == 7.0


def test_markup_in_reasons_is_escaped() -> None:
    reasons = Reasons()
    steps = (Step(RuleId.DEMAND, 4, HOSTILE),)
    reasons.record(dataclasses.replace(DECISION, current=2, target=4, steps=steps))
    record = dataclasses.replace(make_recorded_run(), reasons=reasons)
    html = page([backtest(record, BacktestOptions(simulate=False), RequestedContenders())], {HOSTILE: HOSTILE})
    assert HOSTILE not in html
    assert "&lt;script&gt;window.hacked" in html


def test_the_worst_periods_over_all_workloads_come_first() -> None:
    def late(name: str, requests: float, **columns: list[float]) -> BacktestResult:
        readings = {"engines.requests_per_s": [requests] * 8, "engines.ttft_p95_s": [0.1] * 4 + [60.0] * 4}
        record = make_recorded_run(8, columns=columns, readings=readings, workload=name)
        return backtest(record, BacktestOptions(simulate=False), RequestedContenders())

    rows = report_text.notable_overall([late("few", 5.0, refused=[1.0] * 8), late("many", 50.0)])
    kinds = [row[0] for row in rows]
    assert kinds == sorted(kinds, key=["SLO violations", "rejected writes"].index)
    assert rows[0][1] == "many"
    assert kinds.count("SLO violations") <= 3
    assert {row[1] for row in rows if row[0] == "rejected writes"} == {"few"}
