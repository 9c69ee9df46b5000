"""Numbers in a JSON document of any HTTP service.

Each number is found by a JSON Pointer (RFC 6901). A pointer that leads nowhere, or to something other than a number,
makes its quantity absent; the reason names the first step that is missing. The other quantities stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from yarl import URL

from policies.model import Absent, Fresh
from scaler.clouds.json_pages import JsonPages, json_pages
from scaler.clouds.response_validation import one_line, validated
from scaler.clouds.timestamps import seconds_of
from scaler.config.kinds.http_json import HttpJson
from scaler.ports import Context
from scaler.sources.sanitize import sanitize

SHOWN_NAMES: Final = 5


async def open_http_json(spec: HttpJson, context: Context) -> HttpJsonSource:
    """Open the source. Raises `Misconfigured`."""
    return HttpJsonSource(spec, await json_pages(context, spec.url, spec.access))


class HttpJsonSource:
    """The source's port."""

    def __init__(self, spec: HttpJson, pages: JsonPages) -> None:
        self._spec = spec
        self._pages = pages
        self._url = URL(spec.url)

    @validated("HTTP service")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        at, document = await self._pages.get(str(self._url), self._url)
        time = at if self._spec.measured_at is None else _time(document, self._spec.measured_at)
        if isinstance(time, Absent):
            return dict.fromkeys(self._spec.values, time)
        return {q: self._reading(q, document, pointer, time) for q, pointer in self._spec.values.items()}

    def _reading(self, quantity: str, document: Any, pointer: str, at: float) -> Fresh[float] | Absent:
        value = find(document, pointer)
        if isinstance(value, Absent):
            return value
        divisor = self._spec.divide_by.get(quantity)
        if divisor is None:
            return sanitize(quantity, value, at)
        number = sanitize("", value, at)
        return sanitize(quantity, number.value / divisor, at) if isinstance(number, Fresh) else number


def find(document: Any, pointer: str) -> Any:
    """Return the value at a JSON Pointer, or `Absent` with the first missing step.

    Example: `/queues/0/waiting` in `{"queues": [{"waiting": 7}]}` is 7.
    """
    value, path = document, ""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        place, path = path or "the document", f"{path}/{step}"
        if isinstance(value, dict):
            if name not in value:
                names = ", ".join(sorted(value)[:SHOWN_NAMES])
                return Absent(one_line(f"{pointer}: {place} has no {name!r}" + (f"; it has {names}" if names else "")))
            value = value[name]
        elif isinstance(value, list):
            if not (name.isascii() and name.isdigit()) or int(name) >= len(value):
                return Absent(one_line(f"{pointer}: {place} is a list of {len(value)} items, without item {name!r}"))
            value = value[int(name)]
        else:
            return Absent(one_line(f"{pointer}: {place} is {value!r}, which has no {name!r}"))
    if value is None or isinstance(value, dict | list | bool):
        return Absent(one_line(f"{pointer} is {value!r}, not a number"))
    return value


def _time(document: Any, pointer: str) -> float | Absent:
    """Return the time at a pointer, in Unix seconds or RFC 3339."""
    value = find(document, pointer)
    if isinstance(value, Absent):
        return value
    time = sanitize("", value, 0.0)
    if isinstance(time, Fresh):
        return time.value
    return seconds_of(value, Absent(one_line(f"{pointer} is {value!r}, not a time")))
