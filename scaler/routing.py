"""Reads and writes of a workload's routes, within a tick of the controller."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from policies.model import Decision, Fresh, Observation, Outcome, Reading, Result
from policies.model.names import RouteName
from policies.model.readings import grade
from policies.model.route import RouteDecision, RouteStatus
from policies.model.tick import RouteOutcome
from scaler.adapter_faults import Faults
from scaler.leases.fence import check_write
from scaler.masking import mask
from scaler.ports import PortError

if TYPE_CHECKING:
    from scaler.setup import Setup

STATUS_MAX_AGE_S: Final = 60.0
"""Maximum age of a route's status for a write, as for a pool's. Seconds."""
Outcomes: TypeAlias = tuple[tuple[Outcome, ...], tuple[RouteOutcome, ...]]
"""The outcomes of a tick's sizes and splits."""


class RouteReadings:
    """The last known status of each route."""

    def __init__(self) -> None:
        self._last: dict[RouteName, Fresh[RouteStatus]] = {}

    def grade(
        self,
        statuses: Sequence[tuple[RouteName, Fresh[RouteStatus] | None]],
        errors: Mapping[RouteName, str],
        now: float,
    ) -> dict[RouteName, Reading[RouteStatus]]:
        """Return each route's reading by its age; the last known one as stale where the read failed."""
        for name, status in statuses:
            if status is not None:
                self._last[name] = _masked(status)
        return {
            name: grade(self._last.get(name), STATUS_MAX_AGE_S, now, errors.get(name, ""), failed=status is None)
            for name, status in statuses
        }


def _masked(status: Fresh[RouteStatus]) -> Fresh[RouteStatus]:
    writer = status.value.other_writer
    if writer is None:
        return status
    return dataclasses.replace(status, value=dataclasses.replace(status.value, other_writer=mask(writer)))


async def write_routes(
    setup: Setup, decision: Decision, observation: Observation, *, dry_run: bool
) -> tuple[RouteOutcome, ...]:
    """Write each split that changes, all at once, and return the outcomes."""
    writes = [
        _write(setup, name, split, reading.value, dry_run=dry_run)
        for name, split in decision.routes.items()
        if isinstance(reading := observation.routes.get(name), Fresh)
    ]
    return tuple(await asyncio.gather(*writes))


async def _write(
    setup: Setup, name: RouteName, split: RouteDecision, status: RouteStatus, *, dry_run: bool
) -> RouteOutcome:
    decided = RouteOutcome(name, dict(status.weights), dict(split.weights), Result.ACCEPTED)
    if split.is_kept:
        return dataclasses.replace(decided, result=Result.UNCHANGED)
    if dry_run:
        return dataclasses.replace(decided, result=Result.DRY_RUN, reason="dry run: nothing is written")
    deadline_s, faults = setup.workload.spec.deadline_s, setup.faults or Faults()
    try:
        check_write()
        async with asyncio.timeout(deadline_s):
            with faults.boundary(setup.workload.name, "route", name, "resize"):
                await setup.routes[name].apply(split, status)
    except TimeoutError:
        reason = f"no response within {deadline_s:g} s (deadline_s): the next tick reads the resulting weights"
        return dataclasses.replace(decided, result=Result.UNAVAILABLE, reason=reason)
    except PortError as e:
        return dataclasses.replace(decided, result=e.result, reason=str(e))
    return decided
