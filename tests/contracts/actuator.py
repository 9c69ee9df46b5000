"""Contract of every actuator."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from policies.model import Fresh, PoolStatus
from scaler.clock import SystemClock
from scaler.ports import Actuator, Clock, Misconfigured, OutOfCapacity, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.patience import patience

HANG_S = 2.0
"""Deadline of a call that gets no response. Seconds."""
within_hang_s = pytest.mark.parametrize("deadline_s", [HANG_S])
"""Mark of tests in which a call without a response is a valid result."""
NOTICE_S = 2.0
"""Maximum time from a visible notice to its report. Seconds."""
SETTLE_S = 30.0
"""Maximum time until a platform shows a write: a broken watch is retried within seconds. Seconds."""


class ActuatorRig(ABC):
    """A pool on a platform that the suite can put into any state. Faults last until `recover`."""

    smallest: ClassVar[int] = 0
    """The smallest size that the platform allows."""

    @abstractmethod
    async def open(self, context: AdapterContext) -> Actuator: ...
    @abstractmethod
    async def size(self) -> int:
        """The platform's last requested size, read without the adapter."""

    @abstractmethod
    async def set_size(self, replicas: int) -> None:
        """Write the size as another writer."""

    @abstractmethod
    async def set_ready(self, replicas: int) -> None:
        """Make this many replicas serve."""

    @abstractmethod
    async def hang(self) -> None: ...
    @abstractmethod
    async def refuse(self) -> None: ...
    @abstractmethod
    async def throttle(self) -> None: ...
    @abstractmethod
    async def forbid(self) -> None:
        """Refuse writes for lack of permission."""

    @abstractmethod
    async def garble(self) -> None:
        """Respond to writes with a malformed body: truncated, or not JSON."""

    async def run_out(self) -> bool:
        """Remove all capacity so that a write is refused. False where every write is accepted all the same."""
        return False

    async def cut_short(self) -> bool:
        """Truncate responses to reads. False where the rig cannot do that."""
        return False

    async def lose_response(self) -> bool:
        """Apply writes and lose their responses. False where the rig cannot do that."""
        return False

    async def writes(self) -> int:
        """The number of size writes that reached the platform, for rigs with `lose_response`."""
        raise NotImplementedError

    async def announce_interruption(self, replicas: int) -> bool:
        """Announce the interruption of this many ready replicas. False where notices do not exist."""
        return False

    async def interrupt(self, replicas: int) -> bool:
        """Interrupt this many announced replicas without replacement. False where interruptions do not exist."""
        return False

    async def fail_late(self, *, quota: bool) -> bool:
        """Fail to provide requested replicas after an accepted write. False where that is not reported."""
        return False

    @abstractmethod
    async def recover(self) -> None: ...


