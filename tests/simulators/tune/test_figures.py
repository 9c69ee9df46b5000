"""Figures, the front and verdicts: worked examples, and their statistical error rates."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulators.tune.objectives import MONTH_H, cost_difference, figures, late_difference
from simulators.tune.pareto import choice, front, knee, leave_one_out, pick_points
from simulators.tune.search import SearchBudget, StopRequests
from simulators.tune.study import CompletedTrial
from simulators.tune.trial import PruneLimits, TrialOutcome, WindowResult
from simulators.tune.validation import ValidatedPoint, overfitting_reason, recommend, slo_verdict, validate_points
from tests.simulators.tune.small import completed_trial, steady_trial

ALLOWED = 0.01


def test_cost_and_late_requests_per_month_are_scaled_from_hours() -> None:
    result = completed_trial(1, [2.0, 4.0], [10, 30]).figures
    assert result.usd_per_month == pytest.approx(3.0 * MONTH_H)
    assert result.late_share == pytest.approx(40 / 2000)
    assert result.late_per_month == pytest.approx(20 * MONTH_H)


def test_replications_are_averaged_per_batch_and_windows_concatenated() -> None:
    results = (
        WindowResult(0, 1, 1.0, ((2.0, 100, 0),)),
        WindowResult(0, 2, 1.0, ((4.0, 100, 10),)),
        WindowResult(1, 1, 1.0, ((6.0, 300, 0),)),
        WindowResult(1, 2, 1.0, ((6.0, 300, 2),)),
    )
    result = figures(results)
    assert result.cost_usd.tolist() == [3.0, 6.0]
    assert result.late.tolist() == [5.0, 1.0]
    assert result.hours == pytest.approx(2.0)


def test_the_attainment_interval_is_that_of_a_ratio_estimator_over_batches() -> None:
    late, arrived = np.array([10.0, 0.0, 20.0, 6.0]), np.array([1000.0, 500.0, 1500.0, 1000.0])
    blocks = tuple((1.0, int(a), int(k)) for a, k in zip(arrived, late, strict=True))
    estimate = figures((WindowResult(0, 1, 4.0, blocks),)).attainment()
    share = late.sum() / arrived.sum()
    error = math.sqrt(4 / 3 * ((late - share * arrived) ** 2).sum()) / arrived.sum()
    assert estimate.mean == pytest.approx(1 - share)
    assert estimate.half_width == pytest.approx(stats.t.ppf(0.975, 3) * error)


def test_the_attainment_interval_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        late = rng.binomial(2000, rng.beta(20, 980, 12))
        estimate = figures((WindowResult(0, 1, 12.0, tuple((1.0, 2000, int(k)) for k in late)),)).attainment()
        covered += abs(estimate.mean - 0.98) <= estimate.half_width
    assert 0.90 <= covered / 400 <= 0.985


def test_paired_differences_cancel_the_common_load() -> None:
    load = np.array([1.0, 5.0, 2.0, 9.0])
    a, b = completed_trial(1, list(load * 1.1), [0, 4, 0, 8]), completed_trial(2, list(load), [0, 2, 0, 6])
    cost, late = cost_difference(a.figures, b.figures), late_difference(a.figures, b.figures)
    assert cost.estimate.mean == pytest.approx(0.1 * load.mean() * MONTH_H)
    assert late.estimate.mean == pytest.approx(4 / 4000)


points = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), min_size=1, max_size=25, unique=True)


@given(points)
def test_the_front_consists_of_the_undominated_trials(estimate: list[tuple[int, int]]) -> None:
    trials = [completed_trial(k, [float(cost)], [late]) for k, (cost, late) in enumerate(estimate)]
    result = front(trials, 1.0)
    pairs = [(t.figures.usd_per_month, t.figures.late_share) for t in result]
    assert pairs == sorted(pairs)
    for trial in trials:
        cost, late = trial.figures.usd_per_month, trial.figures.late_share
        below = [p for p in pairs if p[0] <= cost and p[1] <= late]
        assert below, "a trial on the front is at least as good in cost and late share"
    assert all(b[1] < a[1] for a, b in pairwise(pairs))


@given(points)
def test_picked_points_include_the_ends_and_the_choice(estimate: list[tuple[int, int]]) -> None:
    result = front([completed_trial(k, [float(cost)], [late]) for k, (cost, late) in enumerate(estimate)], 1.0)
    picked = [p.number for p in pick_points(result, ALLOWED)]
    assert len(picked) <= 8
    assert {result[0].number, result[-1].number, choice(result, ALLOWED).number} <= set(picked)


def test_the_front_excludes_trials_far_outside_the_slo() -> None:
    beyond_slo, near_slo = steady_trial(1, 1.0, 0.5), steady_trial(2, 2.0, 0.015)
    assert [t.number for t in front([beyond_slo, near_slo], ALLOWED)] == [2]
    assert [t.number for t in front([beyond_slo], ALLOWED)] == [1], "the nearest, if no trial is near the SLO"


def test_the_choice_is_the_cheapest_within_the_slo_or_the_least_late() -> None:
    expensive, cheap, broken = steady_trial(1, 9.0, 0.0), steady_trial(2, 4.0, 0.008), steady_trial(3, 2.0, 0.02)
    assert choice([broken, cheap, expensive], ALLOWED) is cheap
    assert choice([broken, steady_trial(4, 1.0, 0.05)], ALLOWED) is broken


def test_the_knee_is_the_point_farthest_below_the_chord_of_the_front() -> None:
    bent = [completed_trial(1, [1.0], [100]), completed_trial(2, [2.0], [10]), completed_trial(3, [10.0], [0])]
    straight = [completed_trial(1, [1.0], [20]), completed_trial(2, [2.0], [10]), completed_trial(3, [3.0], [0])]
    assert knee(bent) is bent[1]
    assert knee(straight) is None
    assert knee(bent[:2]) is None


def test_leave_one_out_chooses_without_a_trace_and_reports_its_figures() -> None:
    def two(number: int, late: tuple[int, int], usd: float) -> CompletedTrial:
        results = tuple(WindowResult(k, 1, 1.0, ((usd, 1000, late[k]),)) for k in range(2))
        return CompletedTrial(number, {}, results, figures(results))

    risky, safe = two(1, (2, 90), 1.0), two(2, (2, 2), 5.0)
    result = leave_one_out([risky, safe], ALLOWED, 2)
    assert [(k, chosen.number) for k, chosen, _ in result] == [(0, 2), (1, 1)]
    assert result[1][2].figures.late_share == pytest.approx(0.09), (
        "the choice on the first trace violates the SLO on the second"
    )
    assert leave_one_out([risky, safe], ALLOWED, 1) == []


def outcome(trial: CompletedTrial) -> TrialOutcome:
    return TrialOutcome(results=trial.results)


def validated(before: CompletedTrial, *now: tuple[CompletedTrial, CompletedTrial]) -> list[ValidatedPoint]:
    """Return the validated points of (tuning, validation) trials, compared with today's trial on both."""
    proofs = {searched.number: outcome(result) for searched, result in now}
    return validate_points([searched for searched, _ in now], proofs, (before.figures, before.figures), ALLOWED)


