"""How a search stands, on the terminal of whoever waits: the front so far, and how much of the budget is used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final, TextIO

from scaler.clock import stopwatch_s
from simulators.reporting.table import share
from simulators.tune.pareto import choice, front, picked
from simulators.tune.study import Study
from simulators.tune.text import money
from simulators.tune.validation import saved

WIDTH: Final = 30
AGAIN_S: Final = 1.0
"""Between two pictures: a faster one could not be read."""
TENTHS: Final = 10
"""A line for every tenth of the budget, where there is no terminal to draw on."""


class Screen:
    """A few lines on stderr that are drawn over; one line for every tenth of the budget where it is no terminal."""

    def __init__(self, what: str, to: TextIO | None = None) -> None:
        self._what = what
        self._to = sys.stderr if to is None else to
        self._drawn = 0
        self._tenth = 0
        self._part_told = ""
        self._at_s = -1e18

    def __call__(self, study: Study, used: float) -> None:
        """How the search stands."""
        if not self._to.isatty():
            self._line(study, used)
            return
        now_s = stopwatch_s()
        if now_s - self._at_s >= AGAIN_S or used >= 1:
            self._at_s = now_s
            self._draw([self._bar(used, _counts(study)), *_front(study)])

    def proving(self, used: float) -> None:
        """How the proof stands."""
        self._part("proving the front on traffic the search never saw", used)

    def drawing(self, used: float) -> None:
        """How the pictures stand."""
        self._part("drawing before and after", used)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._drawn:
            self._to.write(f"\033[{self._drawn}A\033[J")
            self._to.flush()
            self._drawn = 0

    def _part(self, what: str, used: float) -> None:
        if self._to.isatty():
            self._draw([self._bar(used, what)])
        elif what != self._part_told:
            self._part_told = what
            self._to.write(f"{self._what}: {what}\n")
            self._to.flush()

    def _line(self, study: Study, used: float) -> None:
        tenth = int(used * TENTHS)
        if tenth > self._tenth and study.tried:
            self._tenth = tenth
            best = choice(front(study.tried, study.allowed), study.allowed)
            said = f"best so far {money(best.figures.usd_per_month)} a month, {share(best.figures.late_share)} late"
            self._to.write(f"{self._what}: {used:.0%}, {_counts(study)}, {said}\n")
            self._to.flush()

    def _bar(self, used: float, said: str) -> str:
        full = int(WIDTH * min(1.0, used))
        return f"{self._what} [{'#' * full}{'.' * (WIDTH - full)}] {used:4.0%}  {said}"

    def _draw(self, lines: list[str]) -> None:
        self.clear()
        self._to.write("".join(f"{line}\n" for line in lines))
        self._to.flush()
        self._drawn = len(lines)


def _counts(study: Study) -> str:
    return f"{study.finished:,} trials, {study.cut:,} given up early"


def _front(study: Study) -> Iterator[str]:
    """The front so far, against the first trial, which is the settings as they are."""
    if not study.tried:
        return
    points = picked(front(study.tried, study.allowed), study.allowed)
    best = choice(points, study.allowed)
    first = next((t for t in study.tried if t.number == 0), None)
    yield f"  {'USD a month':>12} {'late':>8} {'saved':>8}"
    for one in points:
        part = "" if first is None else f"{saved(one.figures, first.figures):.1%}"
        mark = "  <- cheapest that keeps the promise" if one is best else ""
        yield f"  {money(one.figures.usd_per_month):>12} {share(one.figures.late_share):>8} {part:>8}{mark}"