class StatusContract(ABC):
    """Contract of the reads, also of a pool that another autoscaler resizes."""

    @abstractmethod
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]: ...

    def clock(self) -> Clock:
        return SystemClock()

    @pytest.fixture
    def deadline_s(self) -> float:
        return DEADLINE_S

    @pytest.fixture
    async def opened(self, deadline_s: float) -> AsyncIterator[tuple[ActuatorRig, Actuator]]:
        async with self.rig() as rig, Resources() as resources:
            yield rig, await rig.open(AdapterContext(resources, self.clock(), deadline_s))

    async def test_status_reports_desired_and_ready_replicas(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        _, actuator = opened
        status = await settled(actuator, lambda s: s.ready == 2)
        assert (status.desired, status.ready, status.pending) == (2, 2, 0)

    @within_hang_s
    async def test_truncated_response_reports_no_new_size(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        observed = await settled(actuator, lambda s: s.desired == s.ready == 2)
        if not await rig.cut_short():
            pytest.skip("the rig cannot cut answers short")
        try:
            async with asyncio.timeout(HANG_S):
                status = (await actuator.status()).value
        except (TimeoutError, Unavailable):
            return
        # A watch may still have the last observed size.
        assert (status.desired, status.ready) == (observed.desired, observed.ready)

    async def test_notice_is_reported_within_two_seconds(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        await settled(actuator, lambda s: s.ready == 2)
        if not await rig.announce_interruption(1):
            pytest.skip("no notices are told of what this resizes")
        async with patience(NOTICE_S):
            status = await settled(actuator, lambda s: s.interruption_pending == 1)
        assert (status.ready, status.interrupted) == (2, 0)

    async def test_interruption_is_counted_once(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        await settled(actuator, lambda s: s.ready == 2)
        if not await rig.announce_interruption(1):
            pytest.skip("no notices are told of what this resizes")
        await settled(actuator, lambda s: s.interruption_pending == 1)
        if not await rig.interrupt(1):
            pytest.skip("nothing is taken from what this resizes")
        for _ in range(2):
            status = await settled(actuator, lambda s: s.interrupted == 1)
            assert (status.ready, status.interruption_pending) == (1, 0)


class ActuatorContract(StatusContract):
    """Subclass it as ``TestMyActuator``, with `rig`: a pool of size 2 with 2 ready."""

    async def test_accepted_write_is_pending_and_not_ready(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        await actuator.resize(7, await settled(actuator, lambda s: s.ready == 2))
        assert await rig.size() == 7
        status = await settled(actuator, lambda s: s.desired == 7)
        assert status.ready == 2
        assert status.pending == 5
        await rig.set_ready(7)
        assert (await settled(actuator, lambda s: s.ready == 7)).pending == 0

    async def test_resize_is_idempotent(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        for _ in range(2):
            await actuator.resize(5, await settled(actuator, lambda s: s.desired in {2, 5}))
        assert await rig.size() == 5

    async def test_pool_is_resized_to_the_smallest_size_and_back(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        smallest = rig.smallest
        await actuator.resize(smallest, await settled(actuator, lambda s: s.desired == 2))
        assert await rig.size() == smallest
        if smallest:
            await rig.set_ready(smallest)
        await actuator.resize(smallest + 1, await settled(actuator, lambda s: s.desired == smallest))
        assert await rig.size() == smallest + 1

    @pytest.mark.parametrize("fault", ["refuse", "throttle"])
    async def test_refused_write_is_unavailable_and_leaves_the_size(
        self, opened: tuple[ActuatorRig, Actuator], fault: str
    ) -> None:
        rig, actuator = opened
        observed = await settled(actuator, lambda s: s.desired == 2)
        await getattr(rig, fault)()
        error = await attempt(actuator, 9, observed)
        assert isinstance(error, Unavailable)
        await rig.recover()
        assert await rig.size() == 2
        assert (await settled(actuator, lambda s: s.desired == 2)).desired == 2

    @within_hang_s
    @pytest.mark.parametrize("fault", ["hang", "garble"])
    async def test_write_without_a_valid_response_is_unavailable(
        self, opened: tuple[ActuatorRig, Actuator], fault: str
    ) -> None:
        """Whether the write was applied is unknown then: the next read shows it."""
        rig, actuator = opened
        observed = await settled(actuator, lambda s: s.desired == 2)
        await getattr(rig, fault)()
        error = await attempt(actuator, 9, observed, HANG_S)
        assert isinstance(error, Unavailable)
        await rig.recover()
        size = await rig.size()
        assert (await settled(actuator, lambda s: s.desired == size)).desired == size

    async def test_forbidden_write_is_misconfigured(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        observed = await settled(actuator, lambda s: s.desired == 2)
        await rig.forbid()
        error = await attempt(actuator, 9, observed)
        assert isinstance(error, Misconfigured)
        assert await rig.size() == 2

    async def test_missing_capacity_is_an_error_and_leaves_the_size(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        observed = await settled(actuator, lambda s: s.desired == 2)
        if not await rig.run_out():
            pytest.skip("the platform accepts every size; what it lacks stays pending")
        error = await attempt(actuator, 9, observed)
        assert isinstance(error, OutOfCapacity)
        assert await rig.size() == 2
        assert await attempt(actuator, 1, observed) is None
        assert await rig.size() == 1

    @within_hang_s
    async def test_write_with_a_lost_response_is_not_sent_again(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        observed = await settled(actuator, lambda s: s.desired == 2)
        if not await rig.lose_response():
            pytest.skip("the rig cannot lose answers")
        before = await rig.writes()
        error = await attempt(actuator, 9, observed, HANG_S)
        assert isinstance(error, Unavailable)
        await rig.recover()
        await settled(actuator, lambda s: s.desired == 9)
        assert (await rig.writes(), await rig.size()) == (before + 1, 9)

    @pytest.mark.parametrize("quota", [False, True], ids=["capacity", "quota"])
    async def test_failure_after_an_accepted_write_is_a_shortfall(
        self, opened: tuple[ActuatorRig, Actuator], quota: bool
    ) -> None:
        rig, actuator = opened
        await actuator.resize(5, await settled(actuator, lambda s: s.desired == 2))
        if not await rig.fail_late(quota=quota):
            pytest.skip("the platform never says that what it accepted does not come")
        status = await settled(actuator, lambda s: s.shortfall is not None)
        assert status.shortfall is not None
        assert (status.ready, status.pending, status.shortfall.quota) == (2, 0, quota)
        observed = await settled(actuator, lambda s: s.shortfall is not None)
        assert observed.shortfall == status.shortfall  # a repeated report is one shortfall

    @within_hang_s
    @pytest.mark.parametrize("fault", ["hang", "refuse", "throttle", "forbid", "garble"])
    async def test_resize_works_after_a_fault_ends(self, opened: tuple[ActuatorRig, Actuator], fault: str) -> None:
        rig, actuator = opened
        observed = await settled(actuator, lambda s: s.desired == 2)
        await getattr(rig, fault)()
        await attempt(actuator, 4, observed, HANG_S)
        await rig.recover()
        for _ in range(20):
            if await attempt(actuator, 4, await settled(actuator, lambda _: True)) is None:
                break
            await asyncio.sleep(0.2)
        assert await rig.size() == 4


async def attempt(
    actuator: Actuator, replicas: int, status: PoolStatus, limit_s: float = DEADLINE_S
) -> PortError | None:
    """Return the error of a resize; None without one."""
    try:
        async with asyncio.timeout(limit_s):
            await actuator.resize(replicas, status)
    except TimeoutError:
        return Unavailable("no answer within the deadline")
    except PortError as e:
        return e
    return None


async def settled(actuator: Actuator, until: Callable[[PoolStatus], bool]) -> PoolStatus:
    """Return the status once it is as expected; fail with the last one on a timeout."""
    last: Fresh[PoolStatus] | PortError | None = None
    try:
        async with asyncio.timeout(SETTLE_S):
            while True:
                try:
                    last = await actuator.status()
                    if until(last.value):
                        return last.value
                except PortError as e:
                    last = e
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never as expected; last: {last}") from None
