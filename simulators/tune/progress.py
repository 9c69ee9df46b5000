"""Progress of a search on the terminal: the front so far and the used share of the budget."""

from __future__ import annotations

import math
import sys
from typing import Final, TextIO

from rich.table import Table

from scaler.clock import stopwatch_s
from simulators.experiments.slo_outcome import fine_percent
from simulators.reporting.progress import Drawing, bar
from simulators.tune.pareto import choice, front, pick_points
from simulators.tune.study import Study
from simulators.tune.text import money
from simulators.tune.validation import saved

REDRAW_S: Final = 1.0
"""The time between two redraws. Seconds."""
REPORT_STEPS: Final = 10
"""Lines written over the budget if stderr is no terminal."""


class ProgressScreen:
    """Display of a search on stderr.

    It is redrawn on a terminal; elsewhere it is one line for every tenth of the budget.
    """

    def __init__(self, title: str, to: TextIO | None = None) -> None:
        self._title = title
        self._file = sys.stderr if to is None else to
        self._drawing = Drawing(self._file)
        self._tenth = 0
        self._reported_part = ""
        self._drawn_at_s = -math.inf

    def __call__(self, study: Study, used: float) -> None:
        """Show the front so far and the share `used` of the budget."""
        if not self._drawing.on_terminal:
            self._report_line(study, used)
            return
        now_s = stopwatch_s()
        if now_s - self._drawn_at_s >= REDRAW_S or used >= 1:
            self._drawn_at_s = now_s
            self._drawing.draw(bar(self._title, used, _counts(study)), _front_table(study))

    def proving(self, used: float) -> None:
        """Show the progress of the validation."""
        self._part("validating the front on held-out traffic", used)

    def drawing(self, used: float) -> None:
        """Show the progress of the runs for the page."""
        self._part("simulating the runs before and after", used)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        self._drawing.clear()

    def _part(self, title: str, used: float) -> None:
        self._drawing.draw(bar(self._title, used, title))
        if not self._drawing.on_terminal and title != self._reported_part:
            self._reported_part = title
            self._print(title)

    def _report_line(self, study: Study, used: float) -> None:
        tenth = int(used * REPORT_STEPS)
        if tenth > self._tenth and study.completed:
            self._tenth = tenth
            best = choice(front(study.completed, study.allowed), study.allowed)
            cost, late = money(best.figures.usd_per_month), fine_percent(best.figures.late_share)
            best_text = f"best so far {cost} per month, {late} late"
            self._print(f"{used:.0%}, {_counts(study)}, {best_text}")

    def _print(self, text: str) -> None:
        self._file.write(f"{self._title}: {text}\n")
        self._file.flush()


def _counts(study: Study) -> str:
    return f"{study.finished:,} trials, {study.pruned:,} pruned"


def _front_table(study: Study) -> Table:
    """Return the front so far, compared with the first trial, which has the present settings."""
    table = Table("USD per month", "late", "saved", "", box=None)
    for column in table.columns[:3]:
        column.justify = "right"
    points = pick_points(front(study.completed, study.allowed), study.allowed) if study.completed else []
    first = next((t for t in study.completed if t.number == 0), None)
    for point in points:
        saving = "" if first is None else f"{saved(point.figures, first.figures):.1%}"
        mark = "<- cheapest that meets the SLO" if point is choice(points, study.allowed) else ""
        table.add_row(money(point.figures.usd_per_month), fine_percent(point.figures.late_share), saving, mark)
    return table
