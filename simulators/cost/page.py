"""The advice on a page that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from simulators.cost import plots
from simulators.cost.advice import Advice
from simulators.cost.figures import Citation, Figure, Section
from simulators.cost.text import number
from simulators.reporting import html

HEAD = ("", "value", "unit", "formula", "rests on")
LEAD = 2
"""Findings that stand at the page's top, and not again in their section."""
CARDS = (
    ("buying", "on_demand_usd", "all on demand, a month"),
    ("buying", "plan_usd", "bought as advised, a month"),
    ("buying", "paid_usd", "as it was run, a month"),
    ("headroom", "beyond_usd", "held beyond the need, a month"),
    ("managed", "api_usd", "a managed API, a month"),
)


def page(found: Advice) -> str:
    """The page, as HTML: equal for equal advice."""
    seen = found.seen
    title = f"{seen.name}: what demand costs"
    numbers: dict[Citation, int] = {}
    parts = [
        html.tag("h1", html.text(title)),
        html.tag("p", html.text(f"Workload {seen.recorded.name}, on {seen.runs_on}."), "muted"),
        *(html.tag("p", html.text(s), "lead") for s in found.sections[0].findings[:LEAD]),
        html.cards(list(_cards(found))),
        *(part for section in found.sections for part in _section(found, section, numbers)),
        *_sources(numbers),
        html.tag("h2", "Know before you act on it"),
        *(html.tag("p", html.text(caution)) for caution in found.cautions),
    ]
    return html.document(title, parts)


def _cards(found: Advice) -> Iterator[tuple[str, str, str]]:
    for key, name, words in CARDS:
        figure = next((f for f in found.section(key).figures if f.key == name), None)
        if figure is not None:
            yield words, f"${number(figure.value)}", ""


def _section(found: Advice, section: Section, numbers: dict[Citation, int]) -> Iterator[str]:
    yield html.tag("h2", html.text(section.title))
    for finding in section.findings[LEAD if section is found.sections[0] else 0 :]:
        yield html.tag("p", html.text(finding))
    yield from plots.parts(found, section.key)
    if section.figures:
        yield _table(section.figures, numbers)
    for gap in section.gaps:
        yield html.tag("p", html.text(f"Not told: {gap.what}: {gap.why} ({gap.remedy})."), "muted")


def _table(figures: tuple[Figure, ...], numbers: dict[Citation, int]) -> str:
    """Every figure with its formula, and the numbers of its sources."""
    head = "".join(html.tag("th", html.text(cell)) for cell in HEAD)
    rows = "".join(html.tag("tr", "".join(_cells(figure, numbers))) for figure in figures)
    return html.tag(
        "div", html.tag("table", html.tag("thead", html.tag("tr", head)) + html.tag("tbody", rows)), "table"
    )


def _cells(figure: Figure, numbers: dict[Citation, int]) -> Iterator[str]:
    about = f" ({figure.about.replace('_', '-')})" if figure.about else ""
    yield html.tag("td", html.text(figure.title + about))
    bounds = ""
    if figure.low is not None and figure.high is not None:
        bounds = f" ({number(figure.low)} to {number(figure.high)})"
    yield html.tag("td", html.text(number(figure.value) + bounds))
    yield html.tag("td", html.text(figure.unit))
    yield html.tag("td", html.text(f"= {figure.formula}"), "text")
    marks = " ".join(str(numbers.setdefault(source, len(numbers) + 1)) for source in figure.sources)
    yield html.tag("td", html.text(marks + (", a prior" if figure.rests_on_prior else "")), "text")


def _sources(numbers: dict[Citation, int]) -> Iterator[str]:
    """What the numbers stand for: known once every section is written."""
    yield html.tag("h2", "Sources")
    yield html.table(("", "what", "where"), [(str(n), str(s.basis), s.where) for s, n in numbers.items()])
