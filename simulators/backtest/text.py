"""Text of a recorded period: sentences and table rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scaler.journal.explain import timestamp
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.counterfactuals import SAME_SIZES, CounterfactualOutcome
from simulators.backtest.period_summary import MAX_SHOWN, ORDER, PeriodSummary
from simulators.reporting.table import aligned, dollars, seconds, share
from simulators.reporting.text import slo_text
from simulators.world.traffic.describe import duration

Row = tuple[str, list[str]]
WHOLLY_KNOWN = 0.995
"""A figure known for more than this share of the time is shown without that share."""
UNKNOWN = "unknown"


def headline(summary: PeriodSummary) -> str:
    """Return the period's cost and its late requests."""
    recorded = summary.recorded
    usd, late = summary.total(summary.usd), summary.total(summary.late)
    hours = summary.replica_hours
    text = f"{recorded.name}, {duration(recorded.span_s)} from {timestamp(float(recorded.at[0]))}: "
    text += f"{UNKNOWN if hours is None else f'{hours:,.1f}'} replica-hours"
    if summary.unpriced or usd is None:
        text += f", cost {UNKNOWN} (no price_usd_per_hour for {', '.join(summary.unpriced) or 'its pools'})"
    else:
        text += f" for {dollars(usd)}{_known_part(summary.known(summary.usd))}"
    if late is None:
        return f"{text}; SLO violations {summary.late_method}."
    return f"{text}; about {late:,.0f} SLO violations{_known_part(summary.known(summary.late))}, {summary.late_method}."


OVERVIEW = ("replica-hours", "cost", "idle cost", "SLO violations", "blind time", "ticks with a shortage")


def overview(summary: PeriodSummary) -> Sequence[str]:
    """Return the cells of `OVERVIEW`."""
    usd, idle, late = (summary.total(values) for values in (summary.usd, summary.idle_usd, summary.late))
    hours = summary.replica_hours
    return (
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


def comparison(result: BacktestResult) -> tuple[list[str], list[Row]]:
    """Return column names and rows: the record compared with every simulated policy."""
    if result.counterfactuals is None:
        return [], []
    summary, outcomes = result.summary, result.counterfactuals.outcomes
    usd, late, hours = summary.total(summary.usd), summary.total(summary.late), summary.replica_hours
    priced = None if summary.unpriced or usd is None else usd
    baseline, error = result.counterfactuals.baseline, result.counterfactuals.error.usd_off
    rebuilt = outcomes[0].requests
    rows: list[Row] = [
        ("cost", [_dollars(priced), *(_dollars(o.usd) for o in outcomes)]),
        (f"cost compared with {baseline.name}", ["", *(_cost_difference(o, baseline, error) for o in outcomes)]),
        ("replica-hours", [_hours(hours), *(_hours(o.replica_hours) for o in outcomes)]),
        ("requests", ["", *(f"{o.requests:,}" for o in outcomes)]),
        ("SLO violations", [_count(late), *(_count(o.late) for o in outcomes)]),
        ("  share of requests", [_share(late, rebuilt), *(_share(o.late, o.requests) for o in outcomes)]),
        ("TTFT p95", ["", *(seconds(o.run_data.summary.ttft_s.p95) for o in outcomes)]),
        ("ITL p95", ["", *(seconds(o.run_data.summary.itl_s.p95) for o in outcomes)]),
    ]
    names = ["recorded", *(o.name for o in outcomes)]
    return names, [(title, cells) for title, cells in rows if not set(cells) <= {"", "-"}]


def reasons(result: BacktestResult) -> list[Sequence[str]]:
    """Return a row for each rule: its share of the ticks, its changes, and its last reason."""
    recorded = result.recorded
    rules = sorted(recorded.reasons.rules.items(), key=lambda item: (-item[1].turns, item[0]))
    return [
        (name, f"{rule.turns / len(recorded):.1%}", f"{rule.changes:,}", f"{rule.reason} ({timestamp(rule.at)})")
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
    yield headline(result.summary)
    yield from (f"  {sentence}" for sentence in sentences(result))
    if result.notable:
        yield ""
        rows = [(kind, [since, amount, worst]) for kind, since, _, amount, worst in notable_rows(result)]
        yield from aligned(rows, ["since", "amount", "worst tick"], "problem")
    head, compared = comparison(result)
    if compared:
        yield ""
        yield from aligned(compared, head)
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


def _share(late: float | None, requests: int) -> str:
    return "" if late is None or not requests else f"{late / requests:.2%}"


def _cost_difference(outcome: CounterfactualOutcome, baseline: CounterfactualOutcome, error: float | None) -> str:
    """Return the cost difference from the baseline, and whether it is within the method's error."""
    if outcome.name in {baseline.name, SAME_SIZES}:
        return ""
    if outcome.usd is None or baseline.usd is None:
        return UNKNOWN
    difference = outcome.usd - baseline.usd
    share_ = f" ({difference / baseline.usd:+.1%})" if baseline.usd else ""
    note = "" if error is None or abs(difference) > error else ", within the method's error"
    return f"{'-' if difference < 0 else '+'}{dollars(abs(difference))}{share_}{note}"
