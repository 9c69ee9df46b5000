"""Reconstructed requests compared with the actual ones, and counterfactuals with the truth."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from policies.model import WorkloadName
from scaler.config.problems import ConfigError
from simulators.backtest import figures
from simulators.backtest.backtest import BacktestOptions, BacktestResult, backtest, contenders_by_workload
from simulators.backtest.counterfactuals import PRESENT, SAME_SIZES, CounterfactualOutcome, RequestedContenders
from simulators.backtest.engines import EngineUnknown, infer_engine, scaled_times
from simulators.backtest.journals import read
from simulators.backtest.page import page
from simulators.backtest.reconstruct import ArrivalsUnknown, AssumedLengths, Rebuilt, rebuild
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.text import comparison
from simulators.engine.models import catalogue
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.results import summarize
from simulators.experiments.run import simulate, traffic_of
from simulators.experiments.scenario import load
from tests.simulators.backtest import recorded_runs

pytestmark = pytest.mark.slow

LENGTHS = (1000.0, 200.0)


@cache
def record(until: float = math.inf) -> RecordedRun:
    (run,) = read([recorded_runs.period().journal], -math.inf, until, None).recorded
    return run


@cache
def rebuilt() -> Rebuilt:
    return rebuild(record(), catalogue.load(recorded_runs.MODEL), AssumedLengths(), 1)


@cache
def result() -> BacktestResult:
    return backtest(
        record(), BacktestOptions(model=recorded_runs.MODEL), RequestedContenders(texts=("static:replicas=3",))
    )


def outcome(name: str) -> CounterfactualOutcome:
    assert result().counterfactuals is not None
    return next(o for o in result().counterfactuals.outcomes if o.name == name)  # type: ignore[union-attr]


def without(*quantities: str) -> RecordedRun:
    readings = {name: values for name, values in record().readings.items() if name.partition(".")[2] not in quantities}
    return dataclasses.replace(record(), readings=readings)


# --- requests


def test_reconstructed_requests_match_the_actual_count_and_arrival_times() -> None:
    actual, trace = recorded_runs.period().run.trace, rebuilt().trace
    assert len(trace) == pytest.approx(len(actual), rel=0.02)
    edges = np.arange(0, 5400, 300.0)
    arrived, drawn = (np.histogram(t.arrival_s, edges)[0] for t in (actual, trace))
    assert np.abs(drawn - arrived).sum() / arrived.sum() < 0.06
    assert rebuilt().covered == pytest.approx(1.0, abs=0.02)


def test_reconstructed_token_lengths_match_the_token_rates() -> None:
    actual, trace = recorded_runs.period().run.trace, rebuilt().trace
    for column in ("prompt_tokens", "output_tokens"):
        assert getattr(trace, column).mean() == pytest.approx(getattr(actual, column).mean(), rel=0.05)


def test_given_lengths_override_the_token_rates() -> None:
    rebuilt_ = rebuild(record(), catalogue.load(recorded_runs.MODEL), AssumedLengths(500.0, 50.0), 1)
    assert rebuilt_.trace.prompt_tokens.mean() == pytest.approx(500.0, rel=0.03)
    assert rebuilt_.trace.output_tokens.mean() == pytest.approx(50.0, rel=0.03)
    assert "as set by the options" in rebuilt_.assumptions[1]


def test_default_lengths_are_marked() -> None:
    assert not rebuilt().default_lengths
    model, run = catalogue.load(recorded_runs.MODEL), without("generation_tokens_per_s")
    assert rebuild(run, model, AssumedLengths(), 1).default_lengths
    assert not rebuild(run, model, AssumedLengths(output_tokens=50.0), 1).default_lengths


def test_without_rates_requests_are_inferred_from_those_running() -> None:
    """Little's law with the model's time for a request: the truth within a tenth."""
    run = without("requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s")
    actual = recorded_runs.period().run.trace
    lengths = AssumedLengths(float(actual.prompt_tokens.mean()), float(actual.output_tokens.mean()))
    rebuilt_ = rebuild(run, catalogue.load(recorded_runs.MODEL), lengths, 1)
    assert len(rebuilt_.trace) == pytest.approx(len(actual), rel=0.1)
    assert "over the model's service time" in rebuilt_.assumptions[0]


def test_reconstruction_is_reproducible_per_seed() -> None:
    model = catalogue.load(recorded_runs.MODEL)
    assert rebuild(record(), model, AssumedLengths(), 1).trace.digest() == rebuilt().trace.digest()
    assert rebuild(record(), model, AssumedLengths(), 2).trace.digest() != rebuilt().trace.digest()


def test_reconstruction_requires_enough_readings() -> None:
    with pytest.raises(ArrivalsUnknown, match="arrivals cannot be rebuilt"):
        rebuild(without("requests_per_s", "running"), catalogue.load(recorded_runs.MODEL), AssumedLengths(), 1)
    readings = {name: np.where(np.arange(len(v)) % 40 == 0, v, np.nan) for name, v in record().readings.items()}
    with pytest.raises(
        ArrivalsUnknown, match=r"readings cover \d+% of the period, but rebuilding the arrivals needs 50%"
    ):
        rebuild(
            dataclasses.replace(record(), readings=readings), catalogue.load(recorded_runs.MODEL), AssumedLengths(), 1
        )


# --- engines


def test_engine_times_are_inferred_from_the_service_time() -> None:
    inferred = infer_engine(record(), None, LENGTHS)
    assert inferred.name is None
    assert "with all times multiplied by" in inferred.origin
    base = catalogue.load(recorded_runs.MODEL)
    assert inferred.model.mem_base_s == pytest.approx(base.mem_base_s, rel=0.12)


def test_slower_engines_are_inferred_as_slower() -> None:
    readings = {name: values * 2 if name.endswith("running") else values for name, values in record().readings.items()}
    usual = infer_engine(record(), None, LENGTHS).model.mem_base_s
    assert infer_engine(dataclasses.replace(record(), readings=readings), None, LENGTHS).model.mem_base_s > 1.4 * usual


def test_an_unknown_engine_requires_a_named_model() -> None:
    with pytest.raises(EngineUnknown, match="set --model NAME"):
        infer_engine(without("requests_per_s"), None, LENGTHS)
    named = infer_engine(without("requests_per_s"), recorded_runs.MODEL, LENGTHS)
    assert named.name == recorded_runs.MODEL
    assert named.origin.endswith("as set by --model")
    with pytest.raises(ConfigError):
        infer_engine(record(), "llama-9", LENGTHS)


def test_scaled_times_multiply_every_time_of_a_model() -> None:
    model = catalogue.load(recorded_runs.MODEL)
    twice = scaled_times(model, 2.0)
    assert (twice.mem_base_s, twice.kv_tokens) == (2 * model.mem_base_s, model.kv_tokens)


# --- the method's error, and the contenders


def test_recorded_sizes_in_the_rebuilt_world_cost_the_recorded_amount() -> None:
    """The world's own error, compared with the true bill and the true late requests."""
    period, same = recorded_runs.period(), outcome(SAME_SIZES)
    assert same.replica_hours == pytest.approx(period.summary.node_hours, rel=0.05)
    assert same.usd == pytest.approx(period.summary.cost_usd, rel=0.03)
    assert same.late is not None
    assert same.late / same.requests == pytest.approx(1 - period.summary.attainment["all"], abs=0.01)