def test_only_a_cost_difference_beyond_noise_counts_as_cheaper() -> None:
    today = steady_trial(0, 10.0, 0.005)
    better = (steady_trial(1, 8.0, 0.005), steady_trial(1, 8.0, 0.005))
    rng = np.random.default_rng(5)
    noisy = completed_trial(2, list(np.asarray(today.figures.cost_usd) + rng.normal(-0.05, 2.0, 12)), [5] * 12)
    sure, unsure = validated(today, better, (steady_trial(2, 9.9, 0.005), noisy))
    assert (sure.cost_verdict, sure.slo_verdict) == ("cheaper", "kept")
    assert unsure.cost_verdict == "noise"


@pytest.mark.slow
def test_twenty_points_without_gain_rarely_show_a_false_gain() -> None:
    false_gains = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        today = completed_trial(0, list(rng.normal(10, 1, 12)), [5] * 12)
        same = [completed_trial(k, list(rng.normal(10, 1, 12)), [5] * 12) for k in range(1, 21)]
        false_gains += any(p.cost_verdict != "noise" for p in validated(today, *((trial, trial) for trial in same)))
    assert false_gains / 60 <= 0.12, "Holm bounds the probability of any false gain at 5 %"


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ([1] * 12, "kept"),
        ([0] * 11 + [90], "kept, within noise"),
        ([5] * 11 + [90], "missed, within noise"),
        ([60] * 12, "missed"),
    ],
)
def test_the_slo_verdict_allows_for_noise(late: list[int], expected: str) -> None:
    assert slo_verdict(completed_trial(1, [1.0] * 12, late).figures, ALLOWED) == expected


