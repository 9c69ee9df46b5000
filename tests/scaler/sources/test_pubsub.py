"""Pub/Sub's backlog: late samples, regions, and unusable subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.pubsub_v1.types import DeadLetterPolicy

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.config.kinds.gcp_sources import PubSub
from scaler.ports import Misconfigured, Permitted, Source
from tests.scaler.clouds.gcp_place import GcpEnvironment, gcp_environment
from tests.servers.gcp import PROJECT
from tests.servers.tcp_fault import ProxyFault

ROOT = "pubsub.googleapis.com/subscription/"
COUNT, AGE = ROOT + "num_undelivered_messages", ROOT + "oldest_unacked_message_age"
PATH = f"projects/{PROJECT}/subscriptions/prompts"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path) as environment:
        environment.cloud.pubsub.subscribe(PATH)
        yield environment


async def opened(env: GcpEnvironment, **more: Any) -> Source:
    settings = {"subscription": "prompts", "by_region": False, **more}
    return await open_source(PubSub(project=env.cloud.project(), **settings), env.context)


def record(
    env: GcpEnvironment, metric: str, value: float, age_s: float, region: str = "", subscription: str = "prompts"
) -> None:
    labels = {"region": region} if region else {}
    at = env.clock.now() - age_s
    env.cloud.monitoring.record(metric, value, at, labels=labels, subscription_id=subscription)


async def read(source: Source, quantity: str = "visible") -> Fresh[float]:
    reading = (await source.sample())[quantity]
    assert isinstance(reading, Fresh), reading
    return reading


async def test_reading_has_the_time_of_its_newest_sample(env: GcpEnvironment) -> None:
    record(env, COUNT, 40, 150)
    record(env, COUNT, 30, 90)
    reading = await read(await opened(env))
    assert (reading.value, reading.missing) == (30, "")
    assert 89 < env.clock.now() - reading.measured_at < 95


async def test_missing_samples_are_absent_and_not_zero(env: GcpEnvironment) -> None:
    readings = await (await opened(env)).sample()
    assert all(isinstance(reading, Absent) for reading in readings.values())
    assert "no num_undelivered_messages in the last 15 minutes" in str(readings["visible"])


async def test_count_older_than_max_age_is_a_lower_bound_until_stale_bound(env: GcpEnvironment) -> None:
    record(env, COUNT, 30, 0)
    source = await opened(env, max_age_s=200, stale_bound_s=300)
    assert (await read(source)).missing == ""
    env.clock.ahead_s += 260
    assert (await read(source)).missing.startswith("the newest sample is 26")
    assert PubSub(project=env.cloud.project(), subscription="x-y-z", max_age_s=200).quantities()["visible"] == 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "last", "extrapolated"),
    [(60.0, 120.0, True), (60.0, 90.0, False), (60.0, 5.0, False), (0.0, 0.0, False)],
    ids=["the same message", "another message", "acknowledged", "empty"],
)
async def test_oldest_age_is_extrapolated_only_for_the_same_message(
    env: GcpEnvironment, before: float, last: float, extrapolated: bool
) -> None:
    record(env, AGE, before, 160)
    record(env, AGE, last, 100)
    reading = await read(await opened(env), "oldest_age_s")
    assert reading.value == pytest.approx(last + (100 if extrapolated else 0), abs=3)
    assert 99 < env.clock.now() - reading.measured_at < 105


async def test_oldest_age_of_a_single_sample_is_not_extrapolated(env: GcpEnvironment) -> None:
    record(env, AGE, 60, 100)
    assert (await read(await opened(env), "oldest_age_s")).value == 60


class TestByRegion:
    async def test_region_counts_are_summed_and_the_oldest_age_is_their_maximum(self, env: GcpEnvironment) -> None:
        for region, count, age in (("us-central1", 30, 5), ("europe-west4", 12, 80)):
            record(env, f"{COUNT}_by_region", count, 30, region)
            record(env, f"{AGE}_by_region", age, 30, region)
        source = await opened(env, by_region=True)
        assert (await read(source)).value == 42
        assert (await read(source, "oldest_age_s")).value == 80

    async def test_region_with_stopped_samples_makes_the_sum_a_lower_bound(self, env: GcpEnvironment) -> None:
        record(env, f"{COUNT}_by_region", 30, 20, "us-central1")
        record(env, f"{COUNT}_by_region", 12, 140, "europe-west4")
        reading = await read(await opened(env, by_region=True))
        assert (reading.value, reading.missing) == (42, "no recent sample from europe-west4")
        assert env.clock.now() - reading.measured_at > 135

    async def test_an_unreadable_part_makes_the_count_a_lower_bound(self, env: GcpEnvironment) -> None:
        record(env, f"{COUNT}_by_region", 30, 20, "us-central1")
        env.cloud.monitoring.errors = [{"code": 14, "message": "region europe-west4 is unavailable"}]
        assert "europe-west4" in (await read(await opened(env, by_region=True))).missing


async def test_all_subscriptions_share_one_list_call_per_metric(env: GcpEnvironment) -> None:
    sources = []
    for i in range(5):
        env.cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/queue-{i}")
        record(env, COUNT, i, 10, subscription=f"queue-{i}")
        sources.append(await opened(env, subscription=f"queue-{i}"))
    await asyncio.gather(*(s.sample() for s in sources))  # register all subscriptions
    env.clock.ahead_s += 31
    env.cloud.monitoring.filters.clear()
    results = await asyncio.gather(*(read(s) for s in sources))
    assert [f.value for f in results] == [0, 1, 2, 3, 4]
    assert len(env.cloud.monitoring.filters) == 2
    assert all("one_of(" in chosen for chosen in env.cloud.monitoring.filters)


async def test_subscription_is_read_again_after_30_seconds(env: GcpEnvironment) -> None:
    record(env, COUNT, 3, 10)
    record(env, AGE, 3, 10)
    source = await opened(env)
    await read(source)
    record(env, COUNT, 9, 0)
    assert (await read(source)).value == 3
    env.clock.ahead_s += 31
    assert (await read(source)).value == 9


class TestSetUp:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("settings", "error"),
        [
            ({"detached": True}, "detached"),
            ({"topic": "_deleted-topic_"}, "topic was deleted"),
            ({"bigquery_config": {"table": "p.d.t"}}, "BigQuery"),
            ({"cloud_storage_config": {"bucket": "b"}}, "Cloud Storage"),
        ],
    )
    async def test_a_subscription_that_cannot_be_pulled_from_is_misconfigured(
        self, env: GcpEnvironment, settings: dict[str, Any], error: str
    ) -> None:
        record(env, COUNT, 3, 10)
        env.cloud.pubsub.subscribe(PATH, **settings)
        with pytest.raises(Misconfigured, match=error):
            await (await opened(env)).sample()

    async def test_a_missing_subscription_is_misconfigured(self, env: GcpEnvironment) -> None:
        with pytest.raises(Misconfigured, match="not found"):
            await (await opened(env, subscription="no-such")).sample()

    async def test_a_forbidden_subscription_is_misconfigured(self, env: GcpEnvironment) -> None:
        env.cloud.permit({"monitoring.timeSeries.list"})
        with pytest.raises(Misconfigured, match=r"grant pubsub\.subscriptions\.get"):
            await (await opened(env)).sample()

    @pytest.mark.slow
    @pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
    async def test_counts_do_not_wait_for_a_failing_pub_sub_service(
        self, env: GcpEnvironment, code: grpc.StatusCode
    ) -> None:
        record(env, COUNT, 3, 10)
        env.cloud.pubsub.fault = (code, "not now")
        assert (await read(await opened(env))).value == 3

    async def test_failed_subscription_read_is_retried_after_30_seconds(self, env: GcpEnvironment) -> None:
        record(env, COUNT, 3, 10)
        env.cloud.pubsub.fault = (grpc.StatusCode.UNAVAILABLE, "not now")
        source = await opened(env)
        for _ in range(3):
            await read(source)
        calls = env.cloud.pubsub.requests.count("pubsub.subscriptions.get")
        await read(source)
        assert env.cloud.pubsub.requests.count("pubsub.subscriptions.get") == calls
        env.clock.ahead_s += 31
        env.cloud.pubsub.fault = None
        await read(source)
        assert env.cloud.pubsub.requests.count("pubsub.subscriptions.get") == calls + 1

    @pytest.mark.slow
    @pytest.mark.parametrize("fault", [ProxyFault.RESET, ProxyFault.FROZEN, ProxyFault.SILENT])
    async def test_counts_do_not_wait_for_a_broken_connection_to_pub_sub(
        self, env: GcpEnvironment, fault: ProxyFault
    ) -> None:
        record(env, COUNT, 3, 10)
        env.cloud.grpc.fault = fault
        env.context.deadline_s = 5.0
        source = await opened(env)
        async with asyncio.timeout(env.context.deadline_s):
            assert (await read(source)).value == 3

    async def test_subscription_settings_are_reported_with_the_permissions(self, env: GcpEnvironment) -> None:
        topic = f"projects/{PROJECT}/topics/dead"
        env.cloud.pubsub.subscribe(
            PATH,
            ack_deadline_seconds=60,
            message_retention_duration=timedelta(days=7),
            dead_letter_policy=DeadLetterPolicy(dead_letter_topic=topic, max_delivery_attempts=5),
            enable_message_ordering=True,
            enable_exactly_once_delivery=True,
        )
        source = await opened(env)
        assert isinstance(source, Permitted)
        detail = {p.action: p.detail for p in await source.permits()}["pubsub.subscriptions.get"]
        for word in (
            "ack deadline 60 s",
            "retention 7 days",
            "after 5 delivery attempts",
            "ordering key",
            "exactly once",
        ):
            assert word in detail


async def test_messages_at_a_push_endpoint_are_in_flight(env: GcpEnvironment) -> None:
    record(env, COUNT, 9, 10)
    record(env, ROOT + "num_outstanding_messages", 4, 10)
    assert (await read(await opened(env, in_flight=True), "in_flight")).value == 4
