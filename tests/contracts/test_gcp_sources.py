"""Pub/Sub and Cloud Monitoring keep the contract of every source."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.config.kinds.gcp_sources import CloudMonitoring, GcpMetric, PubSub
from scaler.ports import Source
from scaler.shared_resources import Opening
from tests.contracts.gcp import DENIED, THROTTLED, GcpFaults
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.gcp import PROJECT, Gcp, gcp
from tests.servers.gcp_compute import refusal

pytestmark = pytest.mark.slow

NAME = "prompts"
COUNT = "pubsub.googleapis.com/subscription/num_undelivered_messages_by_region"
DEPTH = "custom.googleapis.com/depth"


class MonitoringFaults(GcpFaults):
    """What both have in common: Cloud Monitoring before them."""

    ahead_s = 0.0

    def __init__(self, there: Gcp) -> None:
        self.there = there
        self._clock = SystemClock()

    async def garble(self) -> None:
        self.there.monitoring.garbled = "NaN"

    async def throttle(self) -> None:
        self.there.reads = refusal(*THROTTLED, retry_after_s=1)

    async def forbid(self) -> None:
        self.there.reads = refusal(*DENIED)

    async def empty(self) -> bool:
        self.there.monitoring.series.clear()
        return True

    async def skew(self, ahead_s: float) -> bool:
        self.ahead_s = ahead_s
        return True

    async def recover(self) -> None:
        await super().recover()
        self.there.monitoring.garbled = None

    def now(self) -> float:
        return self._clock.now() + self.ahead_s


class PubSubRig(MonitoringFaults, SourceRig):
    quantity = "visible"

    async def open(self, context: Opening) -> Source:
        self.there.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/{NAME}")
        return await open_source(PubSub(project=self.there.project(), subscription=NAME), context)

    async def answer(self, value: float) -> None:
        labels = {"region": "us-central1"}
        self.there.monitoring.tell(COUNT, value, self.now(), labels=labels, subscription_id=NAME, project_id=PROJECT)


class CloudMonitoringRig(MonitoringFaults, SourceRig):
    quantity = "depth"

    async def open(self, context: Opening) -> Source:
        metric = GcpMetric(filter=f'metric.type = "{DEPTH}" AND resource.labels.cluster_name = "serving"')
        return await open_source(CloudMonitoring(project=self.there.project(), metrics={"depth": metric}), context)

    async def answer(self, value: float) -> None:
        self.there.monitoring.series.clear()
        self.there.monitoring.tell(DEPTH, value, self.now(), cluster_name="serving")


class GcpSourceContract(SourceContract):
    kind: type[PubSubRig] | type[CloudMonitoringRig]

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        async with gcp(self._tmp) as there:
            yield self.kind(there)


class TestPubSub(GcpSourceContract):
    kind = PubSubRig


class TestCloudMonitoring(GcpSourceContract):
    kind = CloudMonitoringRig