def test_a_point_is_overfitted_if_it_gains_only_on_the_tuning_traffic() -> None:
    good, bad = steady_trial(1, 5.0, 0.005).figures, steady_trial(1, 5.0, 0.02).figures
    assert "meets the SLO on the tuning traffic (0.50% late) but not" in overfitting_reason(
        good, bad, ALLOWED, 0.2, 0.2
    )
    assert "saves 20.0% on the tuning traffic but 5.0%" in overfitting_reason(good, good, ALLOWED, 0.2, 0.05)
    assert overfitting_reason(good, good, ALLOWED, 0.2, 0.15) == ""


def test_the_recommendation_is_the_choice_a_safer_point_or_none() -> None:
    today, good = steady_trial(0, 10.0, 0.004), steady_trial(2, 7.0, 0.006)
    broken, safe = (steady_trial(1, 5.0, 0.009), steady_trial(1, 5.0, 0.03)), (steady_trial(2, 7.0, 0.006), good)
    assert recommend(validated(today, safe), 2, "kept")[0] is not None
    result, reason = recommend(validated(today, broken, safe), 1, "kept")
    assert result is not None
    assert result.trial.number == 2
    assert "the cheapest safer point" in reason
    noisy = (steady_trial(1, 7.0, 0.009), completed_trial(1, [7.5] * 12, [0] * 11 + [90]))
    result, reason = recommend(validated(today, noisy, safe), 1, "kept")
    assert result is not None
    assert result.trial.number == 2
    assert reason == "it costs no more than the choice of the search, which keeps the SLO within noise only"
    assert recommend(validated(today, broken), 1, "kept")[0] is None
    expensive = (steady_trial(3, 20.0, 0.0), steady_trial(3, 20.0, 0.0))
    assert recommend(validated(today, expensive), 3, "kept")[0] is None, (
        "the present policy meets the SLO at lower cost"
    )
    result, _ = recommend(validated(today, expensive), 3, "missed")
    assert result is not None, "the present policy violates the SLO: meeting it may cost more"


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("500-trials", SearchBudget(500)),
        ("1-trial", SearchBudget(1)),
        ("90s", SearchBudget(None, 90.0)),
        ("1.5h", SearchBudget(None, 5400.0)),
    ],
)
def test_a_budget_is_a_number_of_trials_or_a_time(text: str, budget: SearchBudget) -> None:
    assert SearchBudget.of(text) == budget


@pytest.mark.parametrize("text", ["", "5", "0-trials", "0m", "-1h", "ten minutes", "2000000-trials", "5 m"])
def test_an_invalid_budget_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="500-trials, 90s"):
        SearchBudget.of(text)


def test_an_acknowledged_stop_request_does_not_end_the_next_phase() -> None:
    stop = StopRequests()
    assert not stop()
    stop.request()
    assert stop()
    stop.acknowledge()
    assert not stop()


def test_a_trial_is_pruned_if_dominated_with_margin_or_far_outside_the_slo() -> None:
    limits = PruneLimits((((10.0, 0.01), (20.0, 0.001)), ((10.0, 0.01),)), max_late_share=0.3)
    assert limits.prune_reason(0, (13.0, 0.02)) == "30% more expensive than a trial that is no later, in the first part"
    assert limits.prune_reason(0, (13.0, 0.005)) == "", (
        "a trial with fewer late requests at a higher cost may be on the front"
    )
    assert limits.prune_reason(0, (9.0, 0.4)) == "40.0% of the requests are late in the first part"
    assert limits.prune_reason(1, (10.4, 0.02)) == ""
    assert limits.prune_reason(1, (10.6, 0.02)) != ""
    assert limits.prune_reason(0, (1.0, math.nan)) == "", "a part without requests has no late share"
