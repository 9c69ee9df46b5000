"""The content of the live view: rows, problems first, hidden workloads, narrow terminals, hostile text."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import pytest
from rich.console import Console

from policies.model import ErrorBudget, Outcome, Result, WorkloadName
from policies.model.pool import Pool
from scaler.slo_record import record_of
from scaler.telemetry.terminal.frame import Frame, WorkloadRow, draw, line_of, next_row, sparkline
from scaler.telemetry.terminal.messages import LogMessage
from tests.factories import CHAT_SLO, MAIN, NOW, seen, spec
from tests.scaler.telemetry.test_run_summary import engines, tick
from tests.slo import ENGINES

ADDRESS = "http://127.0.0.1:8080/"
HOSTILE = "[bold]x[/bold] \x1b[2J\x1b]0;title\x07\r\n\u202egnp"


@lru_cache
def budget_after_an_hour(late: float) -> ErrorBudget:
    workload = replace(spec(), slo=CHAT_SLO, sources={"engines": ENGINES})
    record, readings = record_of(workload), seen(engines(10, late, 0)).readings
    assert record is not None
    for i in range(241):
        budget = record.observe(NOW + 15 * (i - 240), readings)
    return budget


def row(*, refused: str = "", late: float = 0.0, price: float | None = 6.0) -> WorkloadRow:
    workload = replace(spec(pools={"main": Pool(price_usd_per_hour=price)}), slo=CHAT_SLO, sources={"engines": ENGINES})
    one = tick(workload, NOW, engines(10, late, 0))
    one = replace(one, observation=replace(one.observation, error_budget=budget_after_an_hour(late)))
    if refused:
        one = replace(one, outcomes=(Outcome(MAIN, 2, 5, Result.MISCONFIGURED, refused),))
    return next_row(None, one, workload)


def frame(
    rows: Mapping[str, WorkloadRow],
    *,
    names: Sequence[str] = (),
    stalled: Mapping[str, str] | None = None,
    messages: Sequence[LogMessage] = (),
) -> Frame:
    return Frame(
        ADDRESS,
        "1",
        "time runs 60 times as fast",
        [WorkloadName(n) for n in names or rows],
        {WorkloadName(n): r for n, r in rows.items()},
        {WorkloadName(n): reason for n, reason in (stalled or {}).items()},
        messages,
    )


def shown(content: Frame, columns: int = 120, rows: int = 30) -> list[str]:
    """Return the lines of a frame as a terminal of this size gets them."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=columns, height=rows, no_color=True, markup=False)
    console.print(draw(content, columns, rows), crop=True)
    text = output.getvalue()
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;4m", "\x1b[1;2m"):
        text = text.replace(code, "")
    return text.splitlines()


def test_row_has_state_replicas_demand_slo_cost_and_reason() -> None:
    lines = shown(frame({"chat": row()}))
    assert lines[0] == f"Forescale 1  {ADDRESS}"
    assert "2027-01-15T08:00:00Z · 1 workload · $12.00/h · time runs 60 times as fast" in lines[1]
    (chat,) = [line for line in lines if line.startswith("chat")]
    for text in ("ok", "2.0", "2/2", "100.0 %", "12.00", "queue recommends 2.00: 20 messages"):
        assert text in chat


def test_unknown_values_are_question_marks_and_not_zero() -> None:
    unpriced = row(price=None)
    unknown = replace(unpriced.tick, decision=replace(unpriced.tick.decision, demand=None, target=None, ready=None))
    content = frame({"chat": replace(unpriced, tick=unknown)}, names=["chat", "new"])
    chat, new = (line_of(WorkloadName(n), content) for n in ("chat", "new"))
    assert (chat.replicas, chat.demand, chat.usd_per_hour) == ("?/?", "?", "?")
    assert (new.state, new.demand, new.slo) == ("starting", "?", "?")
    assert "cost unknown" in shown(content)[1]


def test_workloads_with_problems_come_first_where_not_all_fit() -> None:
    rows = {f"w{i:03}": row() for i in range(1000)}
    rows["w900"], rows["w950"] = row(late=0.2), row(refused="403 Forbidden")
    lines = shown(frame(rows, stalled={"w999": "no tick completed for 60 s"}))
    assert len(lines) <= 30
    assert ADDRESS in lines[0]
    assert [line.split()[0] for line in lines[4:8]] == ["w999", "w900", "w950", "w000"]
    assert "SLO violated" in lines[5]
    assert "main: misconfigured: 403 Forbidden" in lines[6]
    named = sum(line.startswith("w") for line in lines[4:])
    assert f"{1000 - named} more workloads not shown, none with problems: see the dashboard" in lines


def test_workloads_that_all_fit_are_in_alphabetical_order() -> None:
    lines = shown(frame({"b": row(refused="x"), "a": row()}))
    assert [line.split()[0] for line in lines[4:6]] == ["a", "b"]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("rows", [8, 24])
def test_frame_fits_the_terminal(columns: int, rows: int) -> None:
    many = {f"a-workload-with-a-long-name-{i}": row(refused="a long reason " * 20) for i in range(40)}
    messages = [LogMessage(logging.ERROR, "an error " * 40, 3)] * 5
    lines = shown(frame(many, messages=messages), columns, rows)
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert ADDRESS in lines[0]


def test_narrow_terminal_shows_the_reasons_below_the_table() -> None:
    lines = shown(frame({"chat": row()}), columns=60)
    assert "100.0 %" in next(line for line in lines if line.startswith("chat "))
    assert any(line.startswith("chat: ") and "20 messages" in line for line in lines)


def test_text_from_outside_is_escaped() -> None:
    messages = [LogMessage(logging.WARNING, "08:00 warning tick chat: \\x1b[2J [red]", 2)]
    content = frame({HOSTILE: row(refused=HOSTILE)}, stalled={HOSTILE: HOSTILE}, messages=messages)
    text = "\n".join(shown(content, columns=200))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\r" not in text
    assert "[bold]x[/bold] \\x1b[2J" in text  # neither markup nor a control sequence
    assert "\\x1b[2J [red] (x2)" in text


def test_sparkline_scales_to_the_largest_value_and_leaves_gaps_for_unknown_ones() -> None:
    assert sparkline([0, 2, None, 4, float("nan")]) == "▁▅ █ "
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"
