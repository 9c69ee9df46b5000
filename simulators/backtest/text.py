"""A recorded period in plain sentences and rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scaler.journal.explain import timestamp
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.counterfactuals import SAME, CounterfactualOutcome
from simulators.backtest.period_summary import ORDER, SHOWN, PeriodSummary
from simulators.reporting.table import aligned, dollars, seconds, share
from simulators.reporting.text import promise
from simulators.world.traffic.describe import duration

Row = tuple[str, list[str]]
WHOLE = 0.995
"""Of what is known for so much of the time it is not said that the rest is not."""
UNKNOWN = "not known"


def headline(found: PeriodSummary) -> str:
    """Return the period's cost and its late requests."""
    recorded = found.recorded
    usd, late = found.total(found.usd), found.total(found.late)
    hours = found.replica_hours
    said = f"{recorded.name}, {duration(recorded.span_s)} from {timestamp(float(recorded.at[0]))}: "
    said += f"{UNKNOWN if hours is None else f'{hours:,.1f}'} replica-hours"
    if found.unpriced or usd is None:
        said += f", cost {UNKNOWN} (no price_usd_per_hour of {', '.join(found.unpriced) or 'its pools'})"
    else:
        said += f" for {dollars(usd)}{_part(found.known(found.usd))}"
    if late is None:
        return f"{said}; late requests {found.late_how}."
    return f"{said}; about {late:,.0f} requests late{_part(found.known(found.late))}, {found.late_how}."


EACH = ("replica-hours", "cost", "beyond the work", "late requests", "blind", "turns without capacity")


def each(found: PeriodSummary) -> Sequence[str]:
    """Return the figures of `EACH`."""
    usd, idle, late = (found.total(values) for values in (found.usd, found.idle_usd, found.late))
    hours = found.replica_hours
    return (
        _hours(hours),
        _dollars(None if found.unpriced else usd),
        _dollars(idle),
        _count(late),
        share(found.blind_share),
        f"{found.recorded.columns['short'].sum():,.0f}",
    )


def sentences(looked: BacktestResult) -> Iterator[str]:
    """Yield further sentences about the record."""
    found, recorded = looked.found, looked.recorded
    idle, usd = found.total(found.idle_usd), found.total(found.usd)
    if recorded.spec.slo is not None:
        yield f"Promised: {promise(recorded.spec.slo)}."
    if idle is not None and usd:
        yield (
            f"{dollars(idle)} ({share(idle / usd)}) was paid for replicas beyond the work of the turn: what is kept"
            " against start-up times and surges, and what came down late. Reserved replicas are not among them."
        )
    reasons = recorded.reasons
    yield (
        f"{len(recorded):,} turns, every {recorded.interval_s:.0f} s; {reasons.ups:,} asked for more and"
        f" {reasons.downs:,} for fewer; {found.blind_share:.2%} of the time without full evidence."
    )
    if recorded.silent_s > recorded.interval_s:
        yield f"For {duration(recorded.silent_s)} no turn was taken: that time is in no sum, and a gap in the plots."
    if len(recorded.specs) > 1:
        most = max(recorded.specs.values())
        yield (
            f"The specification changed: {len(recorded.specs)} decided in turn. Prices, pools and the policy that is"
            f" simulated are those of the one that decided most turns ({most:,} of {len(recorded):,})."
        )
    if recorded.damaged:
        yield f"{recorded.damaged:,} damaged lines of the journals were passed over."
    if recorded.turned_back:
        yield f"{recorded.turned_back:,} turns were left out: the clock had been set back, or two journals have them."
    if recorded.columns["dry_run"].any():
        dry = float(recorded.columns["dry_run"].mean())
        yield f"{share(dry)} of the turns were dry: their sizes are those found, and nobody's decision here."


def comparison(looked: BacktestResult) -> tuple[list[str], list[Row]]:
    """Names of columns, and rows: the record beside every policy simulated."""
    if looked.others is None:
        return [], []
    found, outcomes = looked.found, looked.others.outcomes
    usd, late, hours = found.total(found.usd), found.total(found.late), found.replica_hours
    priced = None if found.unpriced or usd is None else usd
    base, off = looked.others.base, looked.others.error.usd_off
    rebuilt = outcomes[0].requests
    rows: list[Row] = [
        ("cost", [_dollars(priced), *(_dollars(o.usd) for o in outcomes)]),
        (f"cost against {base.name}", ["", *(_less(o, base, off) for o in outcomes)]),
        ("replica-hours", [_hours(hours), *(_hours(o.replica_hours) for o in outcomes)]),
        ("requests", ["", *(f"{o.requests:,}" for o in outcomes)]),
        ("late requests", [_count(late), *(_count(o.late) for o in outcomes)]),
        ("  of them", [_share(late, rebuilt), *(_share(o.late, o.requests) for o in outcomes)]),
        ("TTFT p95", ["", *(seconds(o.run_data.summary.ttft_s.p95) for o in outcomes)]),
        ("ITL p95", ["", *(seconds(o.run_data.summary.itl_s.p95) for o in outcomes)]),
    ]
    named = ["recorded", *(o.name for o in outcomes)]
    return named, [(title, cells) for title, cells in rows if not set(cells) <= {"", "-"}]


