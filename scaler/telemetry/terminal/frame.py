"""Draws the live view: the address, one row per workload, and the last messages."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policies.model import Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.journal.explain import timestamp
from scaler.printable import printable
from scaler.telemetry.dashboard.decisions import problem
from scaler.telemetry.dashboard.status import states
from scaler.telemetry.dashboard.stored_ticks import StoredTicks
from scaler.telemetry.dashboard.workload_facts import Facts
from scaler.telemetry.terminal.messages import LogMessage

BARS: Final = "▁▂▃▄▅▆▇█"
SPARK_TICKS: Final = 24
"""Ticks in a sparkline."""
WIDE: Final = 110
"""Minimum width of a terminal on which the reason of a decision is in the workload's row, in columns."""
MEDIUM: Final = 76
"""Minimum width of a terminal with sparklines, in columns."""
MAX_NAME: Final = 40
"""Maximum width of a name next to a reason, in columns."""
MAX_MESSAGES: Final = 5
PROBLEMS: Final = ("stalled", "SLO violated", "SLO at risk", "refused", "blind", "interrupted", "yielding")
"""States that a person should look at, the most severe first."""
STYLES: Final[Mapping[str, str]] = {
    "stalled": "bold red", "SLO violated": "red", "SLO at risk": "yellow", "refused": "red", "blind": "yellow",
    "yielding": "yellow", "interrupted": "yellow", "scaling out": "cyan", "scaling in": "cyan", "ok": "green",
}  # fmt: skip


@dataclass(slots=True)
class WorkloadRow:
    """The last tick of one workload with its state, recent demand and recent interruptions."""

    tick: Tick
    state: str
    slo: str
    demand: deque[float | None]
    stored: StoredTicks


def next_row(previous: WorkloadRow | None, tick: Tick, spec: WorkloadSpec) -> WorkloadRow:
    """Return a workload's row after a tick."""
    demand = deque[float | None](maxlen=SPARK_TICKS) if previous is None else previous.demand
    demand.append(tick.decision.demand)
    stored = StoredTicks(0) if previous is None else previous.stored
    stored.interruptions.add(tick)
    return WorkloadRow(tick, states(tick, stored, Facts(spec))[0], _slo(tick), demand, stored)


class Frame(NamedTuple):
    """The content of the view at one moment.

    - `names`: the names of all workloads; `rows` has those with a tick.
    - `stalled`: the workloads whose loop makes no progress, with the reason.
    - `note`: a remark on the run, such as the speed of its clock; may be empty.
    """

    address: str
    version: str
    note: str
    names: Sequence[WorkloadName]
    rows: Mapping[WorkloadName, WorkloadRow]
    stalled: Mapping[WorkloadName, str]
    messages: Sequence[LogMessage]

    def state(self, name: WorkloadName) -> str:
        if name in self.stalled:
            return "stalled"
        return self.rows[name].state if name in self.rows else "starting"

    def severity(self, name: WorkloadName) -> int:
        """Return the rank of a workload's problem, the most severe first."""
        state = self.state(name)
        return PROBLEMS.index(state) if state in PROBLEMS else len(PROBLEMS)


class WorkloadLine(NamedTuple):
    """One workload as text: its state, figures and reason."""

    name: str
    state: str
    spark: str
    replicas: str
    demand: str
    slo: str
    usd_per_hour: str
    reason: str


