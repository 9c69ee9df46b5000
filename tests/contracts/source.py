"""Contract of every source."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from policies.model import Absent, Fresh
from scaler.clock import SystemClock
from scaler.ports import Clock, Misconfigured, PortError, Source, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S

HANG_S = 2.0
"""Deadline of a read of a server that does not respond. Seconds."""
within_hang_s = pytest.mark.parametrize("deadline_s", [HANG_S])
"""Mark of tests in which a read without a response is a valid result."""


class SourceRig(ABC):
    """A source on a server that the suite can put into any state. Faults last until `recover`."""

    quantity: ClassVar[str]
    """Quantity that `answer` sets."""

    @abstractmethod
    async def open(self, context: AdapterContext) -> Source: ...
    @abstractmethod
    async def answer(self, value: float) -> None:
        """Set the quantity to `value`; return when the server reports it."""

    @abstractmethod
    async def garble(self) -> None:
        """Respond with an invalid measurement: wrong types, NaN, half a body."""

    @abstractmethod
    async def hang(self) -> None:
        """Accept requests and never respond."""

    @abstractmethod
    async def refuse(self) -> None:
        """Reset or refuse connections."""

    @abstractmethod
    async def throttle(self) -> None:
        """Respond that there were too many requests."""

    @abstractmethod
    async def forbid(self) -> None:
        """Respond that permission or the resource is missing, which a human must fix."""

    async def cut_short(self) -> bool:
        """Truncate responses. False where the rig cannot do that."""
        return False

    async def empty(self) -> bool:
        """Respond with a valid but empty body: no series, no page. False where there is no such response."""
        return False

    async def skew(self, ahead_s: float) -> bool:
        """Set the server's clock ahead by this much. False where its responses carry no times."""
        return False

    @abstractmethod
    async def recover(self) -> None:
        """End every fault."""


class SourceContract(ABC):
    """Subclass it as ``TestMySource``, with `rig`."""

    @abstractmethod
    def rig(self) -> AbstractAsyncContextManager[SourceRig]: ...

    def clock(self) -> Clock:
        return SystemClock()

    @pytest.fixture
    def deadline_s(self) -> float:
        return DEADLINE_S

    @pytest.fixture
    async def opened(self, deadline_s: float) -> AsyncIterator[tuple[SourceRig, Source]]:
        async with self.rig() as rig, Resources() as resources:
            yield rig, await rig.open(AdapterContext(resources, self.clock(), deadline_s))

    async def test_measured_value_is_fresh(self, opened: tuple[SourceRig, Source]) -> None:
        rig, source = opened
        await rig.answer(7)
        reading = (await source.sample())[rig.quantity]
        assert isinstance(reading, Fresh)
        assert reading.value == 7
        assert abs(reading.measured_at - self.clock().now()) < 120

    async def test_measured_zero_is_zero(self, opened: tuple[SourceRig, Source]) -> None:
        rig, source = opened
        await rig.answer(0)
        reading = (await source.sample())[rig.quantity]
        assert isinstance(reading, Fresh)
        assert reading.value == 0

    @within_hang_s
    async def test_malformed_response_is_never_a_value(self, opened: tuple[SourceRig, Source]) -> None:
        rig, source = opened
        await rig.answer(7)
        await rig.garble()
        assert isinstance(await _reading_or_error(rig, source), Absent | Unavailable | Misconfigured)

    @within_hang_s
    async def test_hanging_server_ends_at_the_deadline(self, opened: tuple[SourceRig, Source]) -> None:
        rig, source = opened
        await rig.hang()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises((TimeoutError, Unavailable)):
                async with asyncio.timeout(HANG_S):
                    await source.sample()

    @within_hang_s
    @pytest.mark.parametrize("fault", ["refuse", "throttle"])
    async def test_transient_fault_is_unavailable(self, opened: tuple[SourceRig, Source], fault: str) -> None:
        rig, source = opened
        await rig.answer(7)
        await getattr(rig, fault)()
        assert isinstance(await _reading_or_error(rig, source), Unavailable)

    async def test_a_permanent_error_is_misconfigured(self, opened: tuple[SourceRig, Source]) -> None:
        rig, source = opened
        await rig.forbid()
        assert isinstance(await _reading_or_error(rig, source), Misconfigured)

    @within_hang_s
    @pytest.mark.parametrize("fault", ["cut_short", "empty"])
    async def test_empty_or_truncated_response_is_never_a_value(
        self, opened: tuple[SourceRig, Source], fault: str
    ) -> None:
        rig, source = opened
        await rig.answer(7)
        if not await getattr(rig, fault)():
            pytest.skip(f"the rig has no such fault: {fault}")
        assert isinstance(await _reading_or_error(rig, source), Absent | Unavailable | Misconfigured)

    async def test_sample_has_the_time_of_the_server(self, opened: tuple[SourceRig, Source]) -> None:
        """The controller rejects samples ahead of its clock; the adapter must not hide them."""
        rig, source = opened
        if not await rig.skew(600.0):
            pytest.skip("the server's answers carry no times")
        await rig.answer(7)
        reading = await _reading_or_error(rig, source)
        ahead_s = reading.measured_at - self.clock().now() if isinstance(reading, Fresh) else None
        assert ahead_s is None or ahead_s > 60

    @within_hang_s
    @pytest.mark.parametrize("fault", ["garble", "hang", "refuse", "throttle", "forbid"])
    async def test_source_is_read_after_a_fault_ends(self, opened: tuple[SourceRig, Source], fault: str) -> None:
        rig, source = opened
        await rig.answer(7)
        await getattr(rig, fault)()
        await _reading_or_error(rig, source)
        await rig.recover()
        await rig.answer(3)
        for _ in range(40):  # a throttle pauses reads for 5 s; the first reads may still use a broken connection
            reading = await _reading_or_error(rig, source)
            if isinstance(reading, Fresh):
                break
            await asyncio.sleep(0.2)
        assert isinstance(reading, Fresh), reading
        assert reading.value == 3


async def _reading_or_error(rig: SourceRig, source: Source) -> Fresh[float] | Absent | PortError:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return (await source.sample())[rig.quantity]
    except TimeoutError:
        return Unavailable("no answer within the deadline")
    except PortError as e:
        return e
