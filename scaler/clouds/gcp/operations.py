"""Long-running operations of Google's APIs: read once a tick, never awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Shortfall
from scaler.clouds.gcp import errors
from scaler.clouds.rest import Body
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Misconfigured

GIVE_UP_S: Final = 3600.0
"""Time after which an operation is no longer followed: the sizes show its result. Seconds."""
REPORT_S: Final = 180.0
"""Time for which a failure is reported; then the same size may be requested again. Seconds."""


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """An operation for `requested` replicas that failed at `at` (seconds since the Unix epoch)."""

    requested: int
    failure: errors.GcpFailure
    at: float

    @property
    def shortfall(self) -> Shortfall | None:
        return self.failure.shortfall(self.at) if self.failure.is_shortfall else None


class OperationFollower:
    """Follows the last operation of a pool until it ends.

    `read` returns an operation by its name.
    """

    def __init__(self, clock: Clock, read: Callable[[str], Awaitable[Body]]) -> None:
        self._clock = clock
        self._read = read
        self._name = ""
        self._requested = 0
        self._began_at = 0.0
        self._failure: OperationFailure | None = None
        self._failed_at = float("-inf")

    @property
    def requested(self) -> int | None:
        """Replicas that the operation in progress is for; None without one."""
        return self._requested if self._name else None

    @property
    def failure(self) -> OperationFailure | None:
        """The failure of the last operation, for `REPORT_S` seconds and until the next one begins."""
        return self._failure if 0 <= self._clock.now() - self._failed_at < REPORT_S else None

    def forget(self) -> None:
        """Drop the failure."""
        self._failure = None

    def begin(self, requested: int, operation: Mapping[str, Any]) -> None:
        """Follow `operation`, which the API began for a write of `requested` replicas."""
        self._requested, self._began_at, self._failure = requested, self._clock.now(), None
        self._name = str(operation.get("name", ""))
        self._update(operation)

    async def poll(self) -> None:
        """Read the operation in progress. Raises port errors."""
        if not self._name:
            return
        if not 0 <= self._clock.now() - self._began_at < GIVE_UP_S:
            self._name = ""
            return
        try:
            self._update(await self._read(self._name))
        except Misconfigured as e:
            if "not found" not in str(e).lower():
                raise
            self._name = ""  # it ended, and the API dropped it

    def _update(self, operation: Mapping[str, Any]) -> None:
        done = operation.get("done") is True or operation.get("status") == "DONE"
        if not done and operation.get("status") != "ABORTING":
            return
        error = operation.get("error") or operation.get("nodepoolConditions") or operation.get("clusterConditions")
        if error:
            body = error if isinstance(error, Mapping) else {"errors": error}
            ended_at = seconds_of(operation.get("endTime"), self._clock.now())
            self._failure = OperationFailure(self._requested, errors.failure_of(body), ended_at)
            self._failed_at = self._clock.now()
        if done:
            self._name = ""
