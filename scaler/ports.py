"""The daemon's ports, and the errors that cross them, typed by remedy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar, runtime_checkable

import numpy as np

from policies.model import Absent, Fresh, PoolStatus, Result
from policies.model.route import RouteDecision, RouteStatus
from scaler.clouds.api_budget import Calls
from scaler.masking import mask
from scaler.supervised_tasks import Tasks
from scaler.wakeup import Wakeup

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


MAX_MESSAGE: Final = 2_000
"""Maximum length of an error message in characters: it quotes other systems, and each tick writes it to the journal."""


class PortError(Exception):
    """Failure of a port's call. The subclass determines the remedy.

    The message is masked, cut at `MAX_MESSAGE` characters and encodable as UTF-8, whatever it quotes. `result` is the
    outcome of a write that fails so.
    """

    result: ClassVar[Result] = Result.UNAVAILABLE

    def __init__(self, message: str = "") -> None:
        super().__init__(mask(message[: 4 * MAX_MESSAGE])[:MAX_MESSAGE].encode(errors="replace").decode())


class Unavailable(PortError):
    """No usable response this time. The next tick retries."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Throttled(Unavailable):
    """The platform rejects our request rate.

    Polling slows down; writes that add capacity do not.
    """


class OutOfCapacity(PortError):
    """The platform has no capacity of this kind now. Remember the shortage, and use other pools."""

    result = Result.OUT_OF_CAPACITY


class OutOfQuota(PortError):
    """A quota of the account forbids more of this kind.

    Use other pools, and retry after minutes to an hour.
    """

    result = Result.OUT_OF_QUOTA


class Conflict(PortError):
    """Another writer changed the size since our last read. Read it again before writing."""

    result = Result.CONFLICT


class Fenced(PortError):
    """This daemon may not write now, and has not: another one holds or may hold the lease."""

    result = Result.FENCED


class Misconfigured(PortError):
    """A person must fix it: an unknown name, a missing permission, a wrong query."""

    result = Result.MISCONFIGURED


class Clock(Protocol):
    """Source of time, in seconds since the Unix epoch."""

    def now(self) -> float: ...

    async def sleep_until(self, t: float) -> None:
        """Return when `now()` has reached `t`. A simulated clock runs its world until then."""

    def step_s(self) -> float:
        """Return the sum of the wall clock's jumps since this clock began, in seconds.

        It is nearly always 0. `now()` already contains it. A component that remembers times keeps the last value, and
        shifts its times by the difference. Example: after jumps of +10 s and -4 s it is 6; a component that applied the
        10 shifts by -4.
        """


class Source(Protocol):
    """Adapter that reads metrics. One call reads all its quantities."""

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return each quantity with the time of its measurement, or `Absent` with the reason.

        Raises `Unavailable` or `Misconfigured` where no quantity can be read.
        """


@runtime_checkable
class PastSource(Protocol):
    """A source that can also read its quantities over a past period."""

    async def past(
        self, quantities: Collection[str], since: float, until: float, step_s: float
    ) -> Mapping[str, NDArray[np.float64]]:
        """Return each quantity's mean in every whole step from `since` to `until`.

        The times are Unix times. The result has the oldest first. A step is NaN where any part of it is missing:
        missing is not zero. Raises `Unavailable` or `Misconfigured`.
        """


class Actuator(Protocol):
    """Adapter that resizes a pool."""

    async def status(self) -> Fresh[PoolStatus]:
        """Return the pool's status as the platform reports it.

        Raises `Unavailable` or `Misconfigured`.
        """

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Request `replicas` if the pool's status still is the `observed` one.

        Idempotent; returns on acceptance.

        An accepted write is not capacity. Raises any of the port errors.
        """


class RouteActuator(Protocol):
    """Adapter that splits a workload's requests among backends."""

    async def status(self) -> Fresh[RouteStatus]:
        """Return the applied weights, and the requests to each backend since the last call.

        Raises `Unavailable` or `Misconfigured`.
        """

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        """Write a split if the route still is in the `observed` state.

        Idempotent; returns on acceptance. Raises any of the port errors.
        """


@runtime_checkable
class Finishing(Protocol):
    """An actuator that carries out a smaller size over several ticks.

    An example is one that drains replicas first.
    """

    def unfinished(self) -> bool:
        """Return whether its reported size must be written again to continue.

        The actuator decides by its last status.
        """


@runtime_checkable
class Publishing(Protocol):
    """An actuator that never writes.

    Another autoscaler reads the decided size and applies it.
    """

    def partner(self) -> str | None:
        """Return the other autoscaler at the last status, such as ``HPA chat``; None if unknown."""


@dataclass(frozen=True, slots=True)
class Permit:
    """An action that an adapter needs, and whether it is granted.

    The check does not perform the action. `granted` is None where unknown.
    """

    action: str
    granted: bool | None
    detail: str = ""


@runtime_checkable
class Permitted(Protocol):
    """An adapter that can check whether the actions that it needs are permitted.

    The check does not write.
    """

    async def permits(self) -> Sequence[Permit]:
        """Return a permit for each action. Raises port errors where none can be checked."""


@runtime_checkable
class ScaleOutChecked(Protocol):
    """An actuator that can check without a write whether a scale-out would be refused."""

    async def scale_out_refusals(self) -> Sequence[str]:
        """Return each reason with its remedy; none if a scale-out is possible. Raises port errors."""


class Context(Protocol):
    """The daemon's resources and the workload's settings that an adapter is opened with."""

    @property
    def clock(self) -> Clock: ...
    @property
    def deadline_s(self) -> float:
        """Maximum time of one read or write. Seconds."""

    @property
    def slo_limits_s(self) -> Mapping[str, float]:
        """The workload's limit for each latency of its SLO; a slower request violates it. Seconds."""

    @property
    def calls(self) -> Calls:
        """Budgets and counts of calls to cloud APIs, shared by all workloads."""

    @property
    def tasks(self) -> Tasks:
        """Starter of supervised background tasks.

        Their failures are reported, and they are restarted.
        """

    @property
    def wakeup(self) -> Wakeup:
        """Event by which an adapter requests a tick at once, as on an interruption notice."""

    async def shared(self, key: object, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the resource under `key`, opened on first use.

        All adapters share it until the daemon ends.
        """


class SourceSpec(Protocol):
    """Configuration record of a kind of source: a frozen dataclass."""

    def quantities(self) -> Mapping[str, float]:
        """Return the source's quantities, each with the age from which it is stale. Seconds."""
