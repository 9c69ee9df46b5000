"""Reader of a vLLM server's log: its request lines, or its HTTP server's access lines.

vLLM logs token ids only at some settings. Older versions log those of the prompt with each request, newer ones at the
log level DEBUG; those of the output are logged with ``--enable-log-outputs``. Access lines have none, and their time is
that of the response.

Sources: vllm-project/vllm, `RequestLogger` in vllm/entrypoints/logger.py, vllm/logger.py,
vllm/logging_utils/formatter.py; uvicorn, `AccessFormatter`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from simulators.world.traffic.formats.json_rows import fill
from simulators.world.traffic.formats.json_values import numbered_lines
from simulators.world.traffic.formats.layouts import Layout
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.stream import Stream
from simulators.world.traffic.formats.tables import Table
from simulators.world.traffic.trace import RequestTrace, TraceError

LAYOUT: Final = Layout(arrival="time", prompt="prompt_token_ids", output="output_token_ids", cut_to_s=True)
COLOR: Final = re.compile(r"\x1b\[[0-9;]*m")
ISO_TIME: Final = re.compile(
    r"(?:\[[^\]\s]*\] )?\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(Z|[+-]\d\d:?\d\d)?[\]\s]"
)
"""A time at the start of a line, maybe after the name of a pod, as container runtimes and log formats write it."""
VLLM_TIME: Final = re.compile(r"\b(?:DEBUG|INFO|WARNING|ERROR) (\d\d)-(\d\d) (\d\d:\d\d:\d\d) ")
"""vLLM's own prefix: it has no year."""
REQUEST: Final = re.compile(r"Received request (\S+): (?:prompt|params): ")
DETAILS: Final = re.compile(r"Request (\S+) details: prompt: ")
RESPONSE: Final = re.compile(r"Generated response (\S+)( \(streaming delta\))?(?: \(streaming complete\))?: output: ")
ACCESS: Final = re.compile(r'"POST (/\S*) HTTP/[\d.]+" (\d{3})\b')
GENERATING: Final = re.compile(r"/(?:completions|responses|messages|generate)(?:\?|$)")
TOKEN_FLAGS: Final = (
    ("prompt", "prompt_token_ids", "VLLM_LOGGING_LEVEL=DEBUG and --enable-log-requests"),
    ("output", "output_token_ids", "--enable-log-requests and --enable-log-outputs"),
)
"""Role, column, and the settings with which vLLM logs it."""
PREFIX_CHARACTERS: Final = 400
"""Characters of a line in which its time and the kind of message are found."""
LEAP_YEAR: Final = 2000
SECOND_HALF: Final = 7
"""A log that begins in this month or later reaches 29 February only in its next year."""
HALF_YEAR: Final = 6
"""Months back that are the next year, and not a line out of order."""
MAX_DIGITS: Final = 6
"""Maximum digits of the number of a prompt: more are part of an id."""


@dataclass(slots=True)
class RequestLine:
    """A line about a request: its place and time, and the request's id or path."""

    place: str
    time: str | None
    name: str


@dataclass(slots=True)
class Log:
    """Everything that a log reports about requests."""

    received: list[RequestLine] = field(default_factory=list)
    access: list[RequestLine] = field(default_factory=list)
    """Access lines of generating endpoints that succeeded."""
    failed: int = 0
    """Number of the other access lines of generating endpoints."""
    prompts: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, list[int]] = field(default_factory=dict)
    """Output tokens of each complete response, by id: several if a request has several prompts."""
    deltas: Counter[str] = field(default_factory=Counter)
    """Output tokens of streamed parts, by id."""

    def add(self, place: str, time: str | None, text: str) -> None:
        """Add a line."""
        head = text[:PREFIX_CHARACTERS]
        if request := REQUEST.search(head):
            self.received.append(RequestLine(place, time, request[1]))
            self._add_prompt(request[1], text)
        elif details := DETAILS.search(head):
            self._add_prompt(details[1], text)
        elif response := RESPONSE.search(head):
            self._add_output(response[1], text, is_delta=response[2] is not None)
        elif (access := ACCESS.search(head)) and GENERATING.search(access[1]):
            succeeded = access[2].startswith("2")
            self.failed += not succeeded
            if succeeded:
                self.access.append(RequestLine(place, time, access[1]))

    def _add_prompt(self, request: str, text: str) -> None:
        count = _listed(text, "prompt_token_ids: ")
        if count is not None:
            self.prompts[request] = count

    def _add_output(self, request: str, text: str, *, is_delta: bool) -> None:
        count = _listed(text, "output_token_ids: ")
        if count is not None and is_delta:
            self.deltas[request] += count
        elif count is not None:
            self.outputs.setdefault(request, []).append(count)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the requests' cells, in the order of the log."""
        siblings = Counter(_prompt_of(line.name)[0] for line in self.received)
        for line in self.received or self.access:
            prompt = output = None
            if self.received:
                prompt, output = self.prompts.get(line.name), self._output(line.name, siblings)
            yield {LAYOUT.arrival: line.time, LAYOUT.prompt: prompt, LAYOUT.output: output}

    def _output(self, request: str, siblings: Counter[str]) -> int | None:
        """Return the output tokens of a request, None if unknown.

        vLLM logs the prompts of a completion request as ``cmpl-1-0``, ``cmpl-1-1``, and its responses as ``cmpl-1``.
        """
        base, number = _prompt_of(request)
        for name, position in ((request, 0), (base, number)):
            if position < len(self.outputs.get(name, ())):
                return self.outputs[name][position]
        if request in self.deltas:
            return self.deltas[request]
        return self.deltas.get(base) if siblings[base] == 1 else None