def test_the_simulated_present_policy_is_close_to_the_record() -> None:
    counterfactuals = result().counterfactuals
    assert counterfactuals is not None
    error = counterfactuals.error
    assert error.sizes is not None
    assert error.sizes.ticks > 200
    assert abs(error.sizes.bias) < 0.06
    assert error.sizes.within_one > 0.9
    for usd in (error.usd, error.world_usd):
        assert usd is not None
        assert usd[1] == pytest.approx(usd[0], rel=0.06)
    assert error.late is not None
    assert 0.5 < error.late[1] / error.late[0] < 1.6
    assert error.usd_off == max(abs(b - a) for a, b in (error.usd or (0, 0), error.world_usd or (0, 0)))
    assert 'marked "within the method\'s error"' in error.sentences()
    assert counterfactuals.baseline.name == PRESENT


def changed_result() -> BacktestResult:
    """Return the backtest with an HPA as good as the policy that ran, and a KEDA far from it."""
    counterfactuals = result().counterfactuals
    assert counterfactuals is not None
    usd, late = counterfactuals.baseline.usd, counterfactuals.baseline.late
    assert usd is not None
    assert late is not None
    within = dataclasses.replace(counterfactuals.outcomes[2], usd=usd + 0.01, late=late + 1)
    beyond = dataclasses.replace(counterfactuals.outcomes[3], usd=2 * usd, late=late + 10_000)
    outcomes = (*counterfactuals.outcomes[:2], within, beyond)
    return dataclasses.replace(result(), counterfactuals=dataclasses.replace(counterfactuals, outcomes=outcomes))


