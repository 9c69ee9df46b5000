"""Text of a recorded period: sentences and table rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from scaler.journal.explain import budget_text, timestamp
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.counterfactuals import CounterfactualOutcome, Counterfactuals
from simulators.backtest.period_summary import MAX_SHOWN, ORDER, PeriodSummary
from simulators.backtest.validation import WITHIN, CheckedDifference
from simulators.experiments.slo_outcome import LateRequests, fine_percent
from simulators.reporting.table import aligned, dollars, seconds, share
from simulators.reporting.text import percent, slo_text
from simulators.world.traffic.describe import duration

WHOLLY_KNOWN = 0.995
"""A figure known for more than this share of the time is shown without that share."""
UNKNOWN = "unknown"
ERROR_UNKNOWN = "error unknown"


def slo_line(summary: PeriodSummary) -> str:
    """Return whether the period met its SLO, with the late requests."""
    slo, late = summary.recorded.spec.slo, summary.late_requests
    if slo is None:
        return f"SLO unknown: {summary.late_reason}. Set slo in the workload."
    if late is None:
        return f"SLO unknown: {summary.late_reason}."
    known, allowed_share = _known_part(summary.known(summary.late)), 1.0 - slo.share
    burn_rate = f": burn rate {late.share / allowed_share:.2g}" if allowed_share > 0 and late.requests else ""
    allowed = f"{percent(allowed_share)} allowed{burn_rate}"
    return f"SLO {summary.slo_status}: about {late}{known}, {allowed}; {summary.late_method}."


def headline(summary: PeriodSummary) -> str:
    """Return the period and its cost."""
    recorded = summary.recorded
    usd, hours = summary.total(summary.usd), summary.replica_hours
    text = f"{recorded.name}, {duration(recorded.span_s)} from {timestamp(float(recorded.at[0]))}: "
    text += f"{UNKNOWN if hours is None else f'{hours:,.1f}'} replica-hours"
    if summary.unpriced or usd is None:
        return f"{text}, cost {UNKNOWN} (no price_usd_per_hour for {', '.join(summary.unpriced) or 'its pools'})."
    api = api_cost(summary)
    text = f"{text} for {dollars(usd)}{_known_part(summary.known(summary.usd))}"
    return f"{text}, and {api} for token APIs." if api else f"{text}."


def api_cost(summary: PeriodSummary) -> str:
    """Return the cost of requests to token APIs; empty where there were none."""
    if not summary.api_usd.any():  # an unknown cost, NaN, is not zero
        return ""
    usd = summary.total(summary.api_usd)
    return UNKNOWN if usd is None else f"{dollars(usd)}{_known_part(summary.known(summary.api_usd))}"


OVERVIEW = ("SLO", "replica-hours", "cost", "idle cost", "SLO violations", "blind time", "ticks with a shortage")


def overview(summary: PeriodSummary) -> Sequence[str]:
    """Return the cells of `OVERVIEW`."""
    usd, idle, late = (summary.total(values) for values in (summary.usd, summary.idle_usd, summary.late))
    hours = summary.replica_hours
    return (
        str(summary.slo_status),
        _hours(hours),
        _dollars(None if summary.unpriced else usd),
        _dollars(idle),
        _count(late),
        share(summary.blind_share),
        f"{summary.recorded.columns['short'].sum():,.0f}",
    )


def sentences(result: BacktestResult) -> Iterator[str]:
    """Yield further sentences about the record."""
    summary, recorded = result.summary, result.recorded
    idle, usd = summary.total(summary.idle_usd), summary.total(summary.usd)
    if recorded.spec.slo is not None:
        yield f"SLO: {slo_text(recorded.spec.slo)}."
    if recorded.error_budget is not None:
        yield f"Error budget at the end: SLO {budget_text(recorded.error_budget)}."
    if idle is not None and usd:
        yield (
            f"Idle cost: {dollars(idle)} ({share(idle / usd)}) for replicas above the current load, such as headroom"
            " for start-up times and bursts, and delayed scale-in. Reserved replicas are excluded."
        )
    reasons = recorded.reasons
    yield (
        f"{len(recorded):,} ticks, every {recorded.interval_s:.0f} s: {reasons.ups:,} scaled out, {reasons.downs:,}"
        f" scaled in; observations were incomplete for {summary.blind_share:.2%} of the time."
    )
    if recorded.silent_s > recorded.interval_s:
        yield f"No ticks for {duration(recorded.silent_s)}: this time is not in any sum and is a gap in the plots."
    if len(recorded.specs) > 1:
        maximum = max(recorded.specs.values())
        yield (
            f"The specification changed: {len(recorded.specs)} versions were active. The report uses prices, pools and"
            f" policy of the version that decided most ticks ({maximum:,} of {len(recorded):,})."
        )
    if recorded.damaged:
        yield f"{recorded.damaged:,} damaged lines of the journals were skipped."
    if recorded.out_of_order:
        yield f"{recorded.out_of_order:,} ticks were skipped: the clock was set back, or two journals contain them."
    if recorded.columns["dry_run"].any():
        dry = float(recorded.columns["dry_run"].mean())
        yield f"{share(dry)} of the ticks were dry runs: their sizes were set by another writer, not by Forescale."


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the comparison; `insignificant` if it is within the method's error."""

    text: str
    insignificant: bool = False

    def __str__(self) -> str:
        return self.text


