"""Native autoscalers that are taken over while they are given back."""

from __future__ import annotations

import asyncio

import pytest

from scaler.clouds.take_overs import TakeOvers
from scaler.ports import Unavailable
from scaler.supervised_tasks import Tasks
from tests.fakes import ManualClock


class Native:
    """A native autoscaler, whose next answer to a give-back waits for `release`, and may be an error."""

    def __init__(self) -> None:
        self.restored: list[str] = []
        self.began, self.release = asyncio.Event(), asyncio.Event()
        self.error: BaseException | None = None

    async def restore(self, _key: str, state: str) -> None:
        self.began.set()
        await self.release.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.restored.append(state)


@pytest.mark.parametrize(
    ("error", "restored"),
    [(None, ["first", "second"]), (Unavailable("no response"), ["first"]), (asyncio.CancelledError(), ["first"])],
)
async def test_target_taken_over_during_its_give_back_is_given_back_again(
    error: BaseException | None, restored: list[str]
) -> None:
    native = Native()
    native.error = error
    taken_over: TakeOvers[str, str] = TakeOvers(ManualClock(), native.restore, str, "resume it")
    async with taken_over.open(Tasks()):
        taken_over.remember("variant", "first")
        giving_back = asyncio.create_task(taken_over._give_back(["variant"]))
        await native.began.wait()
        taken_over.remember("variant", "second")  # a pool uses the target again
        native.release.set()
        await asyncio.gather(giving_back, return_exceptions=True)
    assert native.restored == restored
