"""An engine's /metrics page, parsed in linear time and within limits.

The result has the requested series, and all metrics' names. Lines of other metrics are skipped unparsed, so the cost of
a page depends on the requested metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yarl import URL

from scaler.clock import processor_s
from scaler.clouds import http_client
from scaler.clouds.http_answers import MAX_NUMBER_CHARS, off_loop
from scaler.ports import Unavailable

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, float]
MAX_LINE_CHARS: Final = 16_384
"""Maximum length of a parsed line: those of engines and exporters have some hundred characters."""
MAX_LABELS: Final = 64
"""Maximum labels of a series: engines and exporters have up to 15; the recommended Prometheus limit is 30 to 64."""
MAX_SAMPLES: Final = 20_000
"""Maximum requested series of one page: vLLM with 64 data-parallel ranks and all latencies has 12,000."""
MAX_NAMES: Final = 10_000
"""Maximum metric names that are kept for a hint where the requested ones are missing."""
MAX_PARSE_S: Final = 2.0
"""Limit of the processor time to parse one page, so that others need not wait: 16 MiB take half a second. Seconds."""
LINES_PER_CHECK: Final = 1_000
"""Lines between two checks of the parsing time: some milliseconds."""
SHOWN: Final = 100
"""Characters of an unreadable line kept in errors."""
NAME: Final = re.compile(r"[a-zA-Z_:][\w:]*", re.ASCII)
LABEL: Final = re.compile(r'[ \t]*([a-zA-Z_]\w*)[ \t]*=[ \t]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t]*(,|(?=\}))', re.ASCII)
OPENING: Final = re.compile(r"[ \t]*\{")
CLOSING: Final = re.compile(r"[ \t]*\}")
ESCAPE: Final = re.compile(r"\\(.)")
ESCAPES: Final = {"n": "\n", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Page:
    """One engine's page.

    It has the time of the request, the requested series by metric, and all metrics' names.
    """

    at: float
    metrics: Mapping[str, Series]
    names: frozenset[str]


async def read_page(pages: http_client.Pages, url: URL, server_name: str | None, requested: frozenset[str]) -> Page:
    """Return the requested series of the page at `url`.

    Raises port errors; `Unavailable` for a malformed page.
    """
    at, text = await pages.get(url, server_name)
    try:
        return await off_loop(len(text), parse_page, text, requested, at)
    except ValueError as e:
        raise Unavailable(f"{url}: {e}") from e


def parse_page(text: str, requested: frozenset[str], at: float) -> Page:
    """Parse the requested series of a page.

    Raises `ValueError` where they are malformed or beyond a limit, or where the page is truncated.
    """
    if text and not text.endswith("\n"):
        raise ValueError("the page is truncated: it ends in the middle of a line")
    started_s, samples = processor_s(), 0
    metrics: dict[str, dict[Labels, float]] = {}
    names: set[str] = set()
    for line_number, line in enumerate(text.split("\n")):
        if line_number % LINES_PER_CHECK == 0 and processor_s() - started_s > MAX_PARSE_S:
            raise ValueError(
                f"the page takes more than {MAX_PARSE_S:g} s of processor time to parse;"
                " reduce the metrics that the engine exports"
            )
        match = NAME.match(line)
        if match is None:
            continue
        name = match[0]
        if len(names) < MAX_NAMES:
            names.add(name)
        if name not in requested:
            continue
        samples += 1
        if samples > MAX_SAMPLES:
            raise ValueError(f"the page has more than {MAX_SAMPLES} series to read; use Prometheus and kind prometheus")
        labels, value = parse_sample(line, match.end())
        metrics.setdefault(name, {})[labels] = value
    return Page(at, metrics, frozenset(names))


def parse_sample(line: str, position: int) -> tuple[Labels, float]:
    """Parse the labels and value of a line whose name ends at `position`. Raises `ValueError`."""
    if len(line) > MAX_LINE_CHARS:
        raise ValueError(f"a line of {line[:position]} has {len(line)} characters; the limit is {MAX_LINE_CHARS}")
    labels: dict[str, str] = {}
    if opening := OPENING.match(line, position):
        position = opening.end()
        while (closing := CLOSING.match(line, position)) is None:
            label = LABEL.match(line, position)
            if label is None or label[1] in labels:
                raise ValueError(f"malformed labels: {line[:SHOWN]!r}")
            labels[label[1]] = ESCAPE.sub(_unescape, label[2]) if "\\" in label[2] else label[2]
            if len(labels) > MAX_LABELS:
                raise ValueError(f"a series of {line[: opening.start()]} has more than {MAX_LABELS} labels")
            position = label.end()
        position = closing.end()
    return frozenset(labels.items()), _parse_value(line, position)


def _unescape(match: re.Match[str]) -> str:
    return ESCAPES.get(match[1], match[0])


def _parse_value(line: str, position: int) -> float:
    """Parse the value after the labels; a timestamp and an exemplar may follow.

    Raises `ValueError`.
    """
    value, *timestamp_and_exemplar = line[position:].split(maxsplit=2) or [""]
    if not value.isascii() or "_" in value or len(value) > MAX_NUMBER_CHARS:
        raise ValueError(f"malformed value: {line[:SHOWN]!r} must be a number of at most {MAX_NUMBER_CHARS} characters")
    if timestamp_and_exemplar and not timestamp_and_exemplar[0].startswith("#"):
        float(timestamp_and_exemplar[0])
    return float(value)
