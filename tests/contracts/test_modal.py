"""Contract of Modal functions, by Modal's SDK over gRPC against a server of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.modal import ModalFunction, ModalTokens
from scaler.config.secret import Secret
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.servers.modal_api import TOKEN, DeployedFunction, Modal, modal_api

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


class TestModal(ActuatorContract):
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("MODAL_MAX_THROTTLE_WAIT", "0")
        monkeypatch.setenv("TEST_MODAL_ID", TOKEN[0])
        monkeypatch.setenv("TEST_MODAL_SECRET", TOKEN[1])

    def rig(self) -> AbstractAsyncContextManager[ModalRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ModalRig]:
        async with modal_api() as (workspace, address):
            self.monkeypatch.setenv("MODAL_SERVER_URL", address)
            yield ModalRig(workspace)
