"""One verdict: its kinds and caveats, the stress of traffic, and text, page and JSON that agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.experiments.run import simulate, traffic_of
from simulators.reporting.run_data import run_data
from simulators.reporting.time_bins import Floats
from simulators.tune.result import TrialCounts, TuneResult
from simulators.tune.stress import Stress, TraceInterval, held_out_start, stress_of
from simulators.tune.study import CompletedTrial
from simulators.tune.text import head, headline, lines
from simulators.tune.trial import AFTER, TrialOutcome
from simulators.tune.validation import ValidatedPoint, validate_points
from simulators.tune.verdict import TodayFigures, Verdict, VerdictKind, judge
from tests.simulators.tune import small
from tests.simulators.tune.small import completed_trial, steady_trial

ALLOWED = 0.01
BURST, CALM = Stress(2.0, 1.5), Stress(0.1, 0.1)
TODAY = steady_trial(0, 10.0, 0.004)


def verdict_of(
    *now: tuple[CompletedTrial, CompletedTrial],
    chosen: int = 1,
    stresses: tuple[Stress, Stress] = (BURST, BURST),
    today: CompletedTrial = TODAY,
) -> Verdict:
    """Return the verdict on points, each a trial on the tuning and on the validation traffic."""
    return judge(_validated(now, today), chosen, TodayFigures(today.figures, today.figures), ALLOWED, stresses)


def _validated(
    now: Sequence[tuple[CompletedTrial, CompletedTrial]], today: CompletedTrial = TODAY
) -> list[ValidatedPoint]:
    outcomes = {tuned.number: TrialOutcome(results=proof.results) for tuned, proof in now}
    return validate_points([tuned for tuned, _ in now], outcomes, (today.figures, today.figures), ALLOWED)


def result_of(verdict: Verdict, *now: tuple[CompletedTrial, CompletedTrial]) -> TuneResult:
    validated = tuple(_validated(now))
    if verdict.point is not None:
        number = verdict.point.trial.number
        verdict = dataclasses.replace(verdict, point=next(p for p in validated if p.trial.number == number))
    return TuneResult(
        allowed=ALLOWED,
        completed=tuple(t for t, _ in now),
        counts=TrialCounts(len(now), 0, 0),
        stopped=False,
        points=tuple(t for t, _ in now),
        chosen=now[0][0],
        knee=None,
        today_tuning=TODAY.figures,
        today_validation=TODAY.figures,
        validated=validated,
        verdict=verdict,
        validation_text="day",
        leave_one_out=(),
        importance=(),
        runs_data=(),
        remarks=(),
        study_info={"proposal": False, "version": "1", "study": "s", "seed": 1, "sampler": "tpe", "scenario": "s",
                    "imported": False, "file": "s.yaml"},
    )  # fmt: skip


SURE = (steady_trial(1, 7.0, 0.004), steady_trial(1, 7.0, 0.004))
FITTED = (steady_trial(1, 5.0, 0.004), steady_trial(1, 9.0, 0.004))


def test_a_confirmed_choice_on_stressed_traffic_is_to_be_deployed() -> None:
    verdict = verdict_of(SURE)
    assert (verdict.kind, verdict.caveats) == (VerdictKind.DEPLOY, ())
    text = headline(result_of(verdict, SURE))
    assert text.startswith("Deploy recommended.yaml (point 1 of 1): -$")
    assert "48 late of 12,000 (0.40%) on held-out traffic, 1% allowed" in text


def test_an_overfitted_recommendation_is_a_caution_in_the_headline_and_no_contradiction_below() -> None:
    verdict = verdict_of(FITTED)
    assert verdict.kind is VerdictKind.CAUTION
    text = list(lines(result_of(verdict, FITTED)))
    (first,) = [line for line in text if line.startswith("Deploy recommended.yaml with caution")]
    assert "it may be overfitted: it saves 50.0% on the tuning traffic but 10.0% on held-out traffic" in first
    assert not any("is overfitted" in line for line in text)


def test_calm_held_out_traffic_is_not_tested_under_load_and_nothing_is_recommended() -> None:
    verdict = verdict_of(SURE, stresses=(BURST, CALM))
    assert verdict.kind is VerdictKind.NOT_TESTED
    result = result_of(verdict, SURE)
    assert result.recommended is None
    text = headline(result)
    assert text.startswith("Not tested under load: the held-out traffic is calmer (peak 1.1 times the mean")
    assert "do not deploy point 1 of 1 on this evidence" in text
    assert "--unseen" in text
    assert any("kept, not tested" in line for line in lines(result))


def test_a_gain_that_calm_traffic_cannot_show_is_neither_refuted_nor_overfitted() -> None:
    """The choice costs less on the bursts of the tuning traffic; without bursts all points cost the same."""
    gain = (steady_trial(1, 5.0, 0.004), steady_trial(1, 10.1, 0.004))
    verdict = verdict_of(gain, stresses=(BURST, CALM))
    assert verdict.kind is VerdictKind.NOT_TESTED
    text = list(lines(result_of(verdict, gain)))
    assert not any("overfitted" in line or "Do not deploy:" in line for line in text)
    assert verdict_of(gain).kind is VerdictKind.DO_NOT_DEPLOY
    late = (steady_trial(1, 5.0, 0.004), steady_trial(1, 5.0, 0.03))
    assert verdict_of(late, stresses=(BURST, CALM)).kind is VerdictKind.DO_NOT_DEPLOY, "late even on calm traffic"


def test_held_out_traffic_without_any_late_request_proves_nothing_about_the_slo() -> None:
    quiet = steady_trial(1, 7.0, 0.0)
    today = dataclasses.replace(TODAY, figures=dataclasses.replace(TODAY.figures, late=np.zeros(12)))
    outcomes = {1: TrialOutcome(results=quiet.results)}
    points = validate_points([steady_trial(1, 7.0, 0.004)], outcomes, (TODAY.figures, today.figures), ALLOWED)
    verdict = judge(points, 1, TodayFigures(TODAY.figures, today.figures), ALLOWED, (BURST, BURST))
    assert verdict.kind is VerdictKind.NOT_TESTED
    assert "no configuration has a late request on the held-out traffic" in verdict.reason


def test_a_point_without_gain_is_not_deployed() -> None:
    expensive = (steady_trial(1, 20.0, 0.0), steady_trial(1, 20.0, 0.0))
    verdict = verdict_of(expensive)
    assert verdict.kind is VerdictKind.DO_NOT_DEPLOY
    assert headline(result_of(verdict, expensive)).startswith("Do not deploy: keep today's configuration, since ")


def test_a_late_share_that_may_exceed_the_slo_is_a_caution() -> None:
    noisy = completed_trial(1, [7.0] * 12, [0] * 11 + [90])
    verdict = verdict_of((steady_trial(1, 7.0, 0.004), noisy))
    assert verdict.kind is VerdictKind.CAUTION
    assert "its late share may be up to 2.40%, 1% allowed" in verdict.caveats[0]


@pytest.mark.parametrize("verdict", [verdict_of(SURE), verdict_of(FITTED), verdict_of(SURE, stresses=(BURST, CALM))])
def test_json_and_policy_file_have_the_verdict_of_the_text(verdict: Verdict) -> None:
    result = result_of(verdict, FITTED if verdict.caveats else SURE)
    document = result.as_dict()
    assert document["verdict"]["kind"] == verdict.kind
    assert document["verdict"]["caveats"] == list(verdict.caveats)
    assert (document["recommended"] is not None) == (verdict.kind in {VerdictKind.DEPLOY, VerdictKind.CAUTION})
    assert any(line == f"Verdict: {verdict.kind}. {headline(result)}" for line in head(result, result.points[0]))


@pytest.mark.slow
def test_abandoned_and_failed_starts_are_in_the_headline_if_they_are_a_large_part_of_the_cost(tmp_path: Path) -> None:
    case = small.case(tmp_path)
    data = run_data(AFTER, simulate(case, 1, traffic_of(case, 1)))
    result = result_of(verdict_of(SURE), SURE)

    def with_lost(share: float) -> TuneResult:
        lost = dataclasses.replace(data.summary, cost_by_use_usd={"lost": share * data.summary.cost_usd})
        return dataclasses.replace(result, runs_data=(dataclasses.replace(data, summary=lost),))

    assert headline(with_lost(0.09)).endswith("Abandoned and failed starts are 9.0% of its cost.")
    assert "starts" not in headline(with_lost(0.01))
    assert with_lost(0.09).as_dict()["lost_share_of_cost"] == {AFTER: pytest.approx(0.09)}


def test_counts_and_shares_agree_in_the_headline() -> None:
    few = completed_trial(1, [7.0] * 12, [0] * 11 + [122], arrived=158_694)
    proof = completed_trial(1, [7.0] * 12, [0] * 11 + [122], arrived=158_694)
    assert "122 late of 1,904,328 (0.0064%)" in headline(result_of(verdict_of((few, proof)), (few, proof)))


def arrivals(*rates: float, minutes: float = 60.0) -> Floats:
    """Return evenly spaced arrivals of one rate after the other, each for `minutes`."""
    times: list[float] = []
    for k, rate in enumerate(rates):
        begin_s, end_s = 60.0 * minutes * k, 60.0 * minutes * (k + 1)
        times += np.arange(begin_s, end_s, 1.0 / rate).tolist()
    return np.array(times)


def test_stress_is_the_peak_and_the_rise_within_a_lead_time_over_the_mean() -> None:
    found = stress_of([TraceInterval(arrivals(8, 8, 25, 8, 8, 8, minutes=10), 0.0, 3600.0)], 60.0)
    mean = (5 * 8 + 25) / 6
    assert found.peak == pytest.approx(25 / mean - 1, rel=0.02)
    assert found.rise == pytest.approx((25 - 8) / mean, rel=0.02)


def test_noise_of_steady_traffic_is_no_stress() -> None:
    steady = np.sort(np.random.default_rng(1).uniform(0.0, 36_000.0, 36_000))
    found = stress_of([TraceInterval(steady, 0.0, 36_000.0)], 60.0)
    assert CALM.tests(found)


def test_a_held_out_part_with_the_stress_of_the_rest_is_chosen() -> None:
    """Bursts in the hours 1 and 5 of twelve: the calm last third is not held out, a third with a burst is."""
    rates = [2, 8, 2, 2, 2, 8, 2, 2, 2, 2, 2, 2]
    trace = arrivals(*rates)
    start = held_out_start(trace, 12 * 3600.0, 1 / 3, 60.0, 0.0)
    held_out = range(round(start * 12), round(start * 12) + 4)
    assert len({1, 5} & set(held_out)) == 1, "one burst in each part"
    assert held_out_start(arrivals(*[2] * 12), 12 * 3600.0, 1 / 3, 60.0, 0.0) == pytest.approx(2 / 3)
    assert held_out_start(arrivals(8, *[2] * 11), 12 * 3600.0, 1 / 3, 60.0, 0.0) == pytest.approx(2 / 3)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=12, max_size=12))
def test_the_held_out_part_lies_within_the_trace(rates: list[int]) -> None:
    start = held_out_start(arrivals(*rates, minutes=5), 3600.0, 1 / 3, 60.0, 300.0)
    assert 0.0 <= start <= 2 / 3 + 1e-9
    assert start == 0.0 or start * 3600.0 >= 300.0, "no part of the rest is too short"
