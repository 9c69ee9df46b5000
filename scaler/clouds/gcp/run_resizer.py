"""The instances of a Cloud Run resource: the part that services and worker pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh, PoolStatus, Shortfall
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.gcp import pool_status, run, session
from scaler.clouds.gcp.run import MAX_SAMPLE_AGE_S, RunCollection, Scaling
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gcp_managed_pools import CloudRunPool
from scaler.ports import Conflict, Context, Misconfigured, Permit, Unavailable

MANUAL: Final = "manualInstanceCount"
MINIMUM: Final = "minInstanceCount"


@dataclass(frozen=True, slots=True)
class Sized:
    """A resource and the field that is its size. `remedy` is for the other scaling mode."""

    collection: RunCollection
    name: str
    field: str
    remedy: str


class RunResizer:
    """The actuator's port."""

    def __init__(
        self,
        spec: CloudRunPool,
        context: Context,
        sized: Sized,
        resource: run.RunResource,
        instances: run.InstanceCount,
    ) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._sized = sized
        self._resource = resource
        self._instances = instances
        self._name = f"Cloud Run {sized.collection.noun} {sized.name}"
        self._writes = ForeignWriteDetector(context.clock, spec.other_writer_yield_s, self._name)
        self._last_ready: int | None = None
        self._reports = pool_status.FirstReports()

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        scaling = await self._resource.read()
        desired = self._size(scaling)
        ready, missing = await self._ready(scaling, desired)
        shortfall = self._shortfall(scaling)
        failed = max(0, desired - ready) if shortfall is not None else 0
        status = PoolStatus(
            desired=desired,
            ready=ready,
            other_writer=self._writes.observe(desired, self._writer(scaling, desired)),
            version=scaling.etag,
            failed=failed,
            shortfall=shortfall if failed else None,
        )
        return Fresh(status, scaling.at, missing)

    @validated("GCP")
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        scaling = await self._resource.read(urgent=True)
        size = self._size(scaling)
        if size == replicas:
            return
        self._writes.check(size, observed.desired, self._writer(scaling, size))
        if scaling.reconciling and replicas > size:
            raise Conflict(f"{self._name}: Cloud Run is still applying the last change, to {size} instances")
        if self._sized.field == MINIMUM and scaling.maximum is not None and replicas > scaling.maximum:
            remedy = f"raise it, or set max_replicas: {scaling.maximum}"
            raise Misconfigured(f"{self._name}: its maximum is {scaling.maximum} instances, not {replicas}; {remedy}")
        self._writes.request(size, [replicas])
        with pool_status.pool_details(self._accelerator(scaling), self._spec.location, self._spec.market):
            await self._resource.write(self._sized.field, replicas, scaling.etag)
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await session.check_permissions(self._context, self._spec.project, self._sized.collection.permissions)

    def _size(self, scaling: Scaling) -> int:
        """Return the last requested size. Raises `Misconfigured` for the other scaling mode."""
        if (self._sized.field == MANUAL) != (scaling.manual is not None):
            mode = "automatic" if scaling.manual is None else "manual"
            raise Misconfigured(f"{self._name} has {mode} scaling; {self._sized.remedy}")
        return scaling.minimum if scaling.manual is None else scaling.manual

    async def _ready(self, scaling: Scaling, desired: int) -> tuple[int, str]:
        """Return the ready instances, and why they are a lower bound; empty where they are not.

        Raises `Unavailable` where the number is unknown. Example: after a scale-out from 2 to 5 the samples still count
        2. From 0 there is no sample for minutes, so that 0 is the last known number. If no instance can be provisioned,
        there is never one; the pool must be readable then, to give them back.
        """
        settled = scaling.manual is not None and not scaling.reconciling
        if settled and desired == 0:
            self._last_ready = 0
            return 0, ""
        count = await self._instances.newest()
        if count is not None:
            self._last_ready = min(count, desired) if settled else count
            return self._last_ready, ""
        reason = f"Cloud Monitoring has no sample of {run.INSTANCES} in the last {MAX_SAMPLE_AGE_S:g} s"
        if desired == 0:
            return 0, reason
        if scaling.failure is not None and not scaling.reconciling:
            return min(self._last_ready or 0, desired), f"{reason}, and Cloud Run could not provision them"
        if self._last_ready is not None and 0 <= self._clock.now() - self._writes.raised_at < MAX_SAMPLE_AGE_S:
            return min(self._last_ready, desired), f"{reason}, and instances were added since"
        raise Unavailable(f"{self._name}: the ready instances are unknown: {reason}")

    def _writer(self, scaling: Scaling, size: int) -> str:
        return f"{scaling.modifier} set {self._name} to {size}" if scaling.modifier else ""

    def _accelerator(self, scaling: Scaling) -> str:
        return self._spec.accelerator or scaling.accelerator

    def _shortfall(self, scaling: Scaling) -> Shortfall | None:
        """Return why the last change failed, as far as Cloud Run does not retry it."""
        reason = "" if scaling.failure is None or scaling.reconciling else scaling.failure.message
        at = self._reports.first_at(reason, scaling.failed_at)
        if not reason or scaling.failure is None:
            return None
        place = (self._accelerator(scaling), self._spec.location, self._spec.market)
        return Shortfall(at, pool_status.placement(reason, *place), scaling.failure.is_quota)


async def open_resizer(spec: CloudRunPool, context: Context, sized: Sized) -> RunResizer:
    """Open a Cloud Run resource. Raises `Misconfigured`."""
    clients = await run.resource(context, spec.project, sized.collection, spec.location, sized.name)
    return RunResizer(spec, context, sized, *clients)
