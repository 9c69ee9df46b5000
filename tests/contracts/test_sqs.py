"""Source contract of SQS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scaler.adapters import open_source
from scaler.clouds.aws.account import AwsAccount
from scaler.config.kinds.aws_sources import Sqs
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.fronted import CUT_AFTER
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_fault import FORBIDDEN, THROTTLES, Fault, Front, attributes, front
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class SqsRig(SourceRig):
    """A queue behind a front that refuses with AWS's errors, behind a TCP proxy."""

    quantity = "visible"

    def __init__(self, cloud: Aws, aws_front: Front, wire: TcpProxy, queue: str, faults: dict[str, Fault]) -> None:
        self._aws = cloud
        self._front = aws_front
        self._wire = wire
        self._queue = queue
        self._faults = faults

    async def open(self, context: AdapterContext) -> Source:
        account = AwsAccount(region=REGION, endpoint_url=f"http://127.0.0.1:{self._wire.port}")
        return await open_source(Sqs(queue_url=self._queue, account=account), context)

    async def answer(self, value: float) -> None:
        await self._aws.drain(self._queue)
        await self._aws.send(self._queue, int(value))

    async def garble(self) -> None:
        self._front.faults["sqs"] = self._faults["garble"]

    async def throttle(self) -> None:
        self._front.faults["sqs"] = self._faults["throttle"]

    async def forbid(self) -> None:
        self._front.faults["sqs"] = self._faults["forbid"]

    async def hang(self) -> None:
        self._wire.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self._wire.fault = ProxyFault.RESET
        self._wire.tear_down()

    async def cut_short(self) -> bool:
        self._wire.fault, self._wire.cut_after = ProxyFault.CUT, CUT_AFTER
        return True

    async def empty(self) -> bool:
        self._front.faults["sqs"] = attributes()
        return True

    async def recover(self) -> None:
        self._wire.fault = ProxyFault.NONE
        self._front.faults.clear()


@asynccontextmanager
async def rig(faults: dict[str, Fault], rig_class: type[SqsRig] = SqsRig) -> AsyncIterator[SourceRig]:
    async with aws() as cloud, front(cloud.url) as aws_front:
        port = urlsplit(aws_front.url).port
        assert port is not None
        async with tcp_proxy("127.0.0.1", port) as wire:
            yield rig_class(cloud, aws_front, wire, await cloud.queue("prompts"), faults)


class TestSqs(SourceContract):
    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return rig(
            {
                "garble": attributes(ApproximateNumberOfMessages="many"),
                "throttle": THROTTLES["bare"],
                "forbid": FORBIDDEN["json"],
            }
        )
