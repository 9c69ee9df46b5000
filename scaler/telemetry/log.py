"""Configures structured logging, and logs each tick as one line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Literal, TextIO, TypeAlias

import structlog

from policies.model import Absent, ErrorBudget, Fresh, Grant, SloState, Stale, Tick
from policies.model.error_budget import HOUR_S
from policies.model.tick import PUBLISHED
from scaler.clock import iso_time, wall_time
from scaler.journal.explain import budget_text, split_text
from scaler.masking import masked
from scaler.printable import printable
from scaler.telemetry.log_limits import RateLimit, event_of

Form: TypeAlias = Literal["json", "console", "live"]
PLAIN: Final = (str, int, float, bool, type(None), Mapping, list, tuple)
TRACES: Final = ("exception", "stack")
"""Fields with several lines."""
log: structlog.stdlib.BoundLogger = structlog.get_logger("forescale")
_time: list[Callable[[], str]] = [wall_time]


def _stamp(_logger: object, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {"time": _time[-1](), **event}


SHARED: Final[list[Any]] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    _stamp,
    structlog.processors.StackInfoRenderer(),
]
# A logger keeps the list of its first use, so that every call of `configure` must pass this one.
PROCESSORS: Final[list[Any]] = [*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter]


@contextmanager
def stamped_by(now: Callable[[], float]) -> Iterator[None]:
    """Stamp log lines by a daemon's clock, as its ticks are.

    The clock of an embedded world may run faster than real time.
    """
    _time.append(lambda: iso_time(now()))
    try:
        yield
    finally:
        _time.pop()


def form_on(stream: TextIO, environment: Mapping[str, str]) -> Form:
    """Return the default form of log lines on a stream: JSON unless it is a terminal."""
    if not stream.isatty():
        return "json"
    return "live" if can_redraw(stream, environment) else "console"


def can_redraw(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal with cursor control, in front of a person."""
    return stream.isatty() and environment.get("TERM", "dumb") not in {"dumb", "unknown"} and not environment.get("CI")


def has_colors(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether lines on a stream may have colors (https://no-color.org)."""
    return can_redraw(stream, {**environment, "CI": ""}) and not environment.get("NO_COLOR")


def configure(form: Form) -> None:
    """Send every log line of this process to standard error, in one form.

    With a live view, ticks are not logged unless they are warnings: the view shows them.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter_of(form))
    handler.addFilter(RateLimit(log.warning))
    if form == "live":
        handler.addFilter(lambda record: record.levelno >= logging.WARNING or event_of(record)[0] != "tick")
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("botocore", "aiobotocore", "aiohttp.access", "kubernetes_asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for reported in ("botocore.credentials", "aiobotocore.credentials"):  # their failures are in the tick's errors
        logging.getLogger(reported).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=PROCESSORS,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def formatter_of(form: Form) -> logging.Formatter:
    """Return the formatter of lines on standard error."""
    if form == "json":
        return formatter(structlog.processors.JSONRenderer())
    console = structlog.dev.ConsoleRenderer(
        colors=has_colors(sys.stderr, os.environ),
        pad_event_to=12,
        timestamp_key="time",
        exception_formatter=structlog.dev.plain_traceback,
    )
    return formatter(_printable, console)


def formatter(*renderer: Any) -> logging.Formatter:
    """Return a formatter that masks secrets, and renders with the processors `renderer`."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _without_secrets,
            *renderer,
        ],
    )


