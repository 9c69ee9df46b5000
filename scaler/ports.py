"""The daemon's ports, and the errors that cross them, typed by remedy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, runtime_checkable

import numpy as np

from policies.model import Absent, Fresh, PoolStatus
from scaler.clouds.api_budget import Calls
from scaler.masking import mask
from scaler.supervised_tasks import Tasks
from scaler.wakeup import Wakeup

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


MAX_MESSAGE: Final = 2_000
"""Characters of an error: it stands in the journal and in the log at every tick, and other systems' words are in it."""


class PortError(Exception):
    """Something behind a port went wrong; the subclass says what helps.

    The message is masked, cut at `MAX_MESSAGE` and can be written as UTF-8, whatever another system said.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(mask(message[: 4 * MAX_MESSAGE])[:MAX_MESSAGE].encode(errors="replace").decode())


class Unavailable(PortError):
    """No answer, or none of use, this time. The next turn is the retry."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Throttled(Unavailable):
    """We ask more than is granted. Polling gives way first; writes that add capacity do not."""


class OutOfCapacity(PortError):
    """The platform has none of this kind now. Remember it, and spend elsewhere."""


class OutOfQuota(PortError):
    """A limit of the account forbids more of this kind. Spend elsewhere, and retry within minutes to an hour."""


class Conflict(PortError):
    """Somebody else wrote since we looked. Look again before writing."""


class Misconfigured(PortError):
    """A human must mend it: a name that does not exist, a permission that is missing, a query that is wrong."""


class Clock(Protocol):
    """The only source of time. Seconds since the Unix epoch."""

    def now(self) -> float: ...

    async def sleep_until(self, t: float) -> None:
        """Return when `now()` has reached `t`. In a simulation, to sleep is to let the world run."""

    def step_s(self) -> float:
        """By how much the wall clock has jumped in all since this clock began, already contained in `now()`; 0 nearly
        always. Whoever remembers times compares it with what was told before, and so learns of each jump once."""


class Source(Protocol):
    """Where readings come from. One call reads all that it offers."""

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return the quantities and when each was measured; one that cannot be told is `Absent` with the reason.

        Raises `Unavailable` or `Misconfigured` when nothing can be told.
        """


@runtime_checkable
class PastSource(Protocol):
    """A source that can also tell what it would have told."""

    async def past(
        self, quantities: Collection[str], since: float, until: float, step_s: float
    ) -> Mapping[str, NDArray[np.float64]]:
        """Each quantity's mean in every whole step from `since` until `until`, oldest first; NaN where it is not known.

        Missing is not zero: a step of which a part is missing is not known. Raises `Unavailable` or `Misconfigured`.
        """


class Actuator(Protocol):
    """What is resized."""

    async def status(self) -> Fresh[PoolStatus]:
        """Return the size as the platform tells it. Raises `Unavailable` or `Misconfigured`."""

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        """Ask for `replicas`, given that the state is still the one `seen`. Idempotent; returns when accepted.

        An accepted write is not capacity. Raises any of the port errors.
        """


@runtime_checkable
class Finishing(Protocol):
    """An actuator that carries a smaller size out over several turns, as where replicas are drained first."""

    def unfinished(self) -> bool:
        """Whether, by its last status, it wants to be told the size it tells already, so as to go on with it."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Whether one action that an adapter needs is granted, found out without doing it; None where that is not known."""

    action: str
    granted: bool | None
    detail: str = ""


@runtime_checkable
class Permitted(Protocol):
    """An adapter that can tell, without writing, whether all that it may have to do is permitted."""

    async def permits(self) -> Sequence[Permit]:
        """Return each action with what is known of it. Raises port errors where nothing can be asked."""


class Context(Protocol):
    """What an adapter is opened with."""

    @property
    def clock(self) -> Clock: ...
    @property
    def deadline_s(self) -> float:
        """The longest one read or write may take."""

    @property
    def promised_s(self) -> Mapping[str, float]:
        """What the workload promises of each latency, by the promise's name: what is beyond it is late."""

    @property
    def calls(self) -> Calls:
        """The budgets and counts of calls to clouds, shared by all workloads."""

    @property
    def tasks(self) -> Tasks:
        """Starts background tasks that are restarted where they fail, and whose failures are reported."""

    @property
    def wakeup(self) -> Wakeup:
        """Rung by an adapter that learns what should not wait for the next turn, such as an interruption's notice."""

    async def shared(self, key: object, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the resource under `key`, opened on first use and shared by all adapters until the daemon ends."""


class SourceSpec(Protocol):
    """Parameters of a kind of source: a frozen dataclass."""

    def quantities(self) -> Mapping[str, float]:
        """Return what it offers, and how old each quantity may be before it is stale. Seconds."""
