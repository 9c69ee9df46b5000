"""Cloud Run's API: the scaling of services and worker pools, and their instances.

Only the scaling of a resource is written, under the etag that was read. Its template, whose change would create a
revision, is never written. The API does not report how many instances run: Cloud Monitoring counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.gcp import errors, session, time_series
from scaler.clouds.gcp.errors import GcpFailure
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.time_series import Monitoring, TimeSeries
from scaler.clouds.response_validation import machine_count, one_line, validated
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Context, Unavailable

INSTANCES: Final = "run.googleapis.com/container/instance_count"
"""Metric of the instances by revision and state (active, idle). Sampled every 60 s, visible up to 120 s later."""
MAX_SAMPLE_AGE_S: Final = 300.0
"""Age up to which a sample counts: its interval, its delay, and one missing sample. Seconds."""
SAME_SAMPLE_S: Final = 30.0
"""Maximum difference of the times of one sample's series, half their interval. Seconds."""
READ_S: Final = 15.0
"""Time between two reads of the samples, a quarter of their interval. Seconds."""
TRANSIENT: Final = frozenset(
    {"IMMEDIATE_RETRY", "INTERNAL", "MIN_INSTANCES_WARMING", "POSTPONED_RETRY", "WAITING_FOR_OPERATION"}
)
"""Reasons of a failed condition that Cloud Run retries by itself."""
NOT_PROVISIONED: Final = "MIN_INSTANCES_NOT_PROVISIONED"
"""Reason of a failed condition where capacity or quota is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCollection:
    """A kind of resource: its name, path segment, permissions and Cloud Monitoring label."""

    noun: str
    segment: str
    read: str
    write: str
    label: str

    @property
    def permissions(self) -> tuple[str, ...]:
        """Permissions that a pool of this kind needs."""
        return (self.read, self.write, time_series.LIST)


SERVICES: Final = RunCollection(
    noun="service",
    segment="services",
    read="run.services.get",
    write="run.services.update",
    label="service_name",
)
WORKER_POOLS: Final = RunCollection(
    noun="worker pool",
    segment="workerPools",
    read="run.workerpools.get",
    write="run.workerpools.update",
    label="worker_pool_name",
)


@dataclass(frozen=True, slots=True)
class Scaling:
    """The scaling of a resource as it was at `at`."""

    at: float
    etag: str
    manual: int | None
    """The manual count; None with automatic scaling."""
    minimum: int
    maximum: int | None
    reconciling: bool
    modifier: str
    failure: GcpFailure | None
    """Why the last change failed; None where it did not, or where Cloud Run retries it."""
    failed_at: float
    accelerator: str


class RunResource:
    """One service or worker pool."""

    def __init__(self, run: session.GcpService, clock: Clock, collection: RunCollection, name: str) -> None:
        self._run = run
        self._clock = clock
        self._collection = collection
        self._name = name

    async def read(self, *, urgent: bool = False) -> Scaling:
        """Return the scaling. Raises port errors. `urgent`: a write waits for it."""
        requested_at, permission = self._clock.now(), self._collection.read
        body = await self._run.call(permission, f"/v2/{self._name}", self._short_name, write=urgent, repeat=True)
        return _scaling(f"GCP {permission} of {self._short_name}", body, requested_at)

    async def write(self, field: str, count: int, etag: str) -> None:
        """Set one count of the scaling under the `etag` that was read. Raises port errors."""
        await self._run.call(
            self._collection.write,
            f"/v2/{self._name}",
            self._short_name,
            method="PATCH",
            query={"updateMask": f"scaling.{field}"},
            body={"name": self._name, "etag": etag, "scaling": {field: count}},
            write=True,
        )

    @property
    def _short_name(self) -> str:
        return self._name.rpartition("/")[2]


class InstanceCount:
    """The number of a resource's instances by Cloud Monitoring."""

    def __init__(
        self, monitoring: Monitoring, clock: Clock, collection: RunCollection, location: str, name: str
    ) -> None:
        self._monitoring = monitoring
        self._clock = clock
        self._name = name
        self._filter = (
            f'metric.type = "{INSTANCES}" AND resource.labels.{collection.label} = "{name}"'
            f' AND resource.labels.location = "{location}"'
        )
        self._read_at = float("-inf")
        self._sample: tuple[float, int] | None = None

    async def newest(self) -> int | None:
        """Return the newest sample; None where it is older than `MAX_SAMPLE_AGE_S`.

        Raises port errors.
        """
        now = self._clock.now()
        if not 0 <= now - self._read_at < READ_S:
            self._sample = await self._read(now)
            self._read_at = now
        return self._sample[1] if self._sample and 0 <= now - self._sample[0] < MAX_SAMPLE_AGE_S else None

    @validated("GCP")
    async def _read(self, now: float) -> tuple[float, int] | None:
        about = f"instances of {self._name}"
        page = await self._monitoring.list(about, self._filter, now - MAX_SAMPLE_AGE_S, now)
        if page.partial:
            raise Unavailable(f"GCP {time_series.LIST} of {about}: partial response: {page.partial}")
        if not page.series:
            return None
        at = max(one.points[0].at for one in page.series)
        return at, sum(_instances(about, one) for one in page.series if at - one.points[0].at < SAME_SAMPLE_S)


