"""Boundary around adapters for their unexpected exceptions.

It counts and logs each exception, and raises it as `Fault`.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from policies.model import WorkloadName
from scaler.ports import Clock, PortError, Unavailable
from scaler.supervised_tasks import summary
from scaler.telemetry.log import log

MAX_LOGGED: Final = 1000
"""Maximum number of different defects whose trace is logged. The counters have no limit."""


MAX_CALLS: Final = 1000
"""Maximum number of calls whose times are kept until a tick ends."""
Operation: TypeAlias = Literal["read", "resize", "inspect"]


class CallTime(NamedTuple):
    """When a call of an adapter began and ended. Unix times of the daemon's clock."""

    kind: str
    name: str
    operation: Operation
    began_s: float
    ended_s: float


class CallTimes:
    """The times of each workload's calls since its last tick, for traces."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: defaultdict[WorkloadName, deque[CallTime]] = defaultdict(lambda: deque(maxlen=MAX_CALLS))

    @contextlib.contextmanager
    def timing(self, workload: WorkloadName, kind: str, name: str, operation: Operation) -> Iterator[None]:
        """Keep the times of a call, whether it fails or not."""
        began_s = self._clock.now()
        try:
            yield
        finally:
            self._calls[workload].append(CallTime(kind, name, operation, began_s, self._clock.now()))

    def take(self, workload: WorkloadName) -> list[CallTime]:
        """Return the times of a workload's calls, and forget them."""
        return list(self._calls.pop(workload, ()))


class Fault(Unavailable):
    """An adapter raised an exception that is not a port error: a defect.

    Its result in this tick is unusable.
    """


class Faults:
    """Unexpected exceptions of one daemon.

    `counts` has the keys (workload, kind of adapter, adapter's name).
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[WorkloadName, str, str]] = Counter()
        self.core: Counter[WorkloadName] = Counter()
        """Ticks that failed by an exception outside any adapter."""
        self.times: CallTimes | None = None
        """Keeps the times of calls; None where no trace needs them."""
        self._logged: set[tuple[str, ...]] = set()

    @contextlib.contextmanager
    def boundary(
        self, workload: WorkloadName, kind: str, name: str, operation: Operation = "inspect"
    ) -> Iterator[None]:
        """Re-raise port errors and timeouts. Raises `Fault` for every other exception."""
        try:
            if self.times is None or operation == "inspect":
                yield
            else:
                with self.times.timing(workload, kind, name, operation):
                    yield
        except (PortError, TimeoutError):
            raise
        except Exception as e:  # the supervising boundary around adapters
            self.counts[workload, kind, name] += 1
            if self._is_first(e, workload, kind, name):
                log.error("adapter fault", workload=workload, **{kind: name}, **_trace(e))
            raise Fault(f"{summary(e)}: a bug in the {kind} adapter; the log has its traceback") from e

    def note_core(self, workload: WorkloadName, error: Exception) -> None:
        """Count a tick that failed by an exception outside any adapter, and log its trace once."""
        self.core[workload] += 1
        if self._is_first(error, workload, "core", ""):
            log.error("tick failed", workload=workload, **_trace(error))

    def forget(self, workload: WorkloadName) -> None:
        """Drop the counts of a workload that is no longer configured."""
        self.core.pop(workload, None)
        for key in [key for key in self.counts if key[0] == workload]:
            del self.counts[key]

    def _is_first(self, error: Exception, workload: WorkloadName, kind: str, name: str) -> bool:
        """Return whether the trace of a defect is to be logged, and remember the defect."""
        defect = (workload, kind, name, summary(error))
        if defect in self._logged or len(self._logged) >= MAX_LOGGED:
            return False
        self._logged.add(defect)
        return True


def _trace(error: Exception) -> dict[str, Any]:
    """Return the fields of a log line for a defect."""
    remedy = "report this bug with its traceback, which is logged once"
    return {"error": summary(error), "remedy": remedy, "exc_info": error}
