"""Contracts of Modal functions and of their statistics, by Modal's SDK over gRPC against a server of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar, TypeVar

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool, open_source
from scaler.config.kinds.modal import ModalFunction, ModalStats, ModalTokens
from scaler.config.secret import Secret
from scaler.ports import Actuator, Source
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.modal_api import TOKEN, DeployedFunction, Modal, modal_api

RigT = TypeVar("RigT")
pytestmark = pytest.mark.slow
TOKENS = ModalTokens(token_id=Secret(env="TEST_MODAL_ID"), token_secret=Secret(env="TEST_MODAL_SECRET"))
WRITE, READ = "FunctionUpdateSchedulingParamsResponse", "FunctionGetSchedulingParamsResponse"


class ModalRig(ActuatorRig):
    """A function with a minimum of two containers that run."""

    def __init__(self, workspace: Modal) -> None:
        self.workspace = workspace
        self.function = workspace.add(DeployedFunction("llm", "generate", "fu-1", {"min_containers": 2}, running=2))

    async def open(self, context: AdapterContext) -> Actuator:
        spec = ModalFunction(app="llm", function="generate", tokens=TOKENS)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("modal"))

    async def size(self) -> int:
        return self.function.settings["min_containers"]

    async def set_size(self, replicas: int) -> None:
        self.function.settings["min_containers"] = replicas

    async def set_ready(self, replicas: int) -> None:
        self.function.running = replicas

    async def hang(self) -> None:
        self.workspace.fault = "hang"

    async def refuse(self) -> None:
        self.workspace.fault = "refuse"

    async def throttle(self) -> None:
        self.workspace.fault = "throttle"

    async def forbid(self) -> None:
        self.workspace.fault = "forbid"

    async def garble(self) -> None:
        self.workspace.codec.garbled = frozenset({WRITE})

    async def cut_short(self) -> bool:
        self.workspace.codec.garbled = frozenset({READ})
        return True

    async def lose_response(self) -> bool:
        self.workspace.fault = "lose"
        return True

    async def writes(self) -> int:
        return len(self.workspace.updates)

    async def recover(self) -> None:
        self.workspace.fault, self.workspace.codec.garbled = "", frozenset()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_MAX_THROTTLE_WAIT", "0")
    monkeypatch.setenv("TEST_MODAL_ID", TOKEN[0])
    monkeypatch.setenv("TEST_MODAL_SECRET", TOKEN[1])


class StatsRig(SourceRig):
    """The statistics of a function or server."""

    response: ClassVar[str]
    """Type of the message with the statistics."""

    def __init__(self, workspace: Modal) -> None:
        self.workspace = workspace
        self.function = workspace.add(DeployedFunction("llm", "generate", "fu-1"))

    async def garble(self) -> None:
        self.workspace.codec.garbled = frozenset({self.response})

    async def hang(self) -> None:
        self.workspace.reads_fault = "hang"

    async def refuse(self) -> None:
        self.workspace.reads_fault = "refuse"

    async def throttle(self) -> None:
        self.workspace.reads_fault = "throttle"

    async def forbid(self) -> None:
        self.workspace.reads_fault = "forbid"

    async def cut_short(self) -> bool:
        await self.garble()
        return True

    async def recover(self) -> None:
        self.workspace.reads_fault, self.workspace.codec.garbled = "", frozenset()


class FunctionStatsRig(StatsRig):
    quantity = "waiting"
    response = "FunctionStats"

    async def open(self, context: AdapterContext) -> Source:
        return await open_source(ModalStats(app="llm", function="generate", tokens=TOKENS), context)

    async def answer(self, value: float) -> None:
        self.function.backlog = int(value)


class ServerStatsRig(StatsRig):
    quantity = "requests_per_s"
    response = "ServerGetTimeRangeStatsResponse"

    async def open(self, context: AdapterContext) -> Source:
        return await open_source(ModalStats(app="llm", function="generate", of="server", tokens=TOKENS), context)

    async def answer(self, value: float) -> None:
        self.function.stats.request_rate_per_second = value


@asynccontextmanager
async def rig_of(kind: Callable[[Modal], RigT], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RigT]:
    """Yield a rig on a workspace of its own."""
    async with modal_api() as (workspace, address):
        monkeypatch.setenv("MODAL_SERVER_URL", address)
        yield kind(workspace)


class TestModal(ActuatorContract):
    @pytest.fixture(autouse=True)
    def _monkeypatch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def rig(self) -> AbstractAsyncContextManager[ModalRig]:
        return rig_of(ModalRig, self.monkeypatch)


class TestFunctionStats(SourceContract):
    kind: type[StatsRig] = FunctionStatsRig

    @pytest.fixture(autouse=True)
    def _monkeypatch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return rig_of(self.kind, self.monkeypatch)


class TestServerStats(TestFunctionStats):
    kind = ServerStatsRig
