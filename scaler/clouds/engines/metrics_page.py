"""An engine's /metrics page, parsed in linear time and within limits: the series wanted, and all metrics' names.

Lines of other metrics are passed over unread, so that what a page costs depends on what is wanted of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yarl import URL

from scaler.clock import stopwatch_s
from scaler.clouds import http_client
from scaler.clouds.http_answers import MAX_NUMBER_CHARS, off_loop
from scaler.ports import Unavailable

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, float]
MAX_LINE_CHARS: Final = 16_384
"""Of a line that is wanted: those of engines and exporters have some hundred."""
MAX_LABELS: Final = 64
"""Of a series: engines and exporters have up to 15, and Prometheus's operators advise a limit of 30 to 64."""
MAX_SAMPLES: Final = 20_000
"""Wanted series of one page: vLLM with 64 data-parallel ranks and all latencies has 12,000."""
MAX_NAMES: Final = 10_000
"""Metrics of which the names are kept, for a hint where the wanted ones are missing."""
MAX_PARSE_S: Final = 2.0
"""For parsing one page: 16 MiB take the parser thread half a second, and the other pages wait for it."""
LINES_BETWEEN_LOOKS: Final = 1_000
"""Lines between two looks at how long the parsing takes: some milliseconds."""
SHOWN: Final = 100
"""Characters of a line that cannot be read, kept in errors."""
NAME: Final = re.compile(r"[a-zA-Z_:][\w:]*", re.ASCII)
LABEL: Final = re.compile(r'[ \t]*([a-zA-Z_]\w*)[ \t]*=[ \t]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t]*(,|(?=\}))', re.ASCII)
OPENING: Final = re.compile(r"[ \t]*\{")
CLOSING: Final = re.compile(r"[ \t]*\}")
ESCAPE: Final = re.compile(r"\\(.)")
ESCAPES: Final = {"n": "\n", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Page:
    """What one engine showed: when, the series wanted by metric, and the names of all metrics there."""

    at: float
    metrics: Mapping[str, Series]
    names: frozenset[str]


async def read_page(pages: http_client.Pages, url: URL, server_name: str | None, wanted: frozenset[str]) -> Page:
    """Return the wanted part of the page at `url`. Raises port errors; `Unavailable` for a malformed page."""
    at, text = await pages.get(url, server_name)
    try:
        return await off_loop(len(text), page, text, wanted, at)
    except ValueError as e:
        raise Unavailable(f"{url}: {e}") from e


def page(text: str, wanted: frozenset[str], at: float) -> Page:
    """Return the wanted part of a page.

    Raises `ValueError` where that part is malformed or beyond a limit, or where the page was cut off.
    """
    if text and not text.endswith("\n"):
        raise ValueError("the page ends in the middle of a line")
    began, samples = stopwatch_s(), 0
    metrics: dict[str, dict[Labels, float]] = {}
    names: set[str] = set()
    for number, line in enumerate(text.split("\n")):
        if number % LINES_BETWEEN_LOOKS == 0 and stopwatch_s() - began > MAX_PARSE_S:
            raise ValueError(f"the page takes more than {MAX_PARSE_S:g} s to parse: have the engine show fewer metrics")
        match = NAME.match(line)
        if match is None:
            continue
        name = match[0]
        if len(names) < MAX_NAMES:
            names.add(name)
        if name not in wanted:
            continue
        samples += 1
        if samples > MAX_SAMPLES:
            raise ValueError(f"the page has more than {MAX_SAMPLES} series that are read: let Prometheus scrape it")
        labels, value = sample(line, match.end())
        metrics.setdefault(name, {})[labels] = value
    return Page(at, metrics, frozenset(names))


def sample(line: str, at: int) -> tuple[Labels, float]:
    """Return the labels and the value of a line whose name ends at `at`. Raises `ValueError`."""
    if len(line) > MAX_LINE_CHARS:
        raise ValueError(f"a line of {line[:at]} has {len(line)} characters, more than {MAX_LINE_CHARS}")
    labels: dict[str, str] = {}
    if opening := OPENING.match(line, at):
        at = opening.end()
        while (closing := CLOSING.match(line, at)) is None:
            label = LABEL.match(line, at)
            if label is None or label[1] in labels:
                raise ValueError(f"the labels of {line[:SHOWN]!r} cannot be read")
            labels[label[1]] = ESCAPE.sub(_unescaped, label[2]) if "\\" in label[2] else label[2]
            if len(labels) > MAX_LABELS:
                raise ValueError(f"a series of {line[: opening.start()]} has more than {MAX_LABELS} labels")
            at = label.end()
        at = closing.end()
    return frozenset(labels.items()), _number(line, at)


def _unescaped(match: re.Match[str]) -> str:
    return ESCAPES.get(match[1], match[0])


def _number(line: str, at: int) -> float:
    """Return the value after the labels; a timestamp and an exemplar may follow. Raises `ValueError`."""
    value, *rest = line[at:].split(maxsplit=2) or [""]
    if not value.isascii() or "_" in value or len(value) > MAX_NUMBER_CHARS:
        raise ValueError(f"the value of {line[:SHOWN]!r} is no number of at most {MAX_NUMBER_CHARS} characters")
    if rest and not rest[0].startswith("#"):
        float(rest[0])
    return float(value)