def test_a_difference_smaller_than_the_error_is_marked_in_text_page_and_json() -> None:
    changed = changed_result()
    head, rows = comparison(changed)
    compared = [dict(zip(head, cells, strict=True)) for title, cells in rows if title == "  compared with present"]
    assert len(compared) == 2, "cost and late requests"
    for row in compared:
        assert row["hpa"].text.endswith("within the method's error")
        assert row["hpa"].insignificant
        assert "within the method's error" not in row["keda"].text
        assert not row["keda"].insignificant
        assert row["same sizes"].text == row["present"].text == ""
    assert "(+100.0%)" in compared[0]["keda"].text
    assert page([changed], {}).count('class="muted within-error"') == 2
    policies = figures.as_dict([changed], {})["workloads"]["chat"]["others"]["policies"]
    for key in ("usd", "late"):
        assert policies["hpa"]["compared"][key]["within_error"] is True
        assert policies["keda"]["compared"][key]["within_error"] is False
    assert policies["present"]["compared"] == {"usd": None, "late": None}


def test_every_simulated_figure_carries_its_error() -> None:
    changed = changed_result()
    assert changed.counterfactuals is not None
    _, rows = comparison(changed)
    for title in ("cost", "replica-hours", "SLO violations", "  share of requests"):
        assert all(" ± " in cell.text for cell in dict(rows)[title][1:]), title
    unknown = dataclasses.replace(changed.counterfactuals.error, world_late=None, late=None)
    _, rows = comparison(
        dataclasses.replace(changed, counterfactuals=dataclasses.replace(changed.counterfactuals, error=unknown))
    )
    assert all(cell.text.endswith(", error unknown") for cell in dict(rows)["SLO violations"][1:])
    assert "The error in SLO violations is unknown" in unknown.sentences()


@pytest.mark.parametrize("policy", ["hpa", "keda", "static:replicas=3"])
def test_a_counterfactuals_cost_and_late_share_are_close_to_the_truth(policy: str) -> None:
    """The truth is the same policy in the recorded world with the actual requests."""
    case = load(recorded_runs.period().scenario)
    (contender,) = contenders(case, [policy], with_self=False)
    actual = summarize(simulate(contender.case, 1, traffic_of(case, 1)))
    estimate = outcome(policy)
    assert estimate.usd == pytest.approx(actual.cost_usd, rel=0.08)
    assert estimate.late is not None
    missed, predicted = 1 - actual.attainment["all"], estimate.late / estimate.requests
    assert predicted == pytest.approx(missed, abs=0.02)


def test_the_record_and_all_policies_cover_the_same_time() -> None:
    assert outcome("static:replicas=3").replica_hours == pytest.approx(3 * record().span_s / 3600, rel=0.01)
    assert outcome("static:replicas=3").usd == pytest.approx(18 * record().span_s / 3600, rel=0.02)


def with_dry_share(share: float) -> RecordedRun:
    """Return the first twenty minutes, with a share of dry-run ticks at the start."""
    short = record(until=recorded_runs.BEGAN + 1200)
    dry = (np.arange(len(short)) < share * len(short)).astype(np.float64)
    return dataclasses.replace(short, columns={**short.columns, "dry_run": dry})