def draw(frame: Frame, width: int, height: int) -> RenderableType:
    """Return the view for a terminal of this size, in columns and rows.

    Workloads with problems come first where not all fit.
    """
    header = list(_header(frame))
    messages = [_message(m) for m in frame.messages[-min(MAX_MESSAGES, max(1, height // 5)) :]]
    reserved = len(header) + 2 + (len(messages) + 1 if messages else 0)
    names = sorted(frame.names)
    room = height - reserved
    hidden: list[WorkloadName] = []
    if len(names) > room:
        names.sort(key=frame.severity)
        shown = max(1, room - 1)
        names, hidden = names[:shown], names[shown:]
    lines = [line_of(name, frame) for name in names]
    parts: list[RenderableType] = [*header, Text(), _table(lines, width)]
    if hidden:
        parts.append(_hidden(frame, hidden))
    if width < WIDE and 2 * len(lines) < room:
        parts += [Text(), *(_line(f"{line.name}: {line.reason}", "dim") for line in lines)]
    return Group(*parts, *([Text(), *messages] if messages else []))


def line_of(name: WorkloadName, frame: Frame) -> WorkloadLine:
    """Return a workload as text. Unknown values show as `?`: missing is not zero."""
    row, stalled, state = frame.rows.get(name), frame.stalled.get(name), frame.state(name)
    if row is None:
        return WorkloadLine(printable(name), state, "", "?", "?", "?", "?", printable(stalled or ""))
    d = row.tick.decision
    return WorkloadLine(
        name=printable(name),
        state=state,
        spark=sparkline(row.demand),
        replicas=f"{_count(d.ready)}/{_count(d.target)}",
        demand="?" if d.demand is None else f"{d.demand:.1f}",
        slo=row.slo,
        usd_per_hour="?" if d.cost_usd_per_hour is None else f"{d.cost_usd_per_hour:,.2f}",
        reason=printable(stalled or problem(row.tick) or d.reason),
    )


def sparkline(values: Sequence[float | None]) -> str:
    """Return values as bars from 0 to the largest; an unknown one is a gap.

    Example: 0, 2, unknown, 4 are `▁▅ █`.
    """
    known = [v for v in values if v is not None and math.isfinite(v)]
    largest = max(known, default=0.0) or 1.0
    return "".join(
        " " if v is None or not math.isfinite(v) else BARS[min(7, max(0, int(8 * v / largest)))] for v in values
    )


def _header(frame: Frame) -> Iterator[Text]:
    yield Text.assemble(("Forescale ", "bold"), frame.version, "  ", (printable(frame.address), "bold underline"))
    rows = [frame.rows[name] for name in frame.names if name in frame.rows]
    costs = [row.tick.decision.cost_usd_per_hour for row in rows]
    known = [cost for cost in costs if cost is not None]
    total = f"{'' if len(known) == len(costs) else 'at least '}${sum(known):,.2f}/h" if known else "cost unknown"
    newest = timestamp(max(row.tick.at for row in rows)) if rows else "no tick yet"
    count = f"{len(frame.names)} workload{'s' * (len(frame.names) != 1)}"
    parts = [newest, count, total, *([frame.note] if frame.note else []), "Ctrl-C stops"]
    yield _line(" · ".join(parts), "dim")


def _table(lines: Sequence[WorkloadLine], width: int) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, padding=(0, 2, 0, 0), header_style="bold")
    name_ratio, name_width = (None, MAX_NAME) if width >= WIDE else (1, None)
    table.add_column("workload", no_wrap=True, overflow="ellipsis", ratio=name_ratio, min_width=8, max_width=name_width)
    table.add_column("state", no_wrap=True)
    if width >= MEDIUM:
        table.add_column("demand", no_wrap=True, width=SPARK_TICKS)
    table.add_column("" if width >= MEDIUM else "demand", no_wrap=True, justify="right")
    table.add_column("ready/target" if width >= MEDIUM else "ready", no_wrap=True, justify="right")
    table.add_column("SLO", no_wrap=True, justify="right")
    table.add_column("$/h", no_wrap=True, justify="right")
    if width >= WIDE:
        table.add_column("reason", no_wrap=True, overflow="ellipsis", ratio=1)
    for line in lines:
        cells = [Text(line.name, style="bold"), Text(line.state, style=STYLES.get(line.state, ""))]
        cells += [Text(line.spark, style="cyan")] if width >= MEDIUM else []
        cells += [Text(cell) for cell in (line.demand, line.replicas, line.slo, line.usd_per_hour)]
        cells += [Text(line.reason, style="dim")] if width >= WIDE else []
        table.add_row(*cells)
    return table


def _hidden(frame: Frame, hidden: Sequence[WorkloadName]) -> Text:
    problems = sum(frame.severity(name) < len(PROBLEMS) for name in hidden)
    text = f"{len(hidden)} more workload{'s' * (len(hidden) != 1)} not shown, {problems or 'none'} with problems"
    return _line(f"{text}: see the dashboard", "dim")


def _slo(tick: Tick) -> str:
    """Return the share of requests that met the SLO since the previous tick."""
    budget = tick.observation.error_budget
    if budget is None:
        return "no SLO"
    last = budget.last
    return f"{100 * (1.0 - last.late / last.requests):.1f} %" if last.requests > 0 else "?"


def _message(message: LogMessage) -> Text:
    times = f" (x{message.count})" if message.count > 1 else ""
    style = "red" if message.level >= logging.ERROR else "yellow" if message.level >= logging.WARNING else ""
    return _line(f"{message.text}{times}", style)


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _count(replicas: int | None) -> str:
    return "?" if replicas is None else str(replicas)
