"""Reservations of Compute Engine: machines that are paid whether used or not."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from scaler.clouds.gcp import session
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import GcpReservation
from scaler.clouds.response_validation import whole
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Context, PortError, Unavailable

READ: Final = "compute.reservations.get"
AGAIN_S: Final = 60.0
"""Time between two reads: reservations are changed by people. Seconds."""
KEPT_S: Final = 600.0
"""Age up to which the last answer counts while none comes. Seconds."""
STATUSES: Final = frozenset({"CREATING", "DELETING", "INVALID", "READY", "UPDATING"})


class Reservation:
    """One reservation, as all pools that name it read it."""

    def __init__(self, compute: session.GcpService, clock: Clock, project: GcpProject, spec: GcpReservation) -> None:
        self._compute = compute
        self._clock = clock
        self._path = f"/compute/v1/projects/{project.id}/zones/{spec.zone}/reservations/{spec.name}"
        self._name = spec.name
        self._held: int | None = None
        self._requested_at = self._read_at = float("-inf")

    async def held(self) -> int | None:
        """Return the machines that it holds.

        None where that is not known, which is no error of the pool.
        """
        now = self._clock.now()
        if not 0 <= now - self._requested_at < AGAIN_S:
            self._requested_at = now
            with contextlib.suppress(PortError):
                self._held, self._read_at = await self.read(), now
        return self._held if 0 <= now - self._read_at < KEPT_S else None

    async def read(self) -> int:
        """Return the machines that it holds now. Raises port errors."""
        body = await self._compute.call(READ, self._path, self._name)
        return reserved_capacity(self._name, body, self._clock.now())


def reserved_capacity(name: str, body: Mapping[str, Any], now: float) -> int:
    """Return the machines that a reservation holds: none before it is ready and after its end."""
    ends = seconds_of(body.get("deleteAtTime"), float("inf"))
    status = body.get("status")
    if not isinstance(status, str) or status not in STATUSES:
        raise Unavailable(f"GCP {READ} of {name}: {status!r} is no status of a reservation")
    if status != "READY" or ends <= now:
        return 0
    specific = body.get("specificReservation")
    count = specific.get("assuredCount", specific.get("count")) if isinstance(specific, Mapping) else None
    return whole(f"GCP {READ} of {name}", count, digits=True)


async def reservation(context: Context, project: GcpProject, spec: GcpReservation) -> Reservation:
    """Return the reservation that all pools which name it share. Raises `Misconfigured`."""

    compute = await session.service(context, project, "compute")
    made = Reservation(compute, context.clock, project, spec)
    return await context.shared(("gcp", "reservation", project, spec), lambda: contextlib.nullcontext(made))
