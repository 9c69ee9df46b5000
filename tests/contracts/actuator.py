"""What every actuator must do, whatever it resizes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from policies.model import Fresh, PoolStatus
from scaler.clock import SystemClock
from scaler.ports import Actuator, Clock, Misconfigured, OutOfCapacity, PortError, Unavailable
from scaler.shared_resources import Opening, Resources
from tests.patience import patience

DEADLINE_S = 2.0
NOTICE_S = 2.0
"""From when a notice can be seen to when it is told."""
SETTLE_S = 15.0
"""The longest that a platform may take to show what it was told: a watch that breaks is tried again within seconds."""


class ActuatorRig(ABC):
    """A pool on a real platform that the suite can put into any state. Faults last until `recover`."""

    @abstractmethod
    async def open(self, context: Opening) -> Actuator: ...
    @abstractmethod
    async def size(self) -> int:
        """The size the platform was last asked for, read behind the adapter's back."""

    @abstractmethod
    async def set_size(self, replicas: int) -> None:
        """Somebody else writes the size."""

    @abstractmethod
    async def set_ready(self, replicas: int) -> None:
        """So many replicas serve."""

    @abstractmethod
    async def hang(self) -> None: ...
    @abstractmethod
    async def refuse(self) -> None: ...
    @abstractmethod
    async def throttle(self) -> None: ...
    @abstractmethod
    async def forbid(self) -> None:
        """Writes are not permitted."""

    @abstractmethod
    async def garble(self) -> None:
        """Writes are answered by what is no answer: cut short, or no JSON."""

    async def run_out(self) -> bool:
        """Have no capacity left, in a way that a write is told of. False where every write is accepted all the same."""
        return False

    async def cut_short(self) -> bool:
        """Answers to reads break off in the middle. False where the rig cannot do that."""
        return False

    async def lose_answer(self) -> bool:
        """Writes are done and their answers lost. False where the rig cannot do that."""
        return False

    async def writes(self) -> int:
        """Writes of the size that reached the platform so far, for rigs with `lose_answer`."""
        raise NotImplementedError

    async def doom(self, replicas: int) -> bool:
        """The cloud says of so many ready replicas that it will take them. False where no notice is told."""
        return False

    async def take(self, replicas: int) -> bool:
        """The cloud takes so many of the doomed ones, and brings none instead. False where none is ever taken."""
        return False

    async def fail_late(self, *, quota: bool) -> bool:
        """What was asked for does not come, told after the write was accepted. False where that is not told."""
        return False

    @abstractmethod
    async def recover(self) -> None: ...