def reasons(looked: BacktestResult) -> list[Sequence[str]]:
    """Return a row a rule: how often it had the last word, in how many changes, and what it said last."""
    recorded = looked.recorded
    ranked = sorted(recorded.reasons.rules.items(), key=lambda item: (-item[1].turns, item[0]))
    return [
        (name, f"{rule.turns / len(recorded):.1%}", f"{rule.changes:,}", f"{rule.reason} ({timestamp(rule.at)})")
        for name, rule in ranked
    ]


def changes(looked: BacktestResult) -> list[Sequence[str]]:
    """Return a row a change of the largest, oldest first."""
    found = looked.recorded.reasons.largest
    return [(timestamp(c.at), f"{c.before} → {c.after}", c.reason) for c in found]


def where(looked: BacktestResult) -> list[Sequence[str]]:
    """Return a row a stretch that deserves a look."""
    return [
        (look.what, timestamp(look.since), _lasting(look.over_s), look.words, timestamp(look.worst))
        for look in looked.looks
    ]


def over_all(period: Sequence[BacktestResult]) -> list[Sequence[str]]:
    """Return the same over all workloads, each row with its workload: the worst few of each kind."""
    named = [(look, one.recorded.name) for one in period for look in one.looks]
    named.sort(key=lambda pair: (ORDER.index(pair[0].what), -pair[0].amount))
    kinds = [[pair for pair in named if pair[0].what == what][:SHOWN] for what in ORDER]
    return [
        (look.what, name, timestamp(look.since), _lasting(look.over_s), look.words)
        for kind in kinds
        for look, name in kind
    ]


def notes(looked: BacktestResult) -> Iterator[str]:
    """Yield the notes needed to read the comparison, or the reason why there is none."""
    if looked.others is None:
        yield f"What other policies would have done was not simulated: {looked.why_not}."
        return
    yield looked.others.error.words()
    if looked.world is not None:
        yield from (f"{said[0].upper()}{said[1:]}." for said in looked.world.how)
        if not looked.world.promised:
            usual = promise(looked.world.case.scenario.slo)
            yield f"Nothing is promised (slo): what the runs below tell of an SLO is about the usual one: {usual}."
    yield from (f"Not simulated: {said}." for said in looked.others.left_out)


def lines(looked: BacktestResult) -> Iterator[str]:
    """Yield the same for a terminal."""
    yield headline(looked.found)
    yield from (f"  {said}" for said in sentences(looked))
    if looked.looks:
        yield ""
        rows = [(what, [since, much, worst]) for what, since, _, much, worst in where(looked)]
        yield from aligned(rows, ["since", "how much", "worst turn"], "where to look")
    head, compared = comparison(looked)
    if compared:
        yield ""
        yield from aligned(compared, head)
    yield ""
    yield from notes(looked)


def _part(known: float) -> str:
    return "" if known > WHOLE else f" (known for {known:.0%} of the time)"


def _dollars(usd: float | None) -> str:
    return UNKNOWN if usd is None else dollars(usd)


def _count(count: float | None) -> str:
    return UNKNOWN if count is None else f"{count:,.0f}"


def _lasting(span_s: float) -> str:
    return "1 hour" if span_s == 3600.0 else duration(span_s)


def _hours(hours: float | None) -> str:
    return UNKNOWN if hours is None else f"{hours:,.2f}"


def _share(late: float | None, requests: int) -> str:
    return "" if late is None or not requests else f"{late / requests:.2%}"


def _less(one: CounterfactualOutcome, base: CounterfactualOutcome, off: float | None) -> str:
    """Money less the base's, and whether that is more than the method errs by; nothing of what is no policy."""
    if one.name in {base.name, SAME}:
        return ""
    if one.usd is None or base.usd is None:
        return UNKNOWN
    more = one.usd - base.usd
    part = f" ({more / base.usd:+.1%})" if base.usd else ""
    told = "" if off is None or abs(more) > off else ", within the error"
    return f"{'-' if more < 0 else '+'}{dollars(abs(more))}{part}{told}"
