"""llm-d's recipes, Dynamo's easy mode, and no autoscaling."""

from __future__ import annotations

from typing import Literal

import pytest

from policies.recommend.peers.dynamo import DynamoEasy
from policies.recommend.peers.llmd import LlmD
from policies.recommend.peers.static import Static
from tests.factories import ABSENT
from tests.policies.recommend.peers.ticks import PeerTicks

# --- llm-d


def test_llmd_uses_the_larger_of_queued_and_running_after_five_minutes() -> None:
    ticks = PeerTicks(LlmD(source="r"), 2)
    sizes = ticks.run(24, {"r.waiting": 3, "r.running": 90})
    assert ticks.decisions[0].capped_need == 6, "90 / 16, rounded up"
    assert (sizes[:20], sizes[20:22]) == ([2] * 20, [4, 6]), "then doubling every 15 s"


def test_llmd_scale_up_window_is_that_of_the_cold_start() -> None:
    ticks = PeerTicks(LlmD(source="r", scale_up_window_s=60.0), 2)
    assert ticks.run(6, {"r.waiting": 3, "r.running": 90}) == [2, 2, 2, 2, 4, 6]


@pytest.mark.parametrize(
    ("waiting", "running"), [pytest.param(10, 16, id="the queue"), pytest.param(3, 160, id="the running requests")]
)
def test_llmd_queue_guard_subtracts_starting_replicas(waiting: float, running: float) -> None:
    """The overlay's formula: demand is max(queue / 1, running / 16)."""
    readings = {"r.waiting": waiting, "r.running": running}
    guarded = PeerTicks(LlmD(source="r", recipe="queue_guard"), 2, start_s=600.0)
    assert guarded.run(4, readings) == [4, 8, 8, 8], "10 replicas less 6 starting is below the current size"
    free = PeerTicks(LlmD(source="r", recipe="queue_guard"), 2)
    assert free.run(4, readings)[-1] == 10


@pytest.mark.parametrize(
    ("saturation", "running", "wanted"),
    [
        pytest.param(1.3, 0, 2, id="1.3 of the pool at 0.7 per replica"),
        pytest.param(0.2, 90, 6, id="90 running at 16 per replica"),
    ],
)
def test_llmd_saturation_recipe_uses_the_larger_of_saturation_and_running(
    saturation: float, running: float, wanted: int
) -> None:
    ticks = PeerTicks(LlmD(source="r", recipe="saturation"), 2)
    ticks.tick({"r.pool_saturation": saturation, "r.running": running})
    assert ticks.decisions[0].capped_need == wanted


@pytest.mark.parametrize(
    ("tokens", "usage", "wanted"),
    [
        pytest.param(15_928 * 6, 0.1, 4, id="six seconds of prefill at 1.5 each"),
        pytest.param(0, 0.95, 3, id="two caches at 95 % are 1.9, at 0.8 each"),
        pytest.param(1000, 0.8, 2, id="within the tolerance"),
    ],
)
def test_llmd_token_recipe_uses_the_larger_of_prefill_and_cache(tokens: float, usage: float, wanted: int) -> None:
    ticks = PeerTicks(LlmD(source="r", recipe="token"), 2)
    ticks.tick({"r.inflight_tokens": tokens, "r.kv_cache_usage": usage})
    assert ticks.decisions[0].capped_need == wanted


def test_llmd_token_recipe_adds_one_replica_in_three_minutes() -> None:
    ticks = PeerTicks(LlmD(source="r", recipe="token"), 1)
    sizes = ticks.run(26, {"r.inflight_tokens": 1e6, "r.kv_cache_usage": 1.0})
    assert [sizes.index(n) for n in (2, 3, 4)] == [0, 12, 24]


def test_llmd_scale_down_window_may_be_shorter() -> None:
    def sizes(window_s: float) -> list[int]:
        ticks = PeerTicks(LlmD(source="r", recipe="queue_guard", scale_down_window_s=window_s), 6)
        ticks.run(4, {"r.waiting": 0, "r.running": 96})
        return ticks.run(24, {"r.waiting": 0, "r.running": 16})

    assert (sizes(60.0).index(1), sizes(300.0).index(1)) == (3, 19)


def test_llmd_does_not_scale_in_on_partial_evidence() -> None:
    ticks = PeerTicks(LlmD(source="r"), 6)
    assert set(ticks.run(40, {"r.waiting": 0, "r.running": ABSENT})) == {6}


# --- Dynamo

