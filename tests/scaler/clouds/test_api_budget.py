"""Calls to clouds: budgets, the single retry, priority of writes, and counters."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.clock import stopwatch_s
from scaler.clouds.api_budget import MAX_READ_PAUSE_S, Api, Bucket, Calls
from scaler.clouds.api_channel import Channel
from scaler.ports import Misconfigured, OutOfCapacity, PortError, Throttled, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from scaler.telemetry.api_calls import CallsCollector
from tests.fakes import ManualClock

WIDE = Api("aws/autoscaling", per_s=100.0, burst=100)


def channel(api: Api = WIDE, deadline_s: float = 1.0) -> tuple[Channel, Calls, ManualClock]:
    clock, resources = ManualClock(), Resources()
    return Channel(AdapterContext(resources, clock, deadline_s), api, "account"), resources.calls, clock


class Answers:
    """Returns the `answers` in order; raises those that are errors."""

    def __init__(self, *answers: object) -> None:
        self.left = list(answers)
        self.calls_made = 0

    async def __call__(self) -> object:
        self.calls_made += 1
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class LongestPause(random.Random):
    """Draws the upper bound each time."""

    def uniform(self, a: float, b: float) -> float:
        return b


async def test_read_with_a_broken_connection_is_retried_once() -> None:
    reads = Answers(Unavailable("reset"), "there")
    line, calls, _ = channel()
    assert await line.call("Describe", reads) == "there"
    assert calls.results["aws/autoscaling", "Describe", "unavailable"] == 1
    assert calls.results["aws/autoscaling", "Describe", "ok"] == 1


async def test_a_read_is_not_retried_twice() -> None:
    reads = Answers(Unavailable("reset"), Unavailable("reset"), "there")
    with pytest.raises(Unavailable):
        await channel()[0].call("Describe", reads)
    assert reads.calls_made == 2


@pytest.mark.parametrize(
    "error",
    [Throttled("slow down"), Unavailable("later", 3.0), OutOfCapacity("none"), Misconfigured("denied")],
    ids=["throttled", "asked to wait", "no capacity", "denied"],
)
async def test_a_permanent_error_is_not_retried(error: PortError) -> None:
    reads = Answers(error, "there")
    with pytest.raises(type(error)):
        await channel()[0].call("Describe", reads)
    assert reads.calls_made == 1


async def test_a_write_with_a_lost_response_is_not_retried() -> None:
    writes = Answers(Unavailable("reset"), "done")
    with pytest.raises(Unavailable):
        await channel()[0].call("SetDesiredCapacity", writes, write=True)
    assert writes.calls_made == 1


async def test_an_idempotent_write_is_retried() -> None:
    writes = Answers(Unavailable("reset"), "done")
    assert await channel()[0].call("CreateFleet", writes, write=True, repeat=True) == "done"


async def test_silent_call_ends_at_the_deadline_and_is_named() -> None:
    line, calls, _ = channel(deadline_s=0.1)

    async def silent() -> None:
        await asyncio.sleep(3600)

    with pytest.raises(Unavailable, match=r"DescribeFleets: no response within 0\.08"):
        await line.call("DescribeFleets", silent)
    assert sum(calls.results.values()) == 1


async def test_call_that_cannot_get_a_token_before_its_deadline_is_throttled() -> None:
    line, _, _ = channel(Api("azure/put", per_s=1 / 60, burst=1))
    await line.call("put", Answers("done"), write=True)
    began = stopwatch_s()
    with pytest.raises(Throttled, match="the daemon's rate limit for azure/put is reached") as raised:
        await line.call("put", Answers("done"), write=True)
    assert raised.value.retry_after_s == pytest.approx(60)
    assert stopwatch_s() - began < 30  # it did not wait for the token


async def test_reads_leave_tokens_for_writes() -> None:
    line, _, _ = channel(Api("gcp/container", per_s=0.001, burst=8))
    for _ in range(6):
        await line.call("get", Answers("there"))
    with pytest.raises(Throttled):
        await line.call("get", Answers("there"))
    for _ in range(2):
        await line.call("setSize", Answers("done"), write=True)


async def test_throttle_pauses_reads_and_not_writes() -> None:
    line, _, clock = channel()
    with pytest.raises(Throttled):
        await line.call("Describe", Answers(Throttled("slow down", 20.0)))
    with pytest.raises(Throttled):
        await line.call("Describe", Answers("there"))
    assert await line.call("SetDesiredCapacity", Answers("done"), write=True) == "done"
    clock.advance(21)
    assert await line.call("Describe", Answers("there")) == "there"


async def test_read_that_would_wake_after_its_limit_is_throttled_before() -> None:
    """The clock stands, so the pause never ends: as if other calls were throttled again and again.

    A wait of 0.06 s is at most 0.09 s with its random factor; a second one ends after the limit of 0.13 s.
    """
    line, calls, _ = channel(deadline_s=0.2)
    calls.rng = LongestPause()
    with pytest.raises(Throttled):
        await line.call("List", Answers(Throttled("slow down", 0.06)))
    reads = Answers("there")
    with pytest.raises(Throttled, match="Describe: reads of aws/autoscaling pause after a throttled call"):
        await line.call("Describe", reads)
    assert reads.calls_made == 0


async def test_budget_is_shared_within_an_account_only() -> None:
    clock, resources = ManualClock(), Resources()
    api = Api("aws/ec2", per_s=0.001, burst=2)
    first, same, second = (Channel(AdapterContext(resources, clock, 1.0), api, scope) for scope in ("a", "a", "b"))
    await first.call("Describe", Answers("there"))
    with pytest.raises(Throttled):
        await same.call("Describe", Answers("there"))
    await second.call("Describe", Answers("there"))


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.booleans()), max_size=60),
    st.floats(0.1, 50),
    st.integers(1, 40),
)
def test_no_window_holds_more_calls_than_the_budget(steps: list[tuple[float, bool]], per_s: float, burst: int) -> None:
    now, passed_s, granted = 0.0, 0.0, 0
    bucket = Bucket(Api("any", per_s, burst), now)
    for step_s, write in steps:
        now += step_s
        passed_s += max(0.0, step_s)
        granted += bucket.wait_s(now, write=write) == 0
    assert granted <= burst + per_s * passed_s + 1e-6


def test_clock_set_back_pauses_reads_at_most_for_the_limit() -> None:
    bucket = Bucket(Api("any", 1, 10), 1_000_000.0)
    bucket.close_reads(1_000_000.0, 60)
    bucket.wait_s(500_000.0, write=False)
    assert bucket.wait_s(500_000.0 + MAX_READ_PAUSE_S, write=False) == 0


def test_clock_set_back_does_not_pause_reads() -> None:
    bucket = Bucket(Api("any", 1, 10), 1_000_000.0)
    assert bucket.wait_s(500_000.0, write=False) == 0


async def test_call_results_and_durations_are_metrics() -> None:
    line, calls, _ = channel()
    await line.call("Describe", Answers("there"))
    with pytest.raises(OutOfCapacity):
        await line.call("SetDesiredCapacity", Answers(OutOfCapacity("none")), write=True)
    counts, times = CallsCollector(calls).collect()
    assert {(s.labels["operation"], s.labels["result"]): s.value for s in counts.samples} == {
        ("Describe", "ok"): 1,
        ("SetDesiredCapacity", "out_of_capacity"): 1,
    }
    assert {s.value for s in times.samples if s.name.endswith("_count")} == {1}