def test_a_dry_run_has_no_policy_error_and_the_recorded_sizes_as_baseline() -> None:
    counterfactuals = backtest(
        with_dry_share(1.0), BacktestOptions(model=recorded_runs.MODEL), RequestedContenders()
    ).counterfactuals
    assert counterfactuals is not None
    assert counterfactuals.error.sizes is None
    assert counterfactuals.error.world_usd is not None
    assert "The record is of a dry run" in counterfactuals.error.sentences()
    assert counterfactuals.baseline.name == SAME_SIZES, "another controller set the recorded sizes"


def test_only_ticks_outside_a_dry_run_are_compared() -> None:
    whole, partial = (
        backtest(
            with_dry_share(share), BacktestOptions(model=recorded_runs.MODEL), RequestedContenders()
        ).counterfactuals
        for share in (0.0, 0.7)
    )
    assert whole is not None
    assert partial is not None
    assert whole.error.sizes is not None
    assert partial.error.sizes is not None
    assert partial.error.sizes.ticks == 24 < whole.error.sizes.ticks


def test_a_period_shorter_than_the_window_has_no_policy_error() -> None:
    counterfactuals = backtest(
        record(until=recorded_runs.BEGAN + 300), BacktestOptions(model=recorded_runs.MODEL), RequestedContenders()
    ).counterfactuals
    assert counterfactuals is not None
    assert counterfactuals.error.sizes is None
    assert "shorter than the first scale-in window" in counterfactuals.error.sentences()


def test_backtest_progress_increases_to_one() -> None:
    shares: list[float] = []
    backtest(
        record(until=recorded_runs.BEGAN + 600),
        BacktestOptions(model=recorded_runs.MODEL),
        RequestedContenders(),
        shares.append,
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        pytest.param(("requests_per_s", "running"), "set --model NAME", id="no rates"),
        pytest.param(tuple(recorded_runs.READ), "set --model NAME", id="nothing"),
    ],
)
def test_a_record_that_cannot_be_simulated_has_a_reason_and_a_summary(missing: tuple[str, ...], message: str) -> None:
    backtest_result = backtest(without(*missing), BacktestOptions(), RequestedContenders())
    assert backtest_result.counterfactuals is None
    assert message in backtest_result.skip_reason
    assert backtest_result.summary.total(backtest_result.summary.usd) is not None


# --- contenders


def write(folder: Path, name: str, **changes: Any) -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump({**recorded_runs.WORKLOAD, **changes}))
    return file


def test_a_tuned_file_competes_under_its_own_name(tmp_path: Path) -> None:
    tuned = write(tmp_path, "tuned.yaml", policies={"c": {"kind": "concurrency", "target_per_replica": 48}})
    short = record(until=recorded_runs.BEGAN + 1200)
    requested = contenders_by_workload([str(tuned), "kpa"], [short.name])
    counterfactuals = backtest(short, BacktestOptions(model=recorded_runs.MODEL), requested[short.name]).counterfactuals
    assert counterfactuals is not None
    assert [o.name for o in counterfactuals.outcomes] == [SAME_SIZES, PRESENT, "hpa", "keda", "kpa", "tuned"]
    costs = {o.name: o.usd or 0.0 for o in counterfactuals.outcomes}
    assert costs["tuned"] <= costs[PRESENT], "a higher target needs fewer replicas"


def test_a_policy_file_of_an_unrecorded_workload_is_rejected(tmp_path: Path) -> None:
    other = write(tmp_path, "other.yaml", workload="chta")
    with pytest.raises(ConfigError) as caught:
        contenders_by_workload([str(other)], [WorkloadName("chat"), WorkloadName("batch")])
    (problem,) = caught.value.problems
    assert "which is not in the journals" in problem.rule
    assert "chat" in problem.hint
    assert [p for p, _ in contenders_by_workload([str(other)], [WorkloadName("chat")])[WorkloadName("chat")].files] == [
        other
    ]


def test_all_problems_of_broken_files_are_reported(tmp_path: Path) -> None:
    broken = write(tmp_path, "broken.yaml", max_replicas="lots")
    with pytest.raises(ConfigError) as caught:
        contenders_by_workload([str(broken), str(tmp_path / "none.yaml")], [WorkloadName("chat")])
    assert {Path(p.file).name for p in caught.value.problems} == {"broken.yaml", "none.yaml"}