def comparison(result: BacktestResult) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Return column names and rows: the record compared with every simulated policy.

    Each figure has its error.
    """
    if result.counterfactuals is None:
        return [], []
    counterfactuals = result.counterfactuals
    summary, outcomes, error = result.summary, counterfactuals.outcomes, counterfactuals.error
    usd, late, hours = summary.total(summary.usd), summary.total(summary.late), summary.replica_hours
    priced = None if summary.unpriced or usd is None else usd
    versus = f"compared with {counterfactuals.baseline.name}"
    rows: list[tuple[str, str, Iterable[Cell]]] = [
        ("cost", _dollars(priced), (_with_error(o.usd, error.usd_off, dollars) for o in outcomes)),
        (f"  {versus}", "", (_usd_difference(counterfactuals, o) for o in outcomes)),
        ("replica-hours", _hours(hours), (_with_error(o.replica_hours, error.hours_off, _hours) for o in outcomes)),
        ("requests", "", (Cell(f"{o.requests:,}") for o in outcomes)),
        ("SLO violations", _count(late), (_with_error(o.late, error.late_off, _count) for o in outcomes)),
        (f"  {versus}", "", (_late_difference(counterfactuals, o) for o in outcomes)),
        ("  share of requests", _share(summary.late_requests), (_late_share(o, error.late_off) for o in outcomes)),
        ("TTFT p95, error unknown", "", (Cell(seconds(o.run_data.summary.ttft_s.p95)) for o in outcomes)),
        ("ITL p95, error unknown", "", (Cell(seconds(o.run_data.summary.itl_s.p95)) for o in outcomes)),
    ]
    table = [(title, [Cell(recorded), *cells]) for title, recorded, cells in rows]
    names = ["recorded", *(o.name for o in outcomes)]
    return names, [(title, cells) for title, cells in table if not {c.text for c in cells} <= {"", "-"}]


def reasons(result: BacktestResult) -> list[Sequence[str]]:
    """Return a row for each rule: its share of the ticks, its changes, and its last reason."""
    recorded = result.recorded
    rules = sorted(recorded.reasons.rules.items(), key=lambda item: (-item[1].ticks, item[0]))
    return [
        (name, f"{rule.ticks / len(recorded):.1%}", f"{rule.changes:,}", f"{rule.reason} ({timestamp(rule.at)})")
        for name, rule in rules
    ]


def changes(result: BacktestResult) -> list[Sequence[str]]:
    """Return a row for each of the largest changes, oldest first."""
    summary = result.recorded.reasons.largest
    return [(timestamp(c.at), f"{c.before} → {c.after}", c.reason) for c in summary]


def notable_rows(result: BacktestResult) -> list[Sequence[str]]:
    """Return a row for each notable period."""
    return [
        (period.kind, timestamp(period.since), _length(period.over_s), period.text, timestamp(period.worst))
        for period in result.notable
    ]


def no_problem(summary: PeriodSummary) -> str:
    """Return the sentence of a period without notable periods; what is unknown is no good news."""
    totals = {"SLO violations": summary.late, "idle cost": summary.idle_usd}
    unknown = [name for name, values in totals.items() if summary.total(values) is None]
    known = [name for name in (*totals, "blind ticks", "rejected writes") if name not in unknown]
    text = f"No problems: no {', '.join(known[:-1])} or {known[-1]}."
    return f"{text} Unknown: {' and '.join(unknown)}." if unknown else text


def notable_overall(period: Sequence[BacktestResult]) -> list[Sequence[str]]:
    """Return rows of the worst notable periods of each kind over all workloads.

    Each row has the workload's name.
    """
    pairs = [(period, result.recorded.name) for result in period for period in result.notable]
    pairs.sort(key=lambda pair: (ORDER.index(pair[0].kind), -pair[0].amount))
    kinds = [[pair for pair in pairs if pair[0].kind == kind][:MAX_SHOWN] for kind in ORDER]
    return [
        (period.kind, name, timestamp(period.since), _length(period.over_s), period.text)
        for kind in kinds
        for period, name in kind
    ]


def notes(result: BacktestResult) -> Iterator[str]:
    """Yield the notes needed to read the comparison, or the reason why there is none."""
    if result.counterfactuals is None:
        yield f"No other policy was simulated: {result.skip_reason}."
        return
    yield result.counterfactuals.error.sentences()
    if result.world is not None:
        yield from (f"{text[0].upper()}{text[1:]}." for text in result.world.assumptions)
        if not result.world.has_slo:
            usual = slo_text(result.world.case.target)
            yield f"The workload has no slo; the simulated runs are judged by the default SLO: {usual}."
    yield from (f"Not simulated: {text}." for text in result.counterfactuals.left_out)


def lines(result: BacktestResult) -> Iterator[str]:
    """Yield the backtest for a terminal."""
    yield slo_line(result.summary)
    yield headline(result.summary)
    yield from (f"  {sentence}" for sentence in sentences(result))
    if result.notable:
        yield ""
        rows = [(kind, [since, amount, worst]) for kind, since, _, amount, worst in notable_rows(result)]
        yield from aligned(rows, ["since", "amount", "worst tick"], "problem")
    head, compared = comparison(result)
    if compared:
        yield ""
        yield from aligned([(title, [cell.text for cell in cells]) for title, cells in compared], head)
    yield ""
    yield from notes(result)


def _known_part(known: float) -> str:
    return "" if known > WHOLLY_KNOWN else f" (known for {known:.0%} of the time)"


def _dollars(usd: float | None) -> str:
    return UNKNOWN if usd is None else dollars(usd)


def _count(count: float | None) -> str:
    return UNKNOWN if count is None else f"{count:,.0f}"


def _length(span_s: float) -> str:
    return "1 hour" if span_s == 3600.0 else duration(span_s)


def _hours(hours: float | None) -> str:
    return UNKNOWN if hours is None else f"{hours:,.2f}"


def _with_error(value: float | None, error: float | None, show: Callable[[float], str]) -> Cell:
    """Return a simulated figure and the method's error in it."""
    if value is None:
        return Cell(UNKNOWN)
    return Cell(f"{show(value)}, {ERROR_UNKNOWN}" if error is None else f"{show(value)} ± {show(error)}")


