"""Log lines while the live view covers the terminal: the last of each event, and all at its end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from policies.model import Outcome, Result, Tick
from scaler.telemetry.log import configure, log, log_tick
from scaler.telemetry.terminal.live_view import _diverted
from scaler.telemetry.terminal.messages import MAX_LINES, Messages
from tests.factories import MAIN, NOW
from tests.scaler.telemetry.test_run_summary import PRICED, tick


@pytest.fixture
def messages() -> Iterator[Messages]:
    """Handle the log as during a live view."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("live")
    kept = Messages()
    with _diverted(kept):
        yield kept
    root.handlers[:] = handlers
    root.setLevel(level)


def refused(reason: str) -> Tick:
    return replace(tick(PRICED, NOW), outcomes=(Outcome(MAIN, 2, 5, Result.MISCONFIGURED, reason),))


def test_ticks_are_messages_only_where_they_are_warnings(messages: Messages) -> None:
    log_tick(tick(PRICED, NOW))
    assert messages.lines() == []
    log_tick(refused("403"))
    (message,) = messages.last(5)
    assert message.level == logging.WARNING
    assert message.text.endswith("warning tick llm: main 2->5 misconfigured: 403")
    assert message.text.startswith("20")
    assert message.text[10] == "T"


def test_repeated_event_of_a_workload_is_one_message_and_several_lines(messages: Messages) -> None:
    for i in range(3):
        log_tick(refused(f"attempt {i}"))
    log.error("reload", error="max_replicas: must be a number")
    assert [(m.count, m.text.partition(": ")[2]) for m in messages.last(5)] == [
        (3, "main 2->5 misconfigured: attempt 2"),
        (1, "max_replicas: must be a number"),
    ]
    assert [message.count for message in messages.last(1)] == [1]
    assert len(messages.lines()) == 4


def test_kept_lines_are_limited_and_the_others_are_counted(messages: Messages) -> None:
    for i in range(MAX_LINES + 20):
        log_tick(refused(str(i)))
    lines = messages.lines()
    assert lines[0] == "(20 earlier lines are not shown)"
    assert len(lines) == MAX_LINES + 1


def test_control_codes_and_secrets_do_not_reach_the_terminal(messages: Messages) -> None:
    log_tick(refused("\x1b[2J\r\u202e Authorization: Bearer abcdefgh12345678"))
    text = messages.last(1)[0].text + messages.lines()[0]
    assert not {"\x1b", "\r", "\u202e"} & set(text)
    assert "\\x1b[2J" in text
    assert "abcdefgh12345678" not in text


def test_bad_format_string_of_a_library_does_not_stop_its_caller(
    messages: Messages, capsys: pytest.CaptureFixture[str]
) -> None:
    messages.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",), "levelno": logging.ERROR}))
    log.error("reload", error="still logged")
    assert messages.last(1)[0].text.endswith("still logged")
    assert "TypeError" in capsys.readouterr().err
