"""The advice as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simulators.cost import plots
from simulators.cost.advice import Advice
from simulators.cost.figures import Citation, Figure, Section
from simulators.cost.text import number
from simulators.reporting import html

LEAD = 2
"""Number of findings shown at the top of the page instead of in their section."""
CARDS = (
    ("buying", "on_demand_usd", "all on-demand, per month"),
    ("buying", "recommended_usd", "recommended, per month"),
    ("buying", "run_usd", "as run on the same basis, per month"),
    ("buying", "paid_usd", "billed, per month"),
    ("headroom", "beyond_usd", "replicas above demand, per month"),
    ("managed", "api_usd", "managed API, per month"),
)


def page(advised: Advice) -> str:
    """Return the page as HTML: equal for equal advice."""
    evidence = advised.evidence
    numbers: dict[Citation, int] = {}
    return html.render(
        "advice.html.j2",
        title=f"{evidence.name}: cost advice",
        about=f"Workload {evidence.recorded.name}, on {evidence.runs_on}.",
        lead=advised.sections[0].findings[:LEAD],
        cards=list(_cards(advised)),
        sections=[_section(advised, section, numbers) for section in advised.sections],
        sources=[(number, source.basis, source.where) for source, number in numbers.items()],
        cautions=advised.cautions,
    )


def _cards(advised: Advice) -> Iterator[tuple[str, str, str]]:
    for key, name, words in CARDS:
        figure = next((f for f in advised.section(key).figures if f.key == name), None)
        if figure is not None:
            yield words, f"${number(figure.value)}", ""


def _section(advised: Advice, section: Section, numbers: dict[Citation, int]) -> dict[str, Any]:
    return {
        "title": section.title,
        "findings": section.findings[LEAD if section is advised.sections[0] else 0 :],
        "plots": list(plots.parts(advised, section.key)),
        "figures": [_row(figure, numbers) for figure in section.figures],
        "gaps": [f"Missing: {gap.what}: {gap.why} ({gap.remedy})." for gap in section.gaps],
    }


def _row(figure: Figure, numbers: dict[Citation, int]) -> Sequence[str]:
    """Return a table row of a figure. Its sources are added to `numbers`."""
    about = f" ({figure.about.replace('_', '-')})" if figure.about else ""
    bounds = ""
    if figure.low is not None and figure.high is not None:
        bounds = f" ({number(figure.low)} to {number(figure.high)})"
    marks = " ".join(str(numbers.setdefault(source, len(numbers) + 1)) for source in figure.sources)
    return (
        figure.title + about,
        number(figure.value) + bounds,
        figure.unit,
        f"= {figure.formula}",
        marks + (", prior" if figure.rests_on_prior else ""),
    )
