"""Reservations of Compute Engine: machines that are paid for, used or not."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from scaler.clouds.gcp import session
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import GcpReservation
from scaler.clouds.response_validation import machine_count
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Context, PortError, Unavailable

READ: Final = "compute.reservations.get"
REFRESH_S: Final = 60.0
"""Time between two reads: people change reservations. Seconds."""
MAX_AGE_S: Final = 600.0
"""Maximum age of the last value while reads fail. Seconds."""
STATUSES: Final = frozenset({"CREATING", "DELETING", "INVALID", "READY", "UPDATING"})


class Reservation:
    """One reservation, shared by all pools that name it."""

    def __init__(self, compute: session.GcpService, clock: Clock, project: GcpProject, spec: GcpReservation) -> None:
        self._compute = compute
        self._clock = clock
        self._path = f"/compute/v1/projects/{project.id}/zones/{spec.zone}/reservations/{spec.name}"
        self._name = spec.name
        self._machines: int | None = None
        self._requested_at = self._read_at = float("-inf")

    async def machines(self) -> int | None:
        """Return the number of reserved machines; None where it is unknown.

        An unknown number is not an error of the pool.
        """
        now = self._clock.now()
        if not 0 <= now - self._requested_at < REFRESH_S:
            self._requested_at = now
            with contextlib.suppress(PortError):
                self._machines, self._read_at = await self.read(), now
        return self._machines if 0 <= now - self._read_at < MAX_AGE_S else None

    async def read(self) -> int:
        """Read the number of reserved machines. Raises port errors."""
        body = await self._compute.call(READ, self._path, self._name)
        return reserved_capacity(self._name, body, self._clock.now())


def reserved_capacity(name: str, body: Mapping[str, Any], now: float) -> int:
    """Return the machines that a reservation holds; 0 before it is ready and after its end."""
    ends_at = seconds_of(body.get("deleteAtTime"), float("inf"))
    status = body.get("status")
    if not isinstance(status, str) or status not in STATUSES:
        raise Unavailable(f"GCP {READ} of {name}: malformed response: a reservation has status {status!r}")
    if status != "READY" or ends_at <= now:
        return 0
    specific = body.get("specificReservation")
    count = specific.get("assuredCount", specific.get("count")) if isinstance(specific, Mapping) else None
    return machine_count(f"GCP {READ} of {name}", count, digits=True)


async def reservation(context: Context, project: GcpProject, spec: GcpReservation) -> Reservation:
    """Return the reservation that all pools share which name it. Raises `Misconfigured`."""
    compute = await session.service(context, project, "compute")
    shared = Reservation(compute, context.clock, project, spec)
    return await context.shared(("gcp", "reservation", project, spec), lambda: contextlib.nullcontext(shared))
