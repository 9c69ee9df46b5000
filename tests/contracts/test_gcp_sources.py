"""Source contract of Pub/Sub and Cloud Monitoring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.config.kinds.gcp_sources import CloudMonitoring, GcpMetric, PubSub
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.gcp import DENIED, THROTTLED, GcpFaults
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.gcp import PROJECT, Gcp, gcp
from tests.servers.gcp_compute import refusal

pytestmark = pytest.mark.slow

NAME = "prompts"
COUNT = "pubsub.googleapis.com/subscription/num_undelivered_messages_by_region"
DEPTH = "custom.googleapis.com/depth"


class MonitoringFaults(GcpFaults):
    """Base of both rigs, which read Cloud Monitoring."""

    ahead_s = 0.0

    def __init__(self, cloud: Gcp) -> None:
        self.cloud = cloud
        self._clock = SystemClock()

    async def garble(self) -> None:
        self.cloud.monitoring.garbled = "NaN"

    async def throttle(self) -> None:
        self.cloud.reads = refusal(*THROTTLED, retry_after_s=1)

    async def forbid(self) -> None:
        self.cloud.reads = refusal(*DENIED)

    async def empty(self) -> bool:
        self.cloud.monitoring.series.clear()
        return True

    async def skew(self, ahead_s: float) -> bool:
        self.ahead_s = ahead_s
        return True

    async def recover(self) -> None:
        await super().recover()
        self.cloud.monitoring.garbled = None

    def now(self) -> float:
        return self._clock.now() + self.ahead_s


class PubSubRig(MonitoringFaults, SourceRig):
    quantity = "visible"

    async def open(self, context: AdapterContext) -> Source:
        self.cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/{NAME}")
        return await open_source(PubSub(project=self.cloud.project(), subscription=NAME), context)

    async def answer(self, value: float) -> None:
        labels = {"region": "us-central1"}
        self.cloud.monitoring.record(COUNT, value, self.now(), labels=labels, subscription_id=NAME, project_id=PROJECT)


class CloudMonitoringRig(MonitoringFaults, SourceRig):
    quantity = "depth"

    async def open(self, context: AdapterContext) -> Source:
        metric = GcpMetric(filter=f'metric.type = "{DEPTH}" AND resource.labels.cluster_name = "serving"')
        return await open_source(CloudMonitoring(project=self.cloud.project(), metrics={"depth": metric}), context)

    async def answer(self, value: float) -> None:
        self.cloud.monitoring.series.clear()
        self.cloud.monitoring.record(DEPTH, value, self.now(), cluster_name="serving")


class GcpSourceContract(SourceContract):
    kind: type[PubSubRig] | type[CloudMonitoringRig]

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        async with gcp(self._tmp) as cloud:
            yield self.kind(cloud)


class TestPubSub(GcpSourceContract):
    kind = PubSubRig


class TestCloudMonitoring(GcpSourceContract):
    kind = CloudMonitoringRig
