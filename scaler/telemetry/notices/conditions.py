"""Finds the conditions in a tick that people are notified of.

A condition holds, does not hold, or is unknown in a tick: a missing value ends no condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from policies.model import Fresh, Outcome, PoolName, Result, RuleId, SloState, Tick, WorkloadName
from policies.model.limits import parse_instant
from policies.model.spec import WorkloadSpec
from scaler.config.notices import NoticeEvent
from scaler.journal.explain import budget_text
from scaler.masking import mask
from scaler.printable import printable

MAX_DETAIL_CHARS: Final = 300
NEEDS_MORE: Final = frozenset({RuleId.SHORTAGE, RuleId.CEILING, RuleId.ABANDONED})
"""Rules that show that a pool lacks replicas, though no request of this tick was refused."""
EXPLAIN: Final = "forescale explain shows why the size is what it is."


class NoticeTopic(NamedTuple):
    """The topic of a notice. `subject` is the part of the workload: `source engines`."""

    workload: WorkloadName
    event: NoticeEvent
    subject: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition that holds: its name, its numbers and the remedy.

    One that becomes grave is sent at once. `since` is the Unix time of its start where the tick shows it; None for the
    first tick that finds it.
    """

    what: str
    detail: str
    remedy: str
    is_grave: bool = False
    since: float | None = None


class NotFound(Enum):
    """A condition that is not known to hold."""

    CLEAR = "clear"
    UNKNOWN = "unknown"


State: TypeAlias = Finding | NotFound


def states(tick: Tick, spec: WorkloadSpec) -> Mapping[NoticeTopic, State]:
    """Return the state of each condition that the workload can be in."""
    return {
        NoticeTopic(tick.workload, event, subject): state
        for event, subject, state in (
            *_slo(tick),
            *_reads(tick, spec),
            *_capacity(tick),
            *_budget(tick),
            *_override(tick, spec),
        )
    }


_Found: TypeAlias = Iterator[tuple[NoticeEvent, str, State]]


def _slo(tick: Tick) -> _Found:
    budget = tick.observation.error_budget
    if budget is None:
        return
    state: State = NotFound.CLEAR if budget.state is SloState.MET else NotFound.UNKNOWN
    if budget.state is SloState.AT_RISK:
        remedy = f"{EXPLAIN} Free capacity, or raise max_replicas."
        state = Finding("SLO at risk", budget_text(budget), remedy)
    if budget.state is SloState.VIOLATED:
        remedy = "Hold back risky changes until old violations leave the window."
        state = Finding("SLO violated", budget_text(budget), remedy, is_grave=True)
    yield "slo", "SLO", state


def _reads(tick: Tick, spec: WorkloadSpec) -> _Found:
    observation = tick.observation
    names = [*(f"source {name}" for name in spec.sources), *(f"pool {name}" for name in observation.pools)]
    errors = {f"source {name}": error for name, error in observation.source_errors.items()}
    errors |= {f"pool {name}": error for name, error in observation.pool_errors.items()}
    remedy = "forescale doctor shows what each source and pool reports."
    for name in names:
        is_read = name not in errors
        yield "reads", name, NotFound.CLEAR if is_read else Finding("cannot be read", _line(errors[name]), remedy)


def _capacity(tick: Tick) -> _Found:
    outcomes = {outcome.pool: outcome for outcome in tick.outcomes}
    needs_more = any(step.rule in NEEDS_MORE for step in tick.decision.steps)
    for pool in tick.observation.pools:
        yield (
            "capacity",
            f"capacity of pool {pool}",
            _capacity_of(tick, pool, outcomes.get(pool), needs_more=needs_more),
        )


def _capacity_of(tick: Tick, pool: PoolName, outcome: Outcome | None, *, needs_more: bool) -> State:
    reading = tick.observation.pools[pool]
    shortfall = reading.value.shortfall if isinstance(reading, Fresh) else None
    result = None if outcome is None else outcome.result
    detail = shortfall.reason if shortfall is not None else "" if outcome is None else outcome.reason
    if result is Result.OUT_OF_QUOTA or (shortfall is not None and shortfall.quota):
        return Finding("quota refused", _line(detail), "Have the quota raised, or free usage.", is_grave=True)
    if result is Result.OUT_OF_CAPACITY or shortfall is not None:
        remedy = "Add a pool of another type, zone or market. Retries continue."
        return Finding("out of capacity", _line(detail), remedy)
    is_known = isinstance(reading, Fresh) and result is not None and not result.refused and not needs_more
    return NotFound.CLEAR if is_known else NotFound.UNKNOWN


def _budget(tick: Tick) -> _Found:
    decision = tick.decision
    reasons = [step.reason for step in decision.steps if step.rule in {RuleId.BUDGET, RuleId.FLEET}]
    state: State = NotFound.UNKNOWN if decision.demand is None or decision.target is None else NotFound.CLEAR
    if reasons:
        state = Finding("budget reached", _line(reasons[-1]), f"{EXPLAIN} Raise the budget, or accept fewer replicas.")
    yield "budget", "budget", state


def _override(tick: Tick, spec: WorkloadSpec) -> _Found:
    override = spec.override
    if override is None:
        return
    state: State = NotFound.CLEAR
    if not override.in_force(tick.at):
        why = f" ({override.reason})" if override.reason else ""
        detail = f"It was {override.replicas} replicas until {override.until}{why}; the target is now {_size(tick)}."
        remedy = "Remove override from the workload's file."
        state = Finding("manual override ended", _line(detail), remedy, since=parse_instant(override.until))
    yield "override", f"override until {override.until}", state


def _size(tick: Tick) -> str:
    return "unknown" if tick.decision.target is None else str(tick.decision.target)


def _line(text: str) -> str:
    """Return a text of a server or cloud on one printable line, without secrets."""
    line = printable(" ".join(mask(text).split()))
    return line if len(line) <= MAX_DETAIL_CHARS else f"{line[: MAX_DETAIL_CHARS - 1]}…"
