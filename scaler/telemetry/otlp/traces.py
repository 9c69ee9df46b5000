"""Writes each tick as a trace.

Its span has one below it for each read, the decision and each write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from opentelemetry.trace import Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from policies.model import Tick
from scaler.adapter_faults import CallTime, CallTimes
from scaler.ports import Clock

WORKLOAD: Final = "forescale.workload"
OUTCOME: Final = "forescale.outcome"


class TickPart(NamedTuple):
    """One part of a tick. An empty `error` is success. Unix times."""

    name: str
    attributes: dict[str, AttributeValue]
    error: str
    began_s: float
    ended_s: float


class TickTraces:
    """Turns ticks into spans. Their times come from the daemon's clock, as those of log lines."""

    def __init__(self, tracer: Tracer, times: CallTimes, clock: Clock) -> None:
        self._tracer = tracer
        self._times = times
        self._clock = clock

    def observe(self, tick: Tick) -> None:
        """Write the spans of a tick that has just ended."""
        calls, ended_s = self._times.take(tick.workload), self._clock.now()
        began_s = ended_s - tick.took_s
        root = self._tracer.start_span("tick", attributes=_attributes(tick), start_time=_ns(began_s))
        if root.is_recording():
            if errors := len(tick.observation.source_errors) + len(tick.observation.pool_errors):
                root.set_status(Status(StatusCode.ERROR, f"{errors} failed reads"))
            context = set_span_in_context(root)
            for part in self._parts(tick, calls, ended_s):
                start_s, attributes = max(began_s, part.began_s), {WORKLOAD: tick.workload, **part.attributes}
                span = self._tracer.start_span(part.name, context, attributes=attributes, start_time=_ns(start_s))
                if part.error:
                    span.set_status(Status(StatusCode.ERROR, part.error))
                span.end(_ns(max(start_s, part.ended_s)))
        root.end(_ns(ended_s))

    def _parts(self, tick: Tick, calls: list[CallTime], ended_s: float) -> Iterator[TickPart]:
        """Yield the reads, the writes and the decision, which ends at the first write."""
        observation, decision = tick.observation, tick.decision
        errors: dict[tuple[str, str], str] = {("source", n): e for n, e in observation.source_errors.items()}
        errors |= {("pool", n): e for n, e in observation.pool_errors.items()}
        outcomes = {outcome.pool: outcome for outcome in tick.outcomes}
        decided_s = ended_s
        for call in calls:
            attributes: dict[str, AttributeValue] = {f"forescale.{call.kind}": call.name}
            error = errors.get((call.kind, call.name), "")
            attributes[OUTCOME] = "failed" if error else "ok"
            if call.operation == "resize":
                decided_s = min(decided_s, call.began_s)
                outcome = next((o for name, o in outcomes.items() if name == call.name), None)
                error = outcome.reason if outcome is not None and outcome.result.refused else ""
                if outcome is not None:
                    attributes |= {OUTCOME: outcome.result.value, "forescale.target": outcome.after}
                    attributes["forescale.current"] = outcome.before
            yield TickPart(f"{call.operation} {call.kind}", attributes, error, call.began_s, call.ended_s)
        decided: dict[str, AttributeValue] = {"forescale.reason": decision.reason}
        if decision.steps:
            decided["forescale.rule"] = decision.steps[-1].rule.value
        yield TickPart("decide", decided, "", tick.at, decided_s)


def _attributes(tick: Tick) -> dict[str, AttributeValue]:
    """Return the attributes of a tick. An unknown number has none."""
    decision, observation = tick.decision, tick.observation
    refused = any(outcome.result.refused for outcome in tick.outcomes)
    failed = bool(observation.source_errors or observation.pool_errors)
    numbers = {
        "forescale.demand": decision.demand,
        "forescale.current": decision.current,
        "forescale.ready": decision.ready,
        "forescale.target": decision.target,
    }
    return {
        WORKLOAD: tick.workload,
        OUTCOME: "write refused" if refused else "read failed" if failed else "ok",
        "forescale.dry_run": tick.dry_run,
        "forescale.lateness_s": tick.lateness_s,
        **{name: value for name, value in numbers.items() if value is not None},
    }


def _ns(at_s: float) -> int:
    return round(at_s * 1e9)