def _instances(about: str, series: TimeSeries) -> int:
    return machine_count(f"GCP {time_series.LIST} of {about}", series.points[0].value, digits=True)


def _scaling(about: str, body: Mapping[str, Any], at: float) -> Scaling:
    scaling, template = body.get("scaling") or {}, body.get("template") or {}
    etag = body.get("etag")
    if not isinstance(etag, str) or not etag:
        raise Unavailable(f"{about}: malformed response: no etag")
    manual = _count(about, scaling, "manualInstanceCount")
    failure, failed_at = _failure(body.get("terminalCondition") or {}, at)
    return Scaling(
        at=at,
        etag=etag,
        manual=None if scaling.get("scalingMode") == "AUTOMATIC" else manual,
        minimum=_count(about, scaling, "minInstanceCount") or 0,
        maximum=_count(about, scaling, "maxInstanceCount") or None,
        reconciling=body.get("reconciling") is True or body.get("observedGeneration") != body.get("generation"),
        modifier=one_line(body.get("lastModifier", "")),
        failure=failure,
        failed_at=failed_at,
        accelerator=str((template.get("nodeSelector") or {}).get("accelerator", "")),
    )


def _count(about: str, scaling: Mapping[str, Any], key: str) -> int | None:
    return machine_count(f"{about}: {key}", scaling[key]) if key in scaling else None


def _failure(condition: Mapping[str, Any], at: float) -> tuple[GcpFailure | None, float]:
    """Return the failure of a condition, and its time."""
    reason = str(condition.get("revisionReason") or condition.get("reason") or "")
    if condition.get("state") != "CONDITION_FAILED" or reason in TRANSIENT:
        return None, at
    failure = errors.failure_of({"message": condition.get("message"), "reason": reason})
    if reason == NOT_PROVISIONED and not failure.is_shortfall:
        failure = GcpFailure(failure.codes | {"STOCKOUT"}, failure.message)
    return failure, seconds_of(condition.get("lastTransitionTime"), at)


async def resource(
    context: Context, project: GcpProject, collection: RunCollection, location: str, name: str
) -> tuple[RunResource, InstanceCount]:
    """Return the clients of a resource and of its number of instances. Raises `Misconfigured`."""
    run = await session.service(context, project, "run", location)
    monitoring = await time_series.monitoring(context, project)
    path = f"projects/{project.id}/locations/{location}/{collection.segment}/{name}"
    instances = InstanceCount(monitoring, context.clock, collection, location, name)
    return RunResource(run, context.clock, collection, path), instances
