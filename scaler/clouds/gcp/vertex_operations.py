"""Operations of a Vertex AI endpoint: the lock of its deployed models.

An endpoint runs one operation at a time, of all its clients. This process follows its own operations by their size. The
other ones are of another client, or of this daemon before a restart. They name neither their deployed model nor its
size, so they are followed only as the lock, and for the reason of their failure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.gcp import errors, session
from scaler.clouds.gcp.operations import GIVE_UP_S, REPORT_S
from scaler.clouds.response_validation import list_of, validated
from scaler.clouds.rest import Body
from scaler.clouds.singleflight import Singleflight
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Conflict, Misconfigured

FOLLOW: Final = "aiplatform.operations.list"
PAGES: Final = 10
"""Maximum pages of an endpoint's operations."""
MUTATION: Final = "MutateDeployedModelOperationMetadata"
"""Type of the metadata of an operation that resizes a deployed model."""
REMEMBERED: Final = 100
"""Number of this process's last operations whose names are remembered."""


@dataclass(frozen=True, slots=True)
class LateFailure:
    """Why an operation of another process failed at `at` (seconds since the Unix epoch)."""

    failure: errors.GcpFailure
    at: float


class EndpointOperations:
    """The operations of one endpoint, at `path` of the API."""

    def __init__(self, reads: session.GcpService, clock: Clock, path: str) -> None:
        self._reads = reads
        self._clock = clock
        self._path = path
        self._name = path.rpartition("/")[2]
        self._flights = Singleflight()
        self._own: deque[str] = deque(maxlen=REMEMBERED)
        self._others: set[str] = set()
        """Operations in progress that this process did not begin."""
        self._adopted: set[str] = set()
        """Those of `_others` that were in progress at the first read."""
        self._failure: LateFailure | None = None
        self._is_read = False

    async def aclose(self) -> None:
        await self._flights.aclose()

    @property
    def is_adopting(self) -> bool:
        """Whether an operation is in progress that this daemon may have begun before a restart."""
        return bool(self._adopted)

    @property
    def failure(self) -> LateFailure | None:
        """Why the last resize by another process failed, for `REPORT_S` seconds after its end."""
        failure = self._failure
        return failure if failure is not None and 0 <= self._clock.now() - failure.at < REPORT_S else None

    def forget_failure(self) -> None:
        self._failure = None

    def begin(self, name: str) -> None:
        """Count an operation as begun by this process."""
        self._own.append(name)
        self._others.discard(name)

    async def poll(self) -> None:
        """Read the operations where they may have news of other processes. Raises port errors."""
        if not self._is_read or self._others:
            self._observe(await self._list())

    async def check_free(self) -> Collection[str]:
        """Return the names of all operations, which ended.

        Raises `Conflict` while one is in progress.
        """
        operations = await self._list(urgent=True)
        self._observe(operations)
        if running := sorted(str(o["name"]).rpartition("/")[2] for o in operations if self._is_running(o)):
            began = "which this process did not begin, is still in progress; an endpoint runs one operation"
            raise Conflict(f"endpoint {self._name}: operation {running[0]}, {began}")
        return frozenset(str(o["name"]) for o in operations)

    async def begun_after(self, earlier: Collection[str]) -> Body | None:
        """Return the newest operation that is not among the `earlier` ones; None without one.

        Operations that are known from their write do not count. Raises port errors.
        """
        unknown = [o for o in await self._list() if o["name"] not in earlier and o["name"] not in self._own]
        return max(unknown, key=lambda o: _time(o, "createTime", float("-inf")), default=None)

    async def find(self, name: str) -> Body:
        """Return an operation. Raises port errors."""
        for operation in await self._list():
            if operation["name"] == name:
                return operation
        raise Misconfigured(f"GCP {FOLLOW} of {self._name}: operation {name} not found")

    def _observe(self, operations: Sequence[Body]) -> None:
        """Follow the operations of other processes: until they end, or failed and why."""
        running = {str(o["name"]) for o in operations if self._is_running(o) and o["name"] not in self._own}
        for operation in operations:
            name = str(operation["name"])
            if name not in self._own and (name in self._others or not self._is_read):
                self._note_failure(operation)
        self._adopted = running if not self._is_read else self._adopted & running
        self._others, self._is_read = running, True

    def _note_failure(self, operation: Body) -> None:
        error = operation.get("error")
        if not isinstance(error, Mapping) or MUTATION not in str(_metadata(operation).get("@type")):
            return
        ended_at = _time(operation, "updateTime", self._clock.now())
        if self._failure is None or ended_at >= self._failure.at:
            self._failure = LateFailure(errors.failure_of(error), ended_at)

    def _is_running(self, operation: Body) -> bool:
        now = self._clock.now()
        return operation.get("done") is not True and now - _time(operation, "createTime", now) < GIVE_UP_S

    async def _list(self, *, urgent: bool = False) -> list[Body]:
        """Return all operations. `urgent`: a write waits for them. Raises port errors."""
        return await self._flights.share(urgent, lambda: self._read(urgent=urgent))

    @validated("GCP")
    async def _read(self, *, urgent: bool) -> list[Body]:
        operations: list[Body] = []
        query = {"pageSize": "100"}
        about, path = f"GCP {FOLLOW} of {self._name}", f"/v1/{self._path}/operations"
        for _ in range(PAGES):
            body = await self._reads.call(FOLLOW, path, self._name, query=query, write=urgent, repeat=True)
            operations += list_of(about, {"operations": body.get("operations", [])}, "operations")
            if not body.get("nextPageToken"):
                break
            query = {**query, "pageToken": str(body["nextPageToken"])}
        return [o for o in operations if isinstance(o["name"], str)]


def _metadata(operation: Body) -> Mapping[str, Any]:
    metadata = operation.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _time(operation: Body, key: str, default: float) -> float:
    """Return a time of an operation's metadata in seconds since the Unix epoch."""
    generic = _metadata(operation).get("genericMetadata")
    return seconds_of(generic.get(key) if isinstance(generic, Mapping) else None, default)