class ActuatorContract(ABC):
    """Subclass it as ``TestMyActuator``, with `rig`: a pool of size 2 with 2 ready."""

    @abstractmethod
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]: ...

    def clock(self) -> Clock:
        return SystemClock()

    @pytest.fixture
    async def there(self) -> AsyncIterator[tuple[ActuatorRig, Actuator]]:
        async with self.rig() as rig, Resources() as resources:
            yield rig, await rig.open(Opening(resources, self.clock(), DEADLINE_S))

    async def test_tells_desired_and_ready(self, there: tuple[ActuatorRig, Actuator]) -> None:
        _, actuator = there
        status = await settled(actuator, lambda s: s.ready == 2)
        assert (status.desired, status.ready, status.pending) == (2, 2, 0)

    async def test_an_accepted_write_is_not_capacity(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        await actuator.resize(7, await settled(actuator, lambda s: s.ready == 2))
        assert await rig.size() == 7
        status = await settled(actuator, lambda s: s.desired == 7)
        assert status.ready == 2
        assert status.pending == 5
        await rig.set_ready(7)
        assert (await settled(actuator, lambda s: s.ready == 7)).pending == 0

    async def test_a_resize_may_be_repeated(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        for _ in range(2):
            await actuator.resize(5, await settled(actuator, lambda s: s.desired in {2, 5}))
        assert await rig.size() == 5

    async def test_goes_to_zero_and_back(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        await actuator.resize(0, await settled(actuator, lambda s: s.desired == 2))
        assert await rig.size() == 0
        await actuator.resize(1, await settled(actuator, lambda s: s.desired == 0))
        assert await rig.size() == 1

    @pytest.mark.parametrize("fault", ["refuse", "throttle"])
    async def test_a_refused_write_is_unavailable_and_leaves_the_size(
        self, there: tuple[ActuatorRig, Actuator], fault: str
    ) -> None:
        rig, actuator = there
        seen = await settled(actuator, lambda s: s.desired == 2)
        await getattr(rig, fault)()
        assert isinstance(await attempt(actuator, 9, seen), Unavailable)
        await rig.recover()
        assert await rig.size() == 2
        assert (await settled(actuator, lambda s: s.desired == 2)).desired == 2

    @pytest.mark.parametrize("fault", ["hang", "garble"])
    async def test_a_write_without_an_answer_is_unavailable_and_read_back(
        self, there: tuple[ActuatorRig, Actuator], fault: str
    ) -> None:
        """Whether the platform took the write is not known then: the next read says what became of it."""
        rig, actuator = there
        seen = await settled(actuator, lambda s: s.desired == 2)
        await getattr(rig, fault)()
        assert isinstance(await attempt(actuator, 9, seen), Unavailable)
        await rig.recover()
        size = await rig.size()
        assert (await settled(actuator, lambda s: s.desired == size)).desired == size

    async def test_what_is_forbidden_is_misconfigured(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        seen = await settled(actuator, lambda s: s.desired == 2)
        await rig.forbid()
        assert isinstance(await attempt(actuator, 9, seen), Misconfigured)
        assert await rig.size() == 2

    async def test_no_capacity_is_told_and_leaves_the_size(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        seen = await settled(actuator, lambda s: s.desired == 2)
        if not await rig.run_out():
            pytest.skip("the platform accepts every size; what it lacks stays pending")
        assert isinstance(await attempt(actuator, 9, seen), OutOfCapacity)
        assert await rig.size() == 2
        assert await attempt(actuator, 1, seen) is None
        assert await rig.size() == 1

    async def test_half_an_answer_is_no_size(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        seen = await settled(actuator, lambda s: s.desired == s.ready == 2)
        if not await rig.cut_short():
            pytest.skip("the rig cannot cut answers short")
        try:
            async with asyncio.timeout(DEADLINE_S):
                status = (await actuator.status()).value
        except (TimeoutError, Unavailable):
            return
        assert (status.desired, status.ready) == (seen.desired, seen.ready)  # as last seen, where a watch keeps it

    async def test_a_write_whose_answer_was_lost_is_not_sent_again(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        seen = await settled(actuator, lambda s: s.desired == 2)
        if not await rig.lose_answer():
            pytest.skip("the rig cannot lose answers")
        before = await rig.writes()
        assert isinstance(await attempt(actuator, 9, seen), Unavailable)
        await rig.recover()
        await settled(actuator, lambda s: s.desired == 9)
        assert (await rig.writes(), await rig.size()) == (before + 1, 9)

    async def test_a_notice_is_seen_within_two_seconds(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        await settled(actuator, lambda s: s.ready == 2)
        if not await rig.doom(1):
            pytest.skip("no notices are told of what this resizes")
        async with patience(NOTICE_S):
            status = await settled(actuator, lambda s: s.interruption_pending == 1)
        assert (status.ready, status.interrupted) == (2, 0)

    async def test_what_was_taken_is_counted_once(self, there: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = there
        await settled(actuator, lambda s: s.ready == 2)
        if not await rig.doom(1):
            pytest.skip("no notices are told of what this resizes")
        await settled(actuator, lambda s: s.interruption_pending == 1)
        if not await rig.take(1):
            pytest.skip("nothing is taken from what this resizes")
        for _ in range(2):
            status = await settled(actuator, lambda s: s.interrupted == 1)
            assert (status.ready, status.interruption_pending) == (1, 0)

    @pytest.mark.parametrize("quota", [False, True], ids=["capacity", "quota"])
    async def test_what_fails_after_it_was_accepted_is_told(
        self, there: tuple[ActuatorRig, Actuator], quota: bool
    ) -> None:
        rig, actuator = there
        await actuator.resize(5, await settled(actuator, lambda s: s.desired == 2))
        if not await rig.fail_late(quota=quota):
            pytest.skip("the platform never says that what it accepted does not come")
        status = await settled(actuator, lambda s: s.shortfall is not None)
        assert status.shortfall is not None
        assert (status.ready, status.pending, status.shortfall.quota) == (2, 0, quota)
        again = await settled(actuator, lambda s: s.shortfall is not None)
        assert again.shortfall == status.shortfall  # one saying is one refusal

    @pytest.mark.parametrize("fault", ["hang", "refuse", "throttle", "forbid", "garble"])
    async def test_comes_back(self, there: tuple[ActuatorRig, Actuator], fault: str) -> None:
        rig, actuator = there
        seen = await settled(actuator, lambda s: s.desired == 2)
        await getattr(rig, fault)()
        await attempt(actuator, 4, seen)
        await rig.recover()
        for _ in range(20):
            if await attempt(actuator, 4, await settled(actuator, lambda _: True)) is None:
                break
            await asyncio.sleep(0.2)
        assert await rig.size() == 4


async def attempt(actuator: Actuator, replicas: int, seen: PoolStatus) -> PortError | None:
    """The error of a resize, if it had one."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            await actuator.resize(replicas, seen)
    except TimeoutError:
        return Unavailable("no answer within the deadline")
    except PortError as e:
        return e
    return None


async def settled(actuator: Actuator, until: Callable[[PoolStatus], bool]) -> PoolStatus:
    """The status once it is as expected; fails with the last one when that does not come."""
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
