"""Runs on a page: what it cost, whether the promise was kept, what was wasted; then plots, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import yaml

from simulators.experiments.run import SimulationRun
from simulators.reporting import html, plots, table, text
from simulators.reporting.run_data import Sheet, sheet


def page(runs: Sequence[tuple[str, SimulationRun]], found: Sequence[str] = ()) -> str:
    """The page, as HTML: equal for equal runs, whoever makes it. `found` are HTML parts to stand at its top."""
    return of_sheets([sheet(name, run) for name, run in runs], found)


def of_sheets(sheets: Sequence[Sheet], found: Sequence[str] = ()) -> str:
    """The page from what was counted already. Raises `ValueError` without a run, or if two have one name."""
    names = [s.name for s in sheets]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a page needs runs with names of their own, not {names}")
    title = f"{sheets[0].summary.scenario}: {', '.join(names)}"
    return html.document(title, [*_top(sheets, found), *_runs(sheets)])


def _top(sheets: Sequence[Sheet], found: Sequence[str]) -> Iterator[str]:
    first = sheets[0].summary
    policies = sheets[0].name if len(sheets) == 1 else f"{len(sheets)} policies"
    yield html.tag("h1", html.text(f"{first.scenario} under {policies}"))
    yield from found
    if len(sheets) == 1:
        yield html.tag("h2", html.text(f"The run with seed {first.seed}")) if found else ""
        return
    yield html.tag("h2", "Side by side")
    seeds = {s.summary.seed for s in sheets}
    same = "the same requests and the same chance" if len(seeds) == 1 else "seeds of their own"
    yield html.tag("p", html.text(f"One run each, seed {', '.join(map(str, sorted(seeds)))}: {same}."), "muted")
    rows = table.cells([s.summary for s in sheets])
    yield html.table(["", *(s.name for s in sheets)], [(title.strip(), *row) for title, row in rows])
    yield from plots.of_runs(sheets)


def _runs(sheets: Sequence[Sheet]) -> Iterator[str]:
    if len(sheets) == 1:
        yield from _whole(sheets[0], "run0")
    else:
        yield from (folded(one, f"run{number}") for number, one in enumerate(sheets))


def folded(one: Sheet, key: str) -> str:
    """All there is to show of a run, folded away under its name. `key` tells it from the page's other runs."""
    return html.tag("details", html.tag("summary", html.tag("h2", html.text(one.name))) + "\n".join(_whole(one, key)))


def _whole(one: Sheet, key: str) -> Sequence[str]:
    return [
        html.tag("p", html.text(text.headline(one)), "lead"),
        *(html.tag("p", html.text(said)) for said in text.sentences(one)),
        _cards(one),
        *plots.of_run(one, key),
        _figures(one),
        _origin(one),
    ]


def _cards(one: Sheet) -> str:
    s = one.summary
    kept = s.attainment.get("all", math.nan)
    return html.cards(
        [
            ("cost", table.dollars(s.cost_usd), ""),
            (
                f"SLO attainment (target {text.percent(one.slo.share)})",
                table.share(kept),
                "good" if s.slo_met else "bad",
            ),
            ("wasted", table.share(s.waste_share), ""),
            ("TTFT p95 / p99", f"{table.seconds(s.ttft_s.p95)} / {table.seconds(s.ttft_s.p99)}", ""),
            ("ITL p95 / p99", f"{table.seconds(s.itl_s.p95)} / {table.seconds(s.itl_s.p99)}", ""),
            ("replicas mean / max", f"{s.replicas_mean:.1f} / {s.replicas_max}", ""),
            ("node hours", f"{s.node_hours:,.1f}", ""),
            ("requests", f"{s.arrived:,}", ""),
        ]
    )


def _figures(one: Sheet) -> str:
    rows = [(title.strip(), *row) for title, row in table.cells([one.summary])]
    costs = [(f"cost, {use}", table.dollars(usd)) for use, usd in one.summary.cost_by_use_usd.items() if usd]
    markets = [
        (f"cost, {market.replace('_', ' ')}", table.dollars(usd))
        for market, usd in one.summary.cost_by_market_usd.items()
    ]
    return html.tag("h2", "All figures") + html.table(["", one.name], [*rows, *markets, *costs])


def _origin(one: Sheet) -> str:
    """How the run was made: enough to make it again."""
    made = dict(one.made_from)
    workload, models = made.pop("workload"), made.pop("models")
    rows = list(made.items())
    rows += [(f"model {name}", said or "no provenance told") for name, said in models.items()]
    body = "".join(
        html.tag("tr", html.tag("td", html.text(what)) + html.tag("td", html.text(said), "text")) for what, said in rows
    )
    document = yaml.safe_dump(workload, sort_keys=False, allow_unicode=True, width=110)
    folded = html.tag("details", html.tag("summary", "The workload, every default filled in") + _pre(document))
    return html.tag("h2", "How it was made") + html.tag("div", html.tag("table", body), "table") + folded


def _pre(content: str) -> str:
    return html.tag("pre", html.text(content))
