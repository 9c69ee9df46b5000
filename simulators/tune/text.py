"""Text of a search's result: for the terminal, the page, and the header of each policy file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from simulators.experiments.slo_outcome import fine_percent
from simulators.experiments.statistics import LEVEL
from simulators.reporting import table
from simulators.reporting.text import percent
from simulators.tune.objectives import Figures
from simulators.tune.policy import HEADER_START
from simulators.tune.result import TuneResult
from simulators.tune.study import CompletedTrial
from simulators.tune.trial import AFTER, BEFORE
from simulators.tune.validation import ValidatedPoint
from simulators.tune.verdict import VerdictKind

CENTS_BELOW_USD: Final = 100.0
MIN_LOST_SHARE: Final = 0.05
"""The minimum share of the cost for starts that never served to be in the headline."""


def money(usd: float) -> str:
    """Return an amount, with cents only below $100."""
    if math.isnan(usd):
        return "-"
    return f"${usd:,.0f}" if abs(usd) >= CENTS_BELOW_USD else f"${usd:,.2f}"


def signed(value: float, text: str) -> str:
    """Return a difference with its sign before the amount."""
    return f"{'-' if value < 0 else '+'}{text.lstrip('-')}"


def label(result: TuneResult, trial: CompletedTrial) -> str:
    """Return a point's place in the front and its names, such as ``3 (recommended, knee)``."""
    names = [name for name, number in result.named_points.items() if number == trial.number]
    place = [p.number for p in result.points].index(trial.number) + 1
    return f"{place}" + (f" ({', '.join(names)})" if names else "")


def late_text(figures: Figures) -> str:
    """Return the late share with the upper end of its interval."""
    attainment = figures.attainment()
    if math.isnan(attainment.half_width):
        return fine_percent(figures.late_share)
    return f"{fine_percent(figures.late_share)} (to {fine_percent(min(1.0, 1 - attainment.low))})"


def difference(point: ValidatedPoint) -> str:
    """Return how a point differs from today in USD per month and in late requests."""
    cost = point.cost.estimate
    spread = "" if math.isnan(cost.half_width) else f" ± {money(cost.half_width)}"
    saving = "" if math.isnan(point.validated_share) else f" ({-point.validated_share:+.1%})"
    more_late = point.late_per_month
    counted = f"{abs(more_late):,.0f} {'fewer' if more_late < 0 else 'more'}" if abs(more_late) >= 1 else "as many"
    return f"{signed(cost.mean, money(abs(cost.mean)))}{spread} per month{saving}, {counted} late requests per month"


def _slo_text(result: TuneResult, point: ValidatedPoint) -> str:
    """Return whether a point keeps the SLO; on traffic that is no test, that proves nothing."""
    untested = result.verdict.kind is VerdictKind.NOT_TESTED and point.meets_slo
    return f"{point.slo_verdict}, not tested" if untested else point.slo_verdict


def point_verdict(result: TuneResult, point: ValidatedPoint) -> str:
    """Return whether a point keeps the SLO and costs less, and whether it is overfitted."""
    costs = {
        "noise": "no significant difference in cost",
        "cheaper": "significantly cheaper",
        "more expensive": "significantly more expensive",
    }
    text = f"SLO {_slo_text(result, point)}; {costs[point.cost_verdict]}"
    return f"{text}; OVERFITTED: {point.overfitting}" if point.overfitting else text


def headline(result: TuneResult) -> str:
    """Return the verdict with its evidence and its caveats."""
    verdict = result.verdict
    if verdict.kind is VerdictKind.NOT_VALIDATED:
        return f"Not validated: {verdict.reason}, so no point is recommended. Repeat the command to continue."
    if verdict.point is None:
        return f"Do not deploy: keep today's configuration, since {verdict.reason}."
    point = verdict.point
    place = f"point {label(result, point.trial).split(' ', maxsplit=1)[0]} of {len(result.points)}"
    late = f"{point.figures.late_requests} on held-out traffic, {percent(result.allowed)} allowed"
    if verdict.kind is VerdictKind.NOT_TESTED:
        text = (
            f"Not tested under load: {verdict.reason}. So do not deploy {place} on this evidence: {difference(point)};"
            f" {late}. Validate it with --unseen on traffic with such bursts, or give a longer --trace"
        )
    else:
        caution = " with caution" if verdict.kind is VerdictKind.CAUTION else ""
        text = f"Deploy recommended.yaml{caution} ({place}): {difference(point)}; {late}. Reason: {verdict.reason}"
    caveats = f" Caution: {'; '.join(verdict.caveats)}." if verdict.caveats else ""
    return f"{text}.{caveats}{_lost_starts(result)}"


def _lost_starts(result: TuneResult) -> str:
    """Return the share of the cost for starts that never served.

    It is empty if the share is below `MIN_LOST_SHARE`, or without the page's runs.
    """
    shares = result.lost_shares
    if shares.get(AFTER, 0.0) < MIN_LOST_SHARE:
        return ""
    today = f" (today {shares[BEFORE]:.1%})" if BEFORE in shares else ""
    return f" Abandoned and failed starts are {shares[AFTER]:.1%} of its cost{today}."


