"""Why a quantity has no series: its replicas are gone, or the metric never was.

The first is ordinary (scaled to zero). The second is a mistake, in a name or a label, that would otherwise stay silent
for ever: an autoscaler on a metric that does not exist never scales.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scaler.ports import Clock, PortError
from scaler.registry import did_you_mean
from scaler.sources.prometheus_api import PrometheusApi
from scaler.sources.promql import quoted, selector

HUMAN: Final = "misconfigured: "
"""How the reason of a quantity begins that a human must mend."""
SINCE_S: Final = 86_400.0
"""A metric without a series for a day counts as one that never was."""
AGAIN_S: Final = 300.0
"""Between two looks: the answer changes when a human acts."""
PREFIX: Final = re.compile(r"[A-Za-z]+[:_]?")


@dataclass(frozen=True, slots=True)
class Sought:
    """The metrics that a quantity is read from, under one name or another, and the labels asked for."""

    names: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        wanted = ", ".join(f"{label}={quoted(value)}" for label, value in self.labels.items())
        return " or ".join(self.names) + (f" with {wanted}" if wanted else "")


class Gone:
    """Remembers, for each quantity without a series, why."""

    def __init__(self, api: PrometheusApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def reasons(self, missing: Mapping[str, Sought], until: float | None) -> Mapping[str, str]:
        """Why each of the `missing` quantities is; looked up at most every five minutes, and not beyond `until`."""
        now = self._clock.now()
        self._known = {q: known for q, known in self._known.items() if q in missing}
        for quantity in missing.keys() - self._known.keys():
            self._known[quantity] = (now, f"no series of {missing[quantity]} now")
        due = [q for q, (next_look, _) in self._known.items() if next_look <= now]
        try:
            async with asyncio.timeout_at(until):
                found = await asyncio.gather(*(self._look(missing[q]) for q in due))
            self._known.update({q: (now + AGAIN_S, reason) for q, reason in zip(due, found, strict=True)})
        except (TimeoutError, PortError):  # what is known stands; the values that there are matter more
            self._known.update({q: (now + AGAIN_S, self._known[q][1]) for q in due})
        return {q: reason for q, (_, reason) in self._known.items()}

    async def _look(self, sought: Sought) -> str:
        if not sought.names:
            return "the query gives no series"
        if await self._api.names([selector(name, sought.labels) for name in sought.names], SINCE_S):
            return f"no series of {sought} now, though there were in the last day"
        prefix = PREFIX.match(sought.names[0])
        begins = prefix.group() if prefix else sought.names[0]
        near = await self._api.names([f"{{__name__=~{quoted(begins + '.*')}}}"], SINCE_S)
        present = [name for name in sought.names if name in near]
        if present:
            hint = f"{present[0]} has series, but none with these labels"
        elif near:
            hint = did_you_mean(sought.names[0], near) or f"there are {', '.join(near[:5])}"
        else:
            hint = f"nothing here begins with {begins!r}: is it scraped, and did a replica run in the last day?"
        return f"{HUMAN}no series of {sought} in the last day; {hint}"
