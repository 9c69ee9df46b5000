"""The reason why a quantity has no series.

Either its replicas are gone, or the metric never existed. The first is normal (scaled to zero). The second is a wrong
name or label and must be reported: an autoscaler on a metric that does not exist never scales.
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

MISCONFIGURED: Final = "misconfigured: "
"""Prefix of a reason that a human must fix."""
LOOK_BACK_S: Final = 86_400.0
"""A metric without a series for this time counts as nonexistent. Seconds."""
RECHECK_S: Final = 300.0
"""Time between two lookups: the result changes only when a human acts. Seconds."""
PREFIX: Final = re.compile(r"[A-Za-z]+[:_]?")


@dataclass(frozen=True, slots=True)
class MetricSelector:
    """The alternative metric names of a quantity, and the required labels."""

    names: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        labels = ", ".join(f"{label}={quoted(value)}" for label, value in self.labels.items())
        return " or ".join(self.names) + (f" with {labels}" if labels else "")


class MissingSeries:
    """Looks up and caches the reason for each quantity without a series."""

    def __init__(self, api: PrometheusApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def reasons(self, missing: Mapping[str, MetricSelector], until: float | None) -> Mapping[str, str]:
        """Return the reason for each of the `missing` quantities.

        Reasons are looked up every five minutes, by the time `until`.
        """
        now = self._clock.now()
        self._known = {q: known for q, known in self._known.items() if q in missing}
        for quantity in missing.keys() - self._known.keys():
            self._known[quantity] = (now, f"no series of {missing[quantity]} now")
        due = [q for q, (next_lookup, _) in self._known.items() if next_lookup <= now]
        try:
            async with asyncio.timeout_at(until):
                looked_up = await asyncio.gather(*(self._look_up(missing[q]) for q in due))
            self._known.update({q: (now + RECHECK_S, reason) for q, reason in zip(due, looked_up, strict=True)})
        except (TimeoutError, PortError):  # the known reasons stay: the present values matter more
            self._known.update({q: (now + RECHECK_S, self._known[q][1]) for q in due})
        return {q: reason for q, (_, reason) in self._known.items()}

    async def _look_up(self, selected: MetricSelector) -> str:
        if not selected.names:
            return "the query returns no series"
        if await self._api.names([selector(name, selected.labels) for name in selected.names], LOOK_BACK_S):
            return f"no series of {selected} now, but there were some in the last 24 h"
        prefix = PREFIX.match(selected.names[0])
        stem = prefix.group() if prefix else selected.names[0]
        near = await self._api.names([f"{{__name__=~{quoted(stem + '.*')}}}"], LOOK_BACK_S)
        present = [name for name in selected.names if name in near]
        if present:
            hint = f"{present[0]} has series, but none with these labels; check match"
        elif near:
            hint = did_you_mean(selected.names[0], near) or f"similar metrics: {', '.join(near[:5])}"
        else:
            hint = f"no metric begins with {stem!r}; check that it is scraped and that a replica ran in the last 24 h"
        return f"{MISCONFIGURED}no series of {selected} in the last 24 h; {hint}"