def log_tick(tick: Tick) -> None:
    """Log a tick as one line, as a warning where a write was refused or a read failed."""
    d = tick.decision
    refused = any(o.result.refused for o in tick.outcomes) or any(o.result.refused for o in tick.route_outcomes)
    reported = [o for o in tick.outcomes if o.result.refused or (o.result in PUBLISHED and o.before != o.after)]
    observation = tick.observation
    errors = {f"sources.{name}": error for name, error in observation.source_errors.items()}
    errors |= {f"pools.{name}": error for name, error in observation.pool_errors.items()}
    errors |= {f"routes.{name}": error for name, error in observation.route_errors.items()}
    write = log.warning if refused or errors else log.info
    write(
        "tick",
        workload=tick.workload,
        demand=None if d.demand is None else round(d.demand, 3),
        current=d.current,
        ready=d.ready,
        target=d.target,
        **({} if d.cost_usd_per_hour is None else {"usd_per_hour": round(d.cost_usd_per_hour, 2)}),
        reason=d.reason,
        rule=d.steps[-1].rule if d.steps else "",
        **{name: _value_text(reading) for name, reading in observation.readings.items()},
        **({"errors": errors} if errors else {}),
        **_slo_fields(observation.error_budget),
        **({"granted": grant_text(observation.grant)} if observation.grant is not None else {}),
        **(
            {"outcomes": [f"{o.pool} {o.before}->{o.after} {o.result}: {o.reason}" for o in reported]}
            if reported
            else {}
        ),
        **_route_fields(tick),
        **({"dry_run": True} if tick.dry_run else {}),
        late_s=round(tick.lateness_s, 3),
        took_s=round(tick.took_s, 3),
    )


def _route_fields(tick: Tick) -> dict[str, object]:
    """Return the split of each route, and the splits that were not written."""
    refused = [f"{o.route} {o.result}: {o.reason}" for o in tick.route_outcomes if o.result.refused]
    splits = {name: split_text(split) for name, split in tick.decision.routes.items()}
    return {**({"routes": splits} if splits else {}), **({"route_outcomes": refused} if refused else {})}


def log_slo_change(previous: Tick | None, tick: Tick) -> None:
    """Log a changed state of the SLO, as a warning where it is at risk or violated."""
    before, after = (None if t is None else t.observation.error_budget for t in (previous, tick))
    if after is None or (after.state is SloState.UNKNOWN if before is None else after.state is before.state):
        return
    write = log.warning if after.state in {SloState.AT_RISK, SloState.VIOLATED} else log.info
    write("slo", workload=tick.workload, state=after.state.value, reason=budget_text(after))


def _slo_fields(budget: ErrorBudget | None) -> dict[str, object]:
    """Return the state of the SLO, its burn rate over an hour and its remaining error budget.

    An unknown one is None.
    """
    if budget is None:
        return {}
    burn_rate, remaining = budget.burn_rate(HOUR_S), budget.remaining
    return {
        "slo": budget.state.value,
        "burn_rate_1h": None if burn_rate is None else round(burn_rate, 2),
        "budget_remaining": None if remaining is None else round(remaining, 4),
    }


def grant_text(grant: Grant) -> str:
    """Return the limits on what a workload may hold and remove as text."""
    quotas = (
        (grant.gpus, "{:g} GPUs"),
        (grant.usd_per_hour, "{:.2f} USD per hour"),
        (grant.removable, "{:g} replicas may be removed"),
    )
    return ", ".join(form.format(quota.most) for quota, form in quotas if quota is not None)


def _value_text(reading: Fresh[float] | Stale[float] | Absent) -> object:
    match reading:
        case Fresh(value, _, missing):
            return f"at least {value:g}: {missing}" if missing else round(value, 4)
        case Stale(value, _, age_s):
            return f"stale {age_s:.0f} s: {value:g}"
        case Absent(reason):
            return f"absent: {reason}"


def _without_secrets(_logger: object, _name: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Mask secrets in every field of a line: SDKs log too, and traces quote arguments."""
    return {key: masked(value if isinstance(value, PLAIN) else str(value)) for key, value in event.items()}


def _printable(_logger: object, _name: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Escape control characters in every text of a line, except for the line breaks of a trace."""
    escaped = {printable(key): printable(value) if isinstance(value, str) else value for key, value in event.items()}
    traces = {key: "\n".join(map(printable, str(event[key]).split("\n"))) for key in TRACES if key in event}
    return {**escaped, **traces}
