"""Modal: the present inputs of a function, or a server's requests and engine latencies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import modal

from policies.model import Absent, Fresh
from scaler.clouds.modal.client import ModalObject, open_object
from scaler.clouds.response_validation import one_line, unavailable_if_malformed
from scaler.config.kinds.modal import (
    FUNCTION_QUANTITIES,
    LATENCIES,
    PERCENTILES,
    RATES,
    SCALARS,
    ModalStats,
    latency_quantity,
)
from scaler.ports import Clock, Context
from scaler.sources.sanitize import sanitize

Reading = Fresh[float] | Absent
SECONDS: Final = frozenset({"", "s", "sec", "second", "seconds"})
"""Units of a latency. Modal's own command line takes latencies without looking at their unit as seconds."""


async def open_modal(spec: ModalStats, context: Context) -> FunctionStats | ServerStats:
    """Open the source without reading it. Raises port errors."""
    if spec.of == "function":
        return FunctionStats(await open_object(spec, context, modal.Function), context.clock)
    return ServerStats(spec, await open_object(spec, context, modal.Server), context.clock)


class FunctionStats:
    """The source's port, of a function: its inputs and containers now."""

    def __init__(self, function: ModalObject, clock: Clock) -> None:
        self._function = function
        self._clock = clock

    async def sample(self) -> Mapping[str, Reading]:
        at = self._clock.now()
        stats = await self._function.call("FunctionGetCurrentStats", lambda f: f.get_current_stats.aio())
        with unavailable_if_malformed(self._function.name):
            return {q: sanitize(q, getattr(stats, name), at) for q, name in FUNCTION_QUANTITIES.items()}


class ServerStats:
    """The source's port, of a server: its requests and its engine, over the last time range."""

    def __init__(self, spec: ModalStats, server: ModalObject, clock: Clock) -> None:
        self._spec = spec
        self._server = server
        self._clock = clock

    async def sample(self) -> Mapping[str, Reading]:
        at = self._clock.now()
        until = datetime.fromtimestamp(at, UTC)
        since = until - timedelta(seconds=self._spec.window_s)
        stats = await self._server.call("ServerGetTimeRangeStats", lambda s: s.stats.aio(since=since, until=until))
        with unavailable_if_malformed(self._server.name):
            return {**self._rates(stats, at), **self._engine(stats.inference, at)}

    def _rates(self, stats: Any, at: float) -> Mapping[str, Reading]:
        failed = sum(count for code, count in stats.request_count_by_status_code.items() if code >= 500)
        values = (stats.request_rate_per_second, failed / self._spec.window_s)
        return {quantity: sanitize(quantity, value, at) for quantity, value in zip(RATES, values, strict=True)}

    def _engine(self, engine: Any, at: float) -> Mapping[str, Reading]:
        """Return the readings of the engine; all absent where Modal has none."""
        reason = self._missing(engine)
        readings: dict[str, Reading] = {}
        for quantity, name in SCALARS.items():
            value = None if reason else engine.scalar_stats.get(name)
            readings[quantity] = (
                Absent(reason or f"Modal reports no {name}") if value is None else sanitize(quantity, value, at)
            )
        for latency, name in LATENCIES.items():
            distribution = None if reason else engine.percentile_stats.get(name)
            for percentile in PERCENTILES:
                quantity = latency_quantity(latency, percentile)
                readings[quantity] = (
                    Absent(reason or f"Modal reports no {name}")
                    if distribution is None
                    else _percentile(quantity, name, distribution, percentile, at)
                )
        return readings

    def _missing(self, engine: Any) -> str:
        """Return why there are no statistics of an engine; empty where there are."""
        if engine is None:
            return "Modal finds no vLLM or SGLang in this server"
        if engine.status == "no_data":
            return f"Modal recorded no inference in the last {self._spec.window_s:g} s"
        if engine.status != "available":
            return f"Modal's inference statistics are {one_line(engine.status)}"
        return ""


def _percentile(quantity: str, name: str, distribution: Any, percentile: int, at: float) -> Reading:
    if distribution.unit.lower() not in SECONDS:
        return Absent(f"Modal reports {name} in {one_line(distribution.unit)}, not in seconds")
    values = {p.percentile: p.value for p in distribution.percentiles}
    if percentile not in values:
        reported = ", ".join(f"p{p:g}" for p in sorted(values)) or "none"
        return Absent(f"Modal reports no p{percentile} of {name}; it reports {reported}")
    return sanitize(quantity, values[percentile], at)
