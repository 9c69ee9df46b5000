"""The advice as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from simulators.cost.advice import Advice
from simulators.cost.figures import Citation, Figure, Section

WIDTH = 110


def lines(advised: Advice) -> Iterator[str]:
    """Yield the lines of each section, then those of the sources and cautions.

    A section has its findings, then every figure with its formula and the numbers of its sources.
    """
    evidence = advised.evidence
    yield f"{evidence.name}: workload {evidence.recorded.name} on {evidence.runs_on}"
    numbers: dict[Citation, int] = {}
    for section in advised.sections:
        yield from _section(section, numbers)
    if numbers:
        yield ""
        yield "Sources"
    for source, number in numbers.items():
        yield from _wrapped(f"[{number}] {source}", "  ", "      ")
    yield ""
    yield "Limits of this advice"
    for caution in advised.cautions:
        yield from _wrapped(caution, "  - ", "    ")


def _section(section: Section, numbers: dict[Citation, int]) -> Iterator[str]:
    yield ""
    yield section.title
    for finding in section.findings:
        yield from _wrapped(finding, "  ", "  ")
    for figure in section.figures:
        yield from _figure(figure, numbers)
    for gap in section.gaps:
        yield from _wrapped(f"missing: {gap.what}: {gap.why} ({gap.remedy})", "  ", "    ")


def _figure(figure: Figure, numbers: dict[Citation, int]) -> Iterator[str]:
    about = f" ({figure.about.replace('_', '-')})" if figure.about else ""
    marks = "".join(f"[{numbers.setdefault(source, len(numbers) + 1)}]" for source in figure.sources)
    yield f"    {figure.title + about:<66} {value(figure)}"
    yield from _wrapped(f"= {figure.formula} {marks}", "        ", "          ")


def value(figure: Figure) -> str:
    """Return a figure's value with its unit.

    Its bounds follow if it has any, and a note if it rests on a prior.
    """
    text = f"{number(figure.value)} {figure.unit}"
    if figure.low is not None and figure.high is not None:
        text += f", {number(figure.low)} to {number(figure.high)}"
    return text + (", uses a prior" if figure.rests_on_prior else "")


def number(value: float) -> str:
    """Return four significant digits, with thousands in groups."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _wrapped(text: str, first: str, rest: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
