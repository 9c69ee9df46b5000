"""Long-running operations of Google's APIs: read once a tick, never waited for."""

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
"""An operation that has not ended after this is no longer followed: what became of it shows in the sizes."""
STANDS_S: Final = 180.0
"""How long a failure is told where nothing else shows it: then the size asked for may be asked for again."""


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """An operation that ended without what it was for: `asked` replicas."""

    requested: int
    failure: errors.GcpFailure
    at: float

    @property
    def shortfall(self) -> Shortfall | None:
        return self.failure.shortfall(self.at) if self.failure.is_shortfall else None


class OperationFollower:
    """The last operation that a pool began, until it ends. `read` gives an operation by its name."""

    def __init__(self, clock: Clock, read: Callable[[str], Awaitable[Body]]) -> None:
        self._clock = clock
        self._read = read
        self._name = ""
        self._requested = 0
        self._since = 0.0
        self._failure: OperationFailure | None = None
        self._failed_at = float("-inf")

    @property
    def requested(self) -> int | None:
        """Replicas that the operation under way is for; None where none is."""
        return self._requested if self._name else None

    @property
    def failure(self) -> OperationFailure | None:
        """The failure of the last operation, for a while and until another one begins."""
        failed = self._failure
        return failed if failed and 0 <= self._clock.now() - self._failed_at < STANDS_S else None

    def forget(self) -> None:
        """Drop the failure: it is dealt with."""
        self._failure = None

    def begin(self, requested: int, operation: Mapping[str, Any]) -> None:
        """Follow `operation`, which the API began for a write of `asked` replicas."""
        self._requested, self._since, self._failure = requested, self._clock.now(), None
        self._name = str(operation.get("name", ""))
        self._take(operation)

    async def poll(self) -> None:
        """Read the operation under way. Raises port errors."""
        if not self._name:
            return
        if not 0 <= self._clock.now() - self._since < GIVE_UP_S:
            self._name = ""
            return
        try:
            self._take(await self._read(self._name))
        except Misconfigured as e:
            if "not found" not in str(e).lower():
                raise
            self._name = ""  # ended, and forgotten by the API

    def _take(self, operation: Mapping[str, Any]) -> None:
        if operation.get("status") not in {"DONE", "ABORTING"}:
            return
        error = operation.get("error") or operation.get("nodepoolConditions") or operation.get("clusterConditions")
        if error:
            wrong = error if isinstance(error, Mapping) else {"errors": error}
            ended = seconds_of(operation.get("endTime"), self._clock.now())
            self._failure = OperationFailure(self._requested, errors.failure_of(wrong), ended)
            self._failed_at = self._clock.now()
        if operation.get("status") == "DONE":
            self._name = ""
