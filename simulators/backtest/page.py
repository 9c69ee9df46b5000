"""A live period on a page: what happened, where to look, what others would have done; and the same for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from scaler.journal.explain import timestamp
from simulators.backtest import plots, text
from simulators.backtest.backtest import Looked
from simulators.backtest.period_summary import Happened
from simulators.reporting import html
from simulators.reporting import plots as simulated
from simulators.reporting.page import folded
from simulators.reporting.table import dollars, share


def page(period: Sequence[Looked], left_out: Mapping[str, str]) -> str:
    """The page, as HTML: equal for equal records. `left_out` are workloads of which nothing can be told, and why."""
    names = ", ".join(one.recorded.name for one in period)
    first = min(float(one.recorded.at[0]) for one in period)
    last = max(float(one.recorded.at[-1]) for one in period)
    title = f"{names}, {timestamp(first)} to {timestamp(last)}"
    parts = [html.tag("h1", html.text(title))]
    parts += [html.tag("p", html.text(f"{name}: left out: {why}."), "muted") for name, why in left_out.items()]
    if len(period) > 1:
        parts.append(html.table(["", *text.EACH], [(one.recorded.name, *text.each(one.found)) for one in period]))
        if rows := text.over_all(period):
            parts.append(html.tag("h2", "Where to look first"))
            parts.append(html.table(["what", "workload", "since", "for", "how much"], rows, {4}))
    for number, one in enumerate(period):
        parts += _workload(one, f"w{number}", alone=len(period) == 1)
    return html.document(title, parts)


def _workload(one: Looked, key: str, *, alone: bool) -> Iterator[str]:
    if not alone:
        yield html.tag("h1", html.text(one.recorded.name))
    yield html.tag("p", html.text(text.headline(one.found)), "lead")
    yield from (html.tag("p", html.text(said)) for said in text.sentences(one))
    yield _cards(one.found)
    yield html.tag("h2", "Where to look")
    yield _look(one)
    yield html.tag("h2", "What happened")
    yield from plots.of(one, key)
    yield html.tag("h2", "Why the sizes were what they were")
    yield html.table(["last word", "of the turns", "changes", "what it said last"], text.reasons(one), {3})
    if rows := text.changes(one):
        yield html.tag("h3", "The largest changes")
        yield html.table(["when", "size", "why"], rows, {2})
    yield html.tag("h2", "What other policies would have done")
    yield from _others(one, key)


def _look(one: Looked) -> str:
    if not one.looks:
        return html.tag("p", "Nothing stands out: no late requests, idle money, blind turns or refusals.")
    command = f"forescale explain JOURNAL --workload {one.recorded.name} --at TIME"
    said = html.tag("p", html.text(f"The worst turn of each in words: {command}"), "muted")
    return said + html.table(["what", "since", "for", "how much", "its worst turn"], text.where(one), {3})


def _others(one: Looked, key: str) -> Iterator[str]:
    yield from (html.tag("p", html.text(said), "" if k == 0 else "muted") for k, said in enumerate(text.notes(one)))
    if one.others is None:
        return
    head, rows = text.comparison(one)
    yield html.table(["", *head], [(title, *cells) for title, cells in rows])
    sheets = one.others.sheets
    yield from simulated.of_runs(sheets, f"{key}-all")
    yield from (folded(sheet, f"{key}-run{number}") for number, sheet in enumerate(sheets))


def _cards(found: Happened) -> str:
    recorded = found.recorded
    usd, idle, late = (found.total(values) for values in (found.usd, found.idle_usd, found.late))
    hours = found.replica_hours
    cost = text.UNKNOWN if usd is None or found.unpriced else dollars(usd)
    refused, short = (int(recorded.columns[name].sum()) for name in ("refused", "short"))
    return html.cards(
        [
            ("cost", cost, ""),
            ("beyond the work", text.UNKNOWN if idle is None else dollars(idle), ""),
            ("replica-hours", text.UNKNOWN if hours is None else f"{hours:,.1f}", ""),
            ("late requests", text.UNKNOWN if late is None else f"{late:,.0f}", "bad" if late and late >= 1 else ""),
            ("blind", share(found.blind_share), "bad" if found.blind_share > 0.01 else ""),
            ("writes refused", f"{refused:,}", "bad" if refused else ""),
            ("turns without capacity", f"{short:,}", "bad" if short else ""),
            ("changes up / down", f"{recorded.reasons.ups:,} / {recorded.reasons.downs:,}", ""),
        ]
    )
