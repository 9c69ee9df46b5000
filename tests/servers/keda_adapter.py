"""The part of KEDA that scales one ScaledObject by an external scaler. KEDA's operator has no package here.

It follows KEDA's source: `external_scaler.go` for the calls, `hpa.go` for the HPA, `scale_scaledobjects.go` for the
step between 0 and 1 replicas, and the metrics adapter, which serves the values as external metrics to the HPA
controller. It is strict: every metric of `GetMetricSpec` becomes a metric of the HPA, a failed call is an error for the
HPA and never a value, and the HPA controller alone writes the size, except for the step between 0 and 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import grpc
import grpc.aio
from aiohttp import web

from scaler.config.listen import ServerTls
from tests.servers.certificate import server_context
from tests.servers.keda import externalscaler_pb2 as pb
from tests.servers.keda import externalscaler_pb2_grpc as pb_grpc
from tests.servers.kube_real import KubeNamespace
from tests.servers.site import listening

ROOT: Final = "/apis/external.metrics.k8s.io/v1beta1"
HPAS: Final = "apis/autoscaling/v2beta2"
POLL_S: Final = 0.5
TRIGGER: Final = "s0-"
"""Prefix of the metrics of a ScaledObject's first trigger."""


class KedaAdapter:
    """One ScaledObject with one `external` trigger. `errors` are the messages of failed calls."""

    def __init__(self, where: KubeNamespace, stub: Any, name: str, metadata: dict[str, str]) -> None:
        self.errors: list[str] = []
        self.cooldown_s = 1.0
        self._where = where
        self._stub = stub
        self._name = name
        self._ref = pb.ScaledObjectRef(name=name, namespace=where.namespace, scalerMetadata=metadata)
        self._active_at = 0.0

    async def create_hpa(self, target: str, max_replicas: int) -> dict[str, Any]:
        """Create the HPA of the ScaledObject, from the metrics that the scaler specifies."""
        response = await self._stub.GetMetricSpec(self._ref)
        metrics = [self._metric(spec) for spec in response.metricSpecs]
        assert metrics, "KEDA creates no HPA without a metric"
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
        spec = {"scaleTargetRef": ref, "minReplicas": 1, "maxReplicas": max_replicas, "metrics": metrics}
        name = {"name": f"keda-hpa-{self._name}"}
        hpa = {"apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler", "metadata": name, "spec": spec}
        created: dict[str, Any] = await self._where.call(
            "POST", self._where.path("horizontalpodautoscalers", api=HPAS), hpa
        )
        return created

    def _metric(self, spec: Any) -> dict[str, Any]:
        milli = round(1000 * (spec.targetSizeFloat if spec.targetSizeFloat > 0 else spec.targetSize))
        selector = {"matchLabels": {"scaledobject.keda.sh/name": self._name}}
        metric = {"name": f"{TRIGGER}{spec.metricName}", "selector": selector}
        target = {"type": "AverageValue", "averageValue": f"{milli}m"}
        return {"type": "External", "external": {"metric": metric, "target": target}}

    async def follow_activity(self, target: str) -> None:
        """Scale from 0 to 1 while the scaler is active, and to 0 after the cooldown, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            active = await self._is_active()
            size = await self._where.size(target)
            if active:
                self._active_at = loop.time()
            if active and size == 0:
                await self._where.set_size(1, target)
            elif active is False and size > 0 and loop.time() > self._active_at + self.cooldown_s:
                await self._where.set_size(0, target)
            await asyncio.sleep(POLL_S)

    async def _is_active(self) -> bool | None:
        try:
            response = await self._stub.IsActive(self._ref)
        except grpc.aio.AioRpcError as e:
            self.errors.append(f"{e.code().name}: {e.details()}")
            return None
        return bool(response.result)

    def application(self) -> web.Application:
        """Return the metrics adapter's server."""
        app = web.Application()
        app.router.add_get(ROOT, self._resources)
        app.router.add_get(ROOT + "/namespaces/{namespace}/{metric}", self._values)
        return app

    async def _resources(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": ROOT.removeprefix("/apis/"),
                "resources": [],
            }
        )

    async def _values(self, request: web.Request) -> web.Response:
        name = request.match_info["metric"]
        assert request.query["labelSelector"] == f"scaledobject.keda.sh/name={self._name}"
        assert name.startswith(TRIGGER)
        query = pb.GetMetricsRequest(scaledObjectRef=self._ref, metricName=name.removeprefix(TRIGGER))
        try:
            response = await self._stub.GetMetrics(query)
        except grpc.aio.AioRpcError as e:
            self.errors.append(f"{e.code().name}: {e.details()}")
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": e.details(), "code": 500}
            return web.json_response(status, status=500)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        items = [
            {"metricName": name, "metricLabels": None, "timestamp": now, "value": _quantity(v)}
            for v in response.metricValues
        ]
        return web.json_response(
            {
                "kind": "ExternalMetricValueList",
                "apiVersion": ROOT.removeprefix("/apis/"),
                "metadata": {},
                "items": items,
            }
        )


def _quantity(value: Any) -> str:
    """Return a metric's value in thousandths, by KEDA's rule for the two fields."""
    number = value.metricValueFloat if value.metricValueFloat > 0 else value.metricValue
    return f"{round(1000 * number)}m"


@asynccontextmanager
async def keda_adapter(
    where: KubeNamespace, scaler_address: str, metadata: dict[str, str], pair: ServerTls, target: str
) -> AsyncIterator[tuple[KedaAdapter, int]]:
    """Run it for one ScaledObject; yield it with the port of its external metrics."""
    async with grpc.aio.insecure_channel(scaler_address) as channel:
        adapter = KedaAdapter(where, pb_grpc.ExternalScalerStub(channel), "llm", metadata)
        async with listening(adapter.application(), tls=server_context(pair)) as port:
            activity = asyncio.create_task(adapter.follow_activity(target))
            try:
                yield adapter, port
            finally:
                activity.cancel()
                await asyncio.gather(activity, return_exceptions=True)
