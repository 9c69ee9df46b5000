"""Source contract of CloudWatch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount
from scaler.config.kinds.aws_sources import CloudWatch, CloudWatchMetric
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.fronted import CUT_AFTER
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_fault import Front, front, metrics, refusal
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow

PERIOD_S = 30


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class CloudWatchRig(SourceRig):
    """A metric of a queue, behind a front that refuses with AWS's errors, behind a TCP proxy."""

    quantity = "waiting"

    def __init__(self, cloud: Aws, aws_front: Front, wire: TcpProxy) -> None:
        self._aws = cloud
        self._front = aws_front
        self._wire = wire
        self._ahead_s = 0.0

    async def open(self, context: AdapterContext) -> Source:
        account = AwsAccount(region=REGION, endpoint_url=f"http://127.0.0.1:{self._wire.port}")
        dimensions = {"QueueName": "prompts"}
        metric = CloudWatchMetric(
            namespace="AWS/SQS", metric="Waiting", dimensions=dimensions, stat="Maximum", period_s=PERIOD_S
        )
        return await open_source(CloudWatch(metrics={"waiting": metric}, account=account), context)

    async def answer(self, value: float) -> None:
        now = SystemClock().now() + self._ahead_s
        self._aws.forget_metrics()
        self._aws.metric("prompts", "Waiting", value, now - now % PERIOD_S - PERIOD_S)

    async def garble(self) -> None:
        self._front.faults["cloudwatch"] = metrics([{"Id": "q0", "Timestamps": ["now"], "Values": ["many"]}])

    async def throttle(self) -> None:
        self._front.faults["cloudwatch"] = refusal(
            400, "ThrottlingException", "Rate exceeded", headers={"Retry-After": "0.3"}
        )

    async def forbid(self) -> None:
        self._front.faults["cloudwatch"] = refusal(403, "AccessDenied", "not authorized: cloudwatch:GetMetricData")

    async def hang(self) -> None:
        self._wire.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self._wire.fault = ProxyFault.RESET
        self._wire.tear_down()

    async def cut_short(self) -> bool:
        self._wire.fault, self._wire.cut_after = ProxyFault.CUT, CUT_AFTER
        return True

    async def empty(self) -> bool:
        self._front.faults["cloudwatch"] = metrics([{"Id": "q0", "StatusCode": "Complete"}])
        return True

    async def skew(self, ahead_s: float) -> bool:
        self._ahead_s = ahead_s
        return True

    async def recover(self) -> None:
        self._wire.fault = ProxyFault.NONE
        self._front.faults.clear()


class TestCloudWatch(SourceContract):
    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        async with aws() as cloud, front(cloud.url) as aws_front:
            port = urlsplit(aws_front.url).port
            assert port is not None
            async with tcp_proxy("127.0.0.1", port) as wire:
                yield CloudWatchRig(cloud, aws_front, wire)