def _late_share(outcome: CounterfactualOutcome, error: float | None) -> Cell:
    if outcome.late is None or not outcome.requests:
        return Cell("")
    return _with_error(
        outcome.late / outcome.requests, None if error is None else error / outcome.requests, fine_percent
    )


def _share(late: LateRequests | None) -> str:
    return "" if late is None else fine_percent(late.share)


def _usd_difference(counterfactuals: Counterfactuals, outcome: CounterfactualOutcome) -> Cell:
    base = counterfactuals.baseline.usd
    return _difference(counterfactuals, outcome, counterfactuals.usd_difference(outcome), base, dollars)


def _late_difference(counterfactuals: Counterfactuals, outcome: CounterfactualOutcome) -> Cell:
    base = counterfactuals.baseline.late
    return _difference(counterfactuals, outcome, counterfactuals.late_difference(outcome), base, _count)


def _difference(
    counterfactuals: Counterfactuals,
    outcome: CounterfactualOutcome,
    checked: CheckedDifference | None,
    base: float | None,
    show: Callable[[float], str],
) -> Cell:
    """Return a difference from the baseline, and whether it is within the method's error."""
    if checked is None:
        return Cell(UNKNOWN if counterfactuals.is_compared(outcome) else "")
    share_ = f" ({checked.value / base:+.1%})" if base else ""
    text = f"{'-' if checked.value < 0 else '+'}{show(abs(checked.value))}{share_}"
    notes = {True: f", {WITHIN}", False: "", None: f", {ERROR_UNKNOWN}"}
    return Cell(f"{text}{notes[checked.within_error]}", insignificant=bool(checked.within_error))
