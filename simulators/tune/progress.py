"""How a search stands, on the terminal of whoever waits: the front so far, and how much of the budget is used."""

from __future__ import annotations

import math
import sys
from typing import Final, TextIO

from rich.table import Table

from scaler.clock import stopwatch_s
from simulators.reporting.progress import Drawing, bar
from simulators.reporting.table import share
from simulators.tune.pareto import choice, front, picked
from simulators.tune.study import Study
from simulators.tune.text import money
from simulators.tune.validation import saved

AGAIN_S: Final = 1.0
"""Between two pictures: a faster one could not be read."""
TENTHS: Final = 10
"""A line for every tenth of the budget, where there is no terminal to draw on."""


class Screen:
    """The state of a search on stderr, drawn over; one line for every tenth of the budget where it is no terminal."""

    def __init__(self, what: str, to: TextIO | None = None) -> None:
        self._what = what
        self._to = sys.stderr if to is None else to
        self._drawing = Drawing(self._to)
        self._tenth = 0
        self._part_told = ""
        self._at_s = -math.inf

    def __call__(self, study: Study, used: float) -> None:
        """Show the front found with the share `used` of the budget."""
        if not self._drawing.on_terminal:
            self._line(study, used)
            return
        now_s = stopwatch_s()
        if now_s - self._at_s >= AGAIN_S or used >= 1:
            self._at_s = now_s
            self._drawing.draw(bar(self._what, used, _counts(study)), _front(study))

    def proving(self, used: float) -> None:
        """Show the progress of the validation."""
        self._part("proving the front on traffic the search never saw", used)

    def drawing(self, used: float) -> None:
        """Show the progress of the runs that the page draws."""
        self._part("drawing before and after", used)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        self._drawing.clear()

    def _part(self, what: str, used: float) -> None:
        self._drawing.draw(bar(self._what, used, what))
        if not self._drawing.on_terminal and what != self._part_told:
            self._part_told = what
            self._say(what)

    def _line(self, study: Study, used: float) -> None:
        tenth = int(used * TENTHS)
        if tenth > self._tenth and study.tried:
            self._tenth = tenth
            best = choice(front(study.tried, study.allowed), study.allowed)
            said = f"best so far {money(best.figures.usd_per_month)} a month, {share(best.figures.late_share)} late"
            self._say(f"{used:.0%}, {_counts(study)}, {said}")

    def _say(self, said: str) -> None:
        self._to.write(f"{self._what}: {said}\n")
        self._to.flush()


def _counts(study: Study) -> str:
    return f"{study.finished:,} trials, {study.cut:,} given up early"


def _front(study: Study) -> Table:
    """Return the front so far, compared with the first trial: the settings as they are."""
    table = Table("USD a month", "late", "saved", "", box=None)
    for column in table.columns[:3]:
        column.justify = "right"
    points = picked(front(study.tried, study.allowed), study.allowed) if study.tried else []
    first = next((t for t in study.tried if t.number == 0), None)
    for one in points:
        part = "" if first is None else f"{saved(one.figures, first.figures):.1%}"
        mark = "<- cheapest that keeps the promise" if one is choice(points, study.allowed) else ""
        table.add_row(money(one.figures.usd_per_month), share(one.figures.late_share), part, mark)
    return table
