"""Vertex AI: the replicas of a deployed model, set by its minimum and maximum.

A write begins an operation of minutes, and an endpoint runs one at a time. Missing capacity shows in three places: the
refusal of the write, the operation's error, and the deployed model's status after the operation succeeded in part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.gcp import errors, pool_status, session, vertex, vertex_operations
from scaler.clouds.gcp.vertex import DeployedModel, Endpoint
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gcp_managed_pools import VertexEndpoint
from scaler.ports import Conflict, Context, Misconfigured, Permit, PortError, Unavailable

PERMISSIONS: Final = (vertex.READ, vertex.WRITE, vertex_operations.FOLLOW)
"""Permissions that the pool needs."""


async def open_vertex_endpoint(
    spec: VertexEndpoint, context: Context, workload: WorkloadName, pool: PoolName
) -> VertexEndpointResizer:
    """Open a model deployed to a Vertex AI endpoint. Raises `Misconfigured`."""
    endpoint = await vertex.endpoint(context, spec.project, spec.location, spec.endpoint)
    return VertexEndpointResizer(spec, context, endpoint, f"{workload}/{pool}")


class VertexEndpointResizer:
    """The actuator's port. `pool` names it in the queue of its endpoint."""

    def __init__(self, spec: VertexEndpoint, context: Context, endpoint: Endpoint, pool: str) -> None:
        self._spec = spec
        self._pool = pool
        self._asked = False
        self._context = context
        self._endpoint = endpoint
        self._operation = endpoint.follower(spec.deployed_model)
        self._writes = ForeignWriteDetector(context.clock, spec.other_writer_yield_s, f"Vertex AI {self._name}")
        self._unanswered: tuple[int, Collection[str]] | None = None
        """Size of a write without a response, which was applied or not, and the operations before it."""
        self._is_adopting = False
        self._is_autoscaled = False
        self._reports = pool_status.FirstReports()

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        await self._read_back()
        await self._endpoint.poll()
        if not self._asked:
            self._endpoint.queue.withdraw(self._pool)
        self._asked = False
        was_adopting, self._is_adopting = self._is_adopting, self._endpoint.operations.is_adopting
        model = await self._model()
        if model.ready is None:
            raise Unavailable(f"GCP {vertex.READ} of {self._name}: the ready replicas are unknown: it has no status")
        size, shortfall = self._size(model), self._shortfall(model)
        requested, failure = self._operation.requested, self._operation.failure
        if requested is not None:
            desired = requested
        elif failure is not None and failure.failure.is_shortfall:
            desired = max(size, failure.requested)
        else:
            desired = size
        self._is_autoscaled = model.is_autoscaled
        is_expected = was_adopting or self._is_adopting  # its size may be this daemon's, from before a restart
        is_native = model.is_autoscaled and self._spec.native != "floor"
        other_writer = self._writes.observe(size, named=is_expected or is_native)
        status = PoolStatus(
            desired=desired,
            ready=model.ready,
            other_writer=self._refusal(model) or other_writer,
            version=model.bounds,
            failed=max(0, desired - model.ready) if shortfall is not None else 0,
            shortfall=shortfall if desired > model.ready else None,
        )
        return Fresh(status, model.at)

    @validated("GCP")
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self._asked = True
        async with self._endpoint.queue.turn(self._pool):
            await self._read_back()
            earlier = await self._endpoint.check_free()
            model = await self._model(urgent=True)
            if refusal := self._refusal(model):
                raise Misconfigured(f"{self._name}: {refusal}")
            if model.bounds != observed.version:
                change = f"from {observed.version} to {model.bounds} replicas"
                raise Conflict(f"{self._name} changed {change}: another writer set it")
            self._raise_late_failure(replicas)
            self._raise_adopted_failure(model, replicas)
            fields = self._fields(model, replicas)
            if not fields:
                self._operation.forget()  # the replicas that an operation failed to add are abandoned
                return
            self._writes.request(self._size(model), [replicas])
            await self._write(model, replicas, fields, earlier)

    def unfinished(self) -> bool:
        """Return whether Vertex AI's autoscaler, which is to be taken over, still sizes the model."""
        return self._spec.native == "take_over" and self._is_autoscaled

    @validated("GCP")
    async def scale_out_refusals(self) -> Sequence[str]:
        model = await self._model()
        most = self._spec.max_replicas
        if self._spec.native == "floor" and most is not None and most > model.maximum:
            return [f"{self._name}: {_beyond_maximum(model, most)}"]
        refusal = self._refusal(model)
        return [f"{self._name}: {refusal}"] if refusal else []

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await session.check_permissions(self._context, self._spec.project, PERMISSIONS)

    @property
    def _name(self) -> str:
        return f"deployed model {self._spec.deployed_model} of endpoint {self._spec.endpoint}"

    async def _model(self, *, urgent: bool = False) -> DeployedModel:
        spec = self._spec
        model = await self._endpoint.model(spec.deployed_model, preview=spec.scale_to_zero, urgent=urgent)
        if model.spot != (spec.market == "spot"):
            bought = "spot" if model.spot else "not spot"
            raise Misconfigured(f"{self._name}: market must not be {spec.market}: its machines are {bought}")
        return model

    def _size(self, model: DeployedModel) -> int:
        """Return the last requested size.

        Where the autoscaler chooses it, that is the number of ready replicas. Example: 3 ready within 1 to 4 is 3.
        """
        if self._spec.native == "floor" or not model.is_autoscaled:
            return model.minimum
        return min(max(model.ready or 0, model.minimum), model.maximum)

    def _refusal(self, model: DeployedModel) -> str | None:
        """Return why the autoscaler forbids a resize; None where it does not."""
        if self._spec.native != "refuse" or not model.is_autoscaled:
            return None
        return (
            f"Vertex AI's autoscaler sizes it ({model.bounds} replicas); set native: take_over or native: floor, or set"
            " its maxReplicaCount to its minReplicaCount"
        )

    def _fields(self, model: DeployedModel, replicas: int) -> dict[str, Any]:
        """Return the fields to write for a size; empty where the model has it.

        Raises `Misconfigured`. The operation succeeds once one replica is available, so that a part of a scale-out
        serves while the rest is out of stock.
        """
        if replicas == 0 and not (self._spec.scale_to_zero and model.may_be_zero):
            remedy = "deploy it with a scaleToZeroSpec and set scale_to_zero: true, or set min_replicas: 1"
            raise Misconfigured(f"{self._name}: 0 replicas are not possible: {remedy}")
        if self._spec.native == "floor":
            if replicas > model.maximum:
                raise Misconfigured(f"{self._name}: {_beyond_maximum(model, replicas)}")
            return {"minReplicaCount": replicas} if replicas != model.minimum else {}
        maximum = max(1, replicas)
        if (model.minimum, model.maximum) == (replicas, maximum):
            return {}
        fields = {"minReplicaCount": replicas, "maxReplicaCount": maximum}
        return {**fields, "requiredReplicaCount": 1} if replicas else fields

    async def _write(
        self, model: DeployedModel, replicas: int, fields: dict[str, Any], earlier: Collection[str]
    ) -> None:
        kind = self._spec.accelerator or model.accelerator
        self._unanswered = (replicas, earlier)
        try:
            with pool_status.pool_details(kind, self._spec.location, self._spec.market):
                operation = await self._endpoint.mutate(
                    self._spec.deployed_model, fields, preview=self._spec.scale_to_zero
                )
        except PortError as e:
            if type(e) is not Unavailable:
                self._unanswered = None
            raise
        self._unanswered = None
        self._operation.begin(replicas, operation)
        self._writes.confirm(replicas)

    async def _read_back(self) -> None:
        """Follow the operation of a write whose response was lost, if it began.

        Raises port errors.
        """
        if self._unanswered is None:
            return
        replicas, earlier = self._unanswered
        operation = await self._endpoint.operations.begun_after(earlier)
        self._unanswered = None
        if operation is not None:
            self._endpoint.operations.begin(str(operation["name"]))
            self._operation.begin(replicas, operation)

    def _raise_late_failure(self, replicas: int) -> None:
        """Raise why the operation for this size failed late.

        Capacity and quota are in the status instead. The error is raised once where a retry may help.
        """
        failure = self._operation.failure
        if failure is None or failure.failure.is_shortfall or failure.requested != replicas:
            return
        error = errors.port_error(f"{vertex.WRITE} of {self._name} to {replicas} replicas", failure.failure)
        if not isinstance(error, Misconfigured):
            self._operation.forget()
        raise error

    def _raise_adopted_failure(self, model: DeployedModel, replicas: int) -> None:
        """Raise once why the resize by another process failed, as by this daemon before a restart.

        It was for this model only where the endpoint has no other one. A scale-in needs nothing that was missing.
        """
        operations = self._endpoint.operations
        failure = operations.failure
        if failure is None or not model.is_alone or replicas <= self._size(model):
            return
        operations.forget_failure()
        kind = self._spec.accelerator or model.accelerator
        with pool_status.pool_details(kind, self._spec.location, self._spec.market):
            raise errors.port_error(f"{vertex.WRITE} of {self._name} by another process", failure.failure)

    def _shortfall(self, model: DeployedModel) -> Shortfall | None:
        """Return why replicas are missing.

        It is the failed operation's reason, or else the deployed model's message.
        """
        failed = self._operation.failure
        shortfall = failed.shortfall if failed is not None else None
        first_at = self._reports.first_at(model.message, model.message_at)
        reported = errors.failure_of({"message": model.message})
        if shortfall is None and reported.is_shortfall and self._operation.requested is None:
            shortfall = reported.shortfall(first_at)
        if shortfall is None:
            return None
        kind = self._spec.accelerator or model.accelerator
        return replace(
            shortfall, reason=pool_status.placement(shortfall.reason, kind, self._spec.location, self._spec.market)
        )


def _beyond_maximum(model: DeployedModel, replicas: int) -> str:
    return (
        f"native: floor does not raise maxReplicaCount, which is {model.maximum}, and {replicas} replicas are more;"
        f" raise it, or set max_replicas: {model.maximum}"
    )
