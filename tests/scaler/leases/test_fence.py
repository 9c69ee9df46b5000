"""The fence: neither the controller nor a call to a cloud writes without a valid lease."""

from __future__ import annotations

import pytest

from policies.model import Result
from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.controller import Controller
from scaler.leases.fence import check_write, write_epoch, writing_under
from scaler.ports import Fenced
from scaler.setup import Setup
from scaler.shared_resources import AdapterContext, Resources
from tests.scaler.test_controller import MAIN, Rig, workload

EXPIRED = "the lease of shard 3 was renewed 14.0 s ago"


class Lease:
    """A lease of epoch 7 that permits writes until `problem` is set."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.requested: list[tuple[int | None, float]] = []

    def epoch(self) -> int | None:
        return 7

    def refusal(self, epoch: int | None, write_s: float) -> str:
        self.requested.append((epoch, write_s))
        return self.problem


def controller(rig: Rig, lease: Lease) -> Controller:
    rig.controller = rig.make(workload())
    rig.controller.adopt(Setup(workload(), {"queue": rig.source}, {MAIN: rig.actuator}, fence=lease))
    return rig.controller


async def test_tick_has_the_epoch_and_writes_under_a_valid_lease() -> None:
    rig, lease = Rig(), Lease()
    controller(rig, lease)
    tick = await rig.tick()
    assert (tick.epoch, rig.actuator.writes, tick.outcomes[0].result) == (7, [3], Result.ACCEPTED)
    assert lease.requested == [(7, 10.0)]  # a write takes at most the deadline


async def test_tick_without_a_valid_lease_writes_nothing_and_says_why() -> None:
    rig, lease = Rig(), Lease(EXPIRED)
    controller(rig, lease)
    tick = await rig.tick()
    assert (rig.actuator.writes, tick.outcomes[0].result, tick.outcomes[0].reason) == ([], Result.FENCED, EXPIRED)
    assert tick.outcomes[0].possible_replicas == 1
    assert not tick.outcomes[0].result.refused
    lease.problem = ""
    assert (await rig.tick()).outcomes[0].result is Result.ACCEPTED


async def test_call_that_writes_is_checked_again_and_a_read_is_not() -> None:
    """The lease ends between the controller's check and the call, as while the process was stopped."""
    rig, lease, calls = Rig(), Lease(), list[str]()

    async def attempt() -> None:
        calls.append("sent")

    async with Resources() as resources:
        channel = Channel(AdapterContext(resources, rig.clock, 1.0), Api("kubernetes", 100.0, 100), None)
        with writing_under(lease, 7, 0.5):
            assert write_epoch() == 7
            check_write()
            lease.problem = EXPIRED
            with pytest.raises(Fenced, match="shard 3"):
                await channel.call("patch scale", attempt, write=True)
            assert calls == []
            await channel.call("get scale", attempt)
        assert calls == ["sent"]
        assert resources.calls.results["kubernetes", "patch scale", "fenced"] == 1
    assert write_epoch() is None
