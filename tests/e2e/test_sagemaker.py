"""A day on SageMaker, by the daemon on a counterpart with time.

Load rises, and two variants of one endpoint grow through its lock; Application Auto Scaling resized one of them before.
SageMaker lacks capacity and rolls back, and the next pool, an inference component, takes the rest. Load falls: the
component's copies stay for their minimum billed time, and then go. The daemon stops, and Application Auto Scaling has
its variant again. The journal replays with equal decisions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from policies.model import Result, Tick
from tests.e2e.cloud_story import (
    MESSAGES_PER_REPLICA,
    check_journal,
    check_min_billed,
    configure,
    queue_workload,
    ready,
    status_of,
)
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_compute import compute
from tests.servers.aws_sagemaker import Component, Endpoint, Scalable, Sized
from tests.servers.aws_world import World
from tests.servers.daemon import Daemon, daemon, until

MIN_BILLED_S: Final = 15.0
UPDATE_S: Final = 2.0
CAPACITY: Final = {"a": 3, "b": 2}
"""Instances that SageMaker has for each variant."""
FIRST_WAVE: Final = 4
SECOND_WAVE: Final = 8


def document(url: str, queue: str) -> dict[str, Any]:
    """Return the workload: windows of seconds, and prices that order the pools."""
    account = {"region": REGION, "endpoint_url": url}
    variant = {"kind": "sagemaker_variant", "endpoint": "chat", "account": account, "lead_time_s": UPDATE_S}
    component = {"kind": "sagemaker_inference_component", "component": "copies", "account": account}
    source = {"queue": {"kind": "sqs", "queue_url": queue, "account": account}}
    pools = {
        "a": {**variant, "variant": "a", "price_usd_per_hour": 2.0, "native": "take_over"},
        "b": {**variant, "variant": "b", "price_usd_per_hour": 3.0},
        "copies": {**component, "price_usd_per_hour": 4.0, "lead_time_s": 1.0, "min_billed_s": MIN_BILLED_S},
    }
    return queue_workload("llm", source, pools, max_replicas=20, min_replicas=2, slo_violation_cost_ratio=0.01)


@pytest.mark.slow
async def test_endpoint_grows_through_its_lock_and_hands_everything_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    world = World()
    variants = [Sized(name, 1, 1, capacity=capacity) for name, capacity in CAPACITY.items()]
    chat = world.sagemaker.endpoints["chat"] = Endpoint("chat", variants, start_s=UPDATE_S, rollback_s=UPDATE_S)
    copies = world.sagemaker.components["copies"] = Component("copies", endpoint="shared", start_s=0.5)
    native = world.sagemaker.targets["endpoint/chat/variant/a"] = Scalable("endpoint/chat/variant/a")
    async with aws() as cloud, compute(world, cloud.url) as endpoint:
        queue = await cloud.queue("prompts")
        config = configure(tmp_path, document(endpoint.url, queue))
        async with daemon(str(config), journal=tmp_path / "journal", env=KEYS) as d:
            await cloud.send(queue, FIRST_WAVE * MESSAGES_PER_REPLICA)
            await until(lambda: ready(d, "a", "b", "copies") >= FIRST_WAVE, d)
            assert native.suspended, "Application Auto Scaling is suspended before the first write"
            await cloud.send(queue, (SECOND_WAVE - FIRST_WAVE) * MESSAGES_PER_REPLICA)
            await until(lambda: ready(d, "a", "b", "copies") >= SECOND_WAVE, d)
            assert copies.current >= SECOND_WAVE - sum(CAPACITY.values())
            await load_falls(cloud, queue, d, copies)
            assert await d.stop() == 0
            ticks = d.ticks()
    check_story(ticks, chat)
    assert not native.suspended, "Application Auto Scaling resizes the variant again"
    check_journal(tmp_path / "journal", ticks)


async def load_falls(cloud: Aws, queue: str, d: Daemon, copies: Component) -> None:
    await cloud.drain(queue)
    await until(lambda: copies.desired == 0 and ready(d, "a", "b") == 2, d)


def check_story(ticks: list[Tick], chat: Endpoint) -> None:
    shortfalls = {s.reason for t in ticks for pool in CAPACITY if (s := status_of(t, pool).shortfall) is not None}
    assert any("ml compute capacity" in reason.lower() for reason in shortfalls), "no rollback was reported"
    waiting = {o.reason for t in ticks for o in t.outcomes if o.result is Result.CONFLICT}
    assert any("one change at a time" in reason or "waits for its turn" in reason for reason in waiting)
    assert chat.collisions == 0, "a write was sent while the endpoint was being updated"
    check_min_billed(ticks, "copies", MIN_BILLED_S)