def notes(result: TuneResult) -> Iterator[str]:
    """Yield further notes, a sentence each."""
    yield (
        f"{result.counts.finished:,} trials: {result.counts.pruned:,} pruned, {result.counts.refused:,} rejected by"
        f" the workload's rules{'; stopped before the end' if result.stopped else ''}."
    )
    if (today := result.today_validation) is not None:
        yield (
            f"Today's configuration on the validation traffic: {money(today.usd_per_month)} per month,"
            f" {late_text(today)} late. Validation traffic: {result.validation_text}."
        )
    if result.chosen is not None and result.chosen.figures.late_share > result.allowed:
        yield (
            "No trial met the SLO on the tuning traffic: the chosen trial has the fewest late requests. Use a longer"
            " search, wider ranges (--search) or more replicas."
        )
    elif result.chosen is not None and _unreported_interval(result, result.chosen):
        yield (
            f"The chosen trial has {late_text(result.chosen.figures)} of its requests late on the tuning traffic: its"
            f" interval exceeds the {percent(result.allowed)} allowed, so the SLO may be missed on other traffic."
        )
    for name, trial, on_trace in result.leave_one_out:
        verb = "meets" if on_trace.figures.late_share <= result.allowed else "MISSES"
        yield (
            f"Without {name} the search would have chosen trial {trial.number}; on that trace it {verb} the SLO"
            f" ({fine_percent(on_trace.figures.late_share)} late), at {money(on_trace.figures.usd_per_month)} per"
            " month."
        )
    yield from result.remarks


def _unreported_interval(result: TuneResult, chosen: CompletedTrial) -> bool:
    """Return whether the choice may miss the SLO, and the verdict's caveats do not say so."""
    reported = result.recommended is not None and result.recommended.trial.number == chosen.number
    return not reported and chosen.figures.max_late_share() > result.allowed


def head(result: TuneResult, trial: CompletedTrial) -> Iterator[str]:
    """Yield the header of a policy file: its origin and its figures."""
    info = result.study_info
    yield (
        f"{HEADER_START} {info['version']}: point {label(result, trial)} of {len(result.points)}, trial {trial.number}"
        f" of study {info['study']} (seed {info['seed']}, {info['sampler']}), scenario {info['scenario']}."
    )
    point = next((p for p in result.validated if p.trial.number == trial.number), None)
    today = result.today_validation
    if point is None or today is None:
        yield "NOT VALIDATED: the figures are from the tuning traffic and look better than they will be."
    else:
        basis = f"{result.validation_text}; {LEVEL:.0%} intervals"
        late = f"{late_text(point.figures)}, {percent(result.allowed)} allowed; today {late_text(today)}"
        yield f"Figures on held-out traffic ({basis}):"
        yield f"  cost: {money(point.figures.usd_per_month)} per month; today {money(today.usd_per_month)}."
        yield f"  late requests: {late}."
        yield f"  compared with today: {difference(point)}."
        yield f"  result: {point_verdict(result, point)}."
    if result.verdict.point is not None and result.verdict.point.trial.number == trial.number:
        yield f"Verdict: {result.verdict.kind}. {headline(result)}"
    tuned = trial.figures
    yield f"On the tuning traffic: {money(tuned.usd_per_month)} per month, {late_text(tuned)} of the requests late."
    yield "A month is 730 hours of this traffic. To try it without writes: forescale run TODAYS_FILE --shadow THIS_FILE"
    if not info["imported"]:
        yield f"To simulate it: forescale compare {info['file']} --without-self --policies THIS_FILE"


HEAD: Final = ("tuning/month", "late", "validation/month", "late", "saved", "more late/month", "SLO", "cost")


def lines(result: TuneResult) -> Iterator[str]:
    """Yield the result for a terminal."""
    yield from table.aligned(rows(result), HEAD)
    yield ""
    yield headline(result)
    yield from notes(result)
    yield from over_fitted(result)


def rows(result: TuneResult) -> list[tuple[str, list[str]]]:
    """Return today's row and one for every point, under `HEAD`."""
    table_rows = []
    if result.today_tuning is not None:
        table_rows.append(
            ("today", [*_cost_and_late(result.today_tuning), *_cost_and_late(result.today_validation), "", "", "", ""])
        )
    by_number = {p.trial.number: p for p in result.validated}
    for trial in result.points:
        validated = by_number.get(trial.number)
        cells = [*_cost_and_late(trial.figures), *_cost_and_late(None if validated is None else validated.figures)]
        table_rows.append(
            (label(result, trial), cells + (["-"] * 4 if validated is None else _verdict_cells(result, validated)))
        )
    return table_rows


def over_fitted(result: TuneResult) -> Iterator[str]:
    """Yield a sentence for each overfitted point that is not recommended.

    On traffic that is no test, a lost gain is no sign of overfitting, but a missed SLO is.
    """
    tested = result.verdict.kind is not VerdictKind.NOT_TESTED
    for point in result.validated:
        if point.overfitting and point is not result.recommended and (tested or not point.meets_slo):
            yield f"Point {label(result, point.trial)} is overfitted: {point.overfitting}."


def _verdict_cells(result: TuneResult, point: ValidatedPoint) -> list[str]:
    return [
        f"{point.validated_share:.1%}",
        f"{point.late_per_month:+,.0f}",
        _slo_text(result, point),
        point.cost_verdict,
    ]


def _cost_and_late(figures: Figures | None) -> tuple[str, str]:
    return ("-", "-") if figures is None else (money(figures.usd_per_month), late_text(figures))