class LogTimes:
    """Reads the times of lines in order.

    vLLM's own times have no year, so that a month before the previous one begins another year.
    """

    def __init__(self) -> None:
        self._year = LEAP_YEAR
        self._month = 0

    def read(self, head: str) -> str | None:
        """Return the time of a line as ISO 8601, None if it has none."""
        if iso := ISO_TIME.match(head):
            return iso[1].replace(",", ".") + (iso[2] or "")
        own = VLLM_TIME.search(head)
        if own is None:
            return None
        month = int(own[1])
        if not self._month and month >= SECOND_HALF:
            self._year -= 1
        if month < self._month - HALF_YEAR:
            self._year += 1
        self._month = month
        return f"{self._year}-{own[1]}-{own[2]} {own[3]}"


def fits(start: bytes) -> bool:
    """Return whether the beginning of a file is such a log."""
    text = COLOR.sub("", start.decode(errors="replace"))
    return any(pattern.search(text) for pattern in (VLLM_TIME, REQUEST, ACCESS))


def read(path: Path, options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace of the received requests, else of the successful access lines.

    Raises `TraceError` where the log has no requests, no times, or no token counts and the options do not set them.
    """
    log = _scan(path, options)
    lines = log.received or log.access
    if not lines:
        rule = "has no request: start vLLM with --enable-log-requests, or keep the access lines of its HTTP server"
        raise TraceError(f"{path}: {rule}")
    if all(line.time is None for line in lines):
        rule = f"the request has no time, and neither have the other {len(lines) - 1:,}"
        remedy = "collect the log with times (kubectl logs --timestamps), or start vLLM with --enable-log-requests"
        raise TraceError(f"{path}, {lines[0].place}: {rule}: {remedy}")
    rows = list(log.rows())
    _check_tokens(path, rows, options)
    table = Table(path, LAYOUT, LAYOUT.required, options)
    if not log.received:
        table.cleaner.repairs["arrivals at the time of the response"] = len(rows)
        table.cleaner.repairs["failed requests skipped"] = log.failed
    fill(table, zip((line.place for line in lines), rows, strict=True))
    return table.trace(name)


def _check_tokens(path: Path, rows: list[dict[str, Any]], options: ReadOptions) -> None:
    """Raise `TraceError` for token counts that neither the log nor the options have."""
    missing = [
        (role, flags)
        for role, column, flags in TOKEN_FLAGS
        if options.lengths(role) is None and all(row[column] is None for row in rows)
    ]
    if missing:
        roles = " and ".join(role for role, _ in missing)
        given = " ".join(f"--{role}-tokens N" for role, _ in missing)
        logged = "; ".join(f"{role} tokens with {flags}" for role, flags in missing)
        remedy = f"set them with forescale trace convert {given}, or have vLLM log the {logged}"
        raise TraceError(f"{path}: does not have the {roles} tokens of its {len(rows):,} requests: {remedy}")


def _scan(path: Path, options: ReadOptions) -> Log:
    """Return the requests of a log."""
    log, times = Log(), LogTimes()
    with Stream(path, options.progress, forgive_cut=options.skip_bad) as stream:
        for number, line in numbered_lines(stream, path):
            text = COLOR.sub("", line.decode(errors="replace"))
            log.add(f"line {number}", times.read(text[:PREFIX_CHARACTERS]), text)
    return log


def _prompt_of(request: str) -> tuple[str, int]:
    """Return the id of a request and the number of its prompt: ``cmpl-1-0`` is ``cmpl-1``, 0."""
    base, dash, number = request.rpartition("-")
    return (base, int(number)) if dash and number.isdecimal() and len(number) <= MAX_DIGITS else (request, 0)


def _listed(text: str, key: str) -> int | None:
    """Return the length of the last list after `key`, None without one.

    The last one: a prompt may contain the same words.
    """
    start = text.rfind(key + "[")
    end = text.find("]", start)
    if start < 0 or end < 0:
        return None
    ids = text[start + len(key) + 1 : end].strip()
    return ids.count(",") + 1 if ids else 0