Mode = Literal["aggregate", "prefill", "decode"]
Optimize = Literal["throughput", "latency", "load"]


@pytest.mark.parametrize(
    ("optimize", "usage", "waiting", "size"),
    [
        pytest.param("throughput", 0.45, 0, 1, id="45 % is little for throughput"),
        pytest.param("latency", 0.45, 0, 3, id="and much for latency: opposite answers from one switch"),
        pytest.param("throughput", 0.8, 0, 2, id="between the thresholds"),
        pytest.param("throughput", 0.5, 0, 2, id="one replica would be full: no consolidation"),
        pytest.param("throughput", 0.59, 0, 2, id="one replica would be over the threshold"),
        pytest.param("throughput", 1.0, 0, 2, id="a full cache alone is not over the threshold"),
        pytest.param("throughput", 0.9, 10, 3, id="a full cache with a queue of 30,000 tokens is"),
        pytest.param("latency", 0.05, 0, 1, id="idle"),
    ],
)
def test_dynamo_adds_or_removes_one_replica(optimize: Optimize, usage: float, waiting: float, size: int) -> None:
    policy = DynamoEasy(source="e", kv_tokens=100_000, optimize=optimize)
    assert PeerTicks(policy, 2).tick({"e.kv_cache_usage": usage, "e.waiting": waiting}) == size


@pytest.mark.parametrize(
    ("optimize", "waiting", "size"),
    [
        pytest.param("throughput", 6, 3, id="a context length queued per engine"),
        pytest.param("throughput", 0.5, 1, id="less than a tenth"),
        pytest.param("throughput", 3, 2, id="between"),
        pytest.param("latency", 0.6, 3, id="a tenth is much for latency"),
        pytest.param("latency", 0.1, 2, id="a little is not nothing"),
        pytest.param("latency", 0, 1, id="nothing queued"),
    ],
)
def test_dynamo_prefill_workers_follow_the_queued_prompts(optimize: Optimize, waiting: float, size: int) -> None:
    policy = DynamoEasy(source="e", kv_tokens=1, mode="prefill", optimize=optimize, context_tokens=9000)
    assert PeerTicks(policy, 2).tick({"e.waiting": waiting}) == size


def test_dynamo_custom_thresholds_are_inclusive() -> None:
    policy = DynamoEasy(source="e", kv_tokens=1000, optimize="load", scale_up_at=0.5, scale_down_at=0.25)
    assert PeerTicks(policy, 2).tick({"e.kv_cache_usage": 0.5, "e.waiting": 0}) == 3
    assert PeerTicks(policy, 3).tick({"e.kv_cache_usage": 0.25, "e.waiting": 0}) == 2
    assert PeerTicks(policy, 2).tick({"e.kv_cache_usage": 0.25, "e.waiting": 0}) == 2, "one would be at 0.5"


def test_dynamo_only_observes_while_a_replica_starts() -> None:
    ticks = PeerTicks(DynamoEasy(source="e", kv_tokens=1000), 2, step_s=5.0, start_s=60.0)
    full = {"e.kv_cache_usage": 1.0, "e.waiting": 9}
    assert ticks.run(14, full) == [3] * 12 + [4] * 2


def test_dynamo_never_removes_the_last_replica_nor_leaves_zero() -> None:
    policy = DynamoEasy(source="e", kv_tokens=1000)
    assert PeerTicks(policy, 1, min_replicas=0).tick({"e.kv_cache_usage": 0, "e.waiting": 0}) == 1
    assert PeerTicks(policy, 0, min_replicas=0).tick({"e.kv_cache_usage": 0, "e.waiting": 50}) == 0


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"optimize": "load"}, "optimize"),
        ({"scale_up_at": 0.5}, "optimize"),
        ({"optimize": "load", "scale_up_at": 0.2, "scale_down_at": 0.3}, "scale_down_at"),
        ({}, None),
    ],
)
def test_dynamo_custom_thresholds_require_optimize_load(settings: dict[str, float | str], field: str | None) -> None:
    policy = DynamoEasy(source="e", kv_tokens=1000, **settings)  # type: ignore[arg-type]
    assert [name for name, _ in policy.problems()] == ([field] if field else [])


# --- static


def test_static_size_applies_at_once_and_stays() -> None:
    assert PeerTicks(Static(replicas=7), 2).run(3, {}) == [7, 7, 7]
    assert PeerTicks(Static(replicas=7), 30).run(1, {}) == [7]
