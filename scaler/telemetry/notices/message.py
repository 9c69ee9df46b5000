"""Writes notices as messages: short plain text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from policies.model.error_budget import DAY_S, HOUR_S, MINUTE_S
from scaler.telemetry.notices.tracker import Notice, Occasion

MAX_ALONE: Final = 5
"""Maximum number of notices that are sent one by one. More of them share a message."""
MAX_LINES: Final = 30
"""Lines of a shared message. Services cut longer ones."""


class Message(NamedTuple):
    """A message. Its title is the same at the start and at the end of a condition."""

    title: str
    body: str
    kind: Literal["info", "success", "warning", "failure"]


def messages(notices: Sequence[Notice], dashboard_url: str | None) -> list[Message]:
    """Return one message for each notice; one for all of them where they are many."""
    link = [] if dashboard_url is None else [dashboard_url]
    if len(notices) <= MAX_ALONE:
        return [_message(notice, link) for notice in notices]
    lines = [f"{_title(n)}: {_headline(n)}" for n in notices[:MAX_LINES]]
    more = [f"and {len(notices) - MAX_LINES} more"] if len(notices) > MAX_LINES else []
    is_grave = any(n.finding.is_grave and n.occasion is not Occasion.END for n in notices)
    title = f"Forescale: {len(notices)} notices"
    return [Message(title, "\n".join([*lines, *more, *link]), "failure" if is_grave else "warning")]


def trial_message(dashboard_url: str | None) -> Message:
    """Return the message of `forescale notify`."""
    lines = ["This is a test. Notices of Forescale reach this destination."]
    return Message("Forescale: test", "\n".join(lines + ([] if dashboard_url is None else [dashboard_url])), "info")


def _message(notice: Notice, link: list[str]) -> Message:
    lines = [f"{_headline(notice)}."]
    kind: Literal["success", "warning", "failure"] = "success"
    if notice.occasion is not Occasion.END:
        lines += [notice.finding.detail, notice.finding.remedy]
        kind = "failure" if notice.finding.is_grave else "warning"
    return Message(f"Forescale: {_title(notice)}", "\n".join([*filter(None, lines), *link]), kind)


def _title(notice: Notice) -> str:
    return f"{notice.condition.workload} {notice.condition.subject}"


def _headline(notice: Notice) -> str:
    since = f"{datetime.fromtimestamp(notice.since, UTC):%Y-%m-%d %H:%M} UTC"
    lasted = _duration(notice.at - notice.since)
    match notice.occasion:
        case Occasion.START:
            return f"{notice.finding.what} (since {since})"
        case Occasion.REPEAT:
            return f"{notice.finding.what} for {lasted} (since {since})"
        case Occasion.END:
            return f"over after {lasted}: {notice.finding.what} (since {since})"


def _duration(seconds: float) -> str:
    """Return a duration in its two largest units: `45 s`, `12 min`, `4 h 10 min`, `2 d 3 h`."""
    if seconds < MINUTE_S:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S:.0f} min"
    if seconds < DAY_S:
        return f"{seconds // HOUR_S:.0f} h {seconds % HOUR_S // MINUTE_S:.0f} min"
    return f"{seconds // DAY_S:.0f} d {seconds % DAY_S // HOUR_S:.0f} h"
