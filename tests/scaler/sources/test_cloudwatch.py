"""CloudWatch: many metrics per call, whole periods, and missing samples."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.metrics import Query, metrics
from scaler.config.kinds.aws_sources import CloudWatch, CloudWatchMetric
from scaler.ports import Misconfigured
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.aws import KEYS, REGION, isolate
from tests.servers.aws_cloudwatch import CloudWatchServer, cloudwatch


@dataclass
class SettableClock:
    """A clock that the test sets."""

    at: float = 1_800_000_030.0

    def now(self) -> float:
        return self.at

    async def sleep_until(self, t: float) -> None:
        self.at = max(self.at, t)

    def step_s(self) -> float:
        return 0.0


@dataclass
class SourceEnvironment:
    server: CloudWatchServer
    resources: Resources
    clock: SettableClock = field(default_factory=SettableClock)

    @property
    def account(self) -> AwsAccount:
        return AwsAccount(region=REGION, endpoint_url=self.server.url)

    async def open(self, **metrics_by_quantity: CloudWatchMetric) -> Any:
        return await open_source(
            CloudWatch(metrics=metrics_by_quantity, account=self.account),
            AdapterContext(self.resources, self.clock, DEADLINE_S),
        )


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[SourceEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with cloudwatch() as server, Resources() as resources:
        yield SourceEnvironment(server, resources)


def metric(name: str, **more: Any) -> CloudWatchMetric:
    return CloudWatchMetric(namespace="LLM", metric=name, **more)


@pytest.mark.slow
async def test_metrics_of_all_workloads_are_read_500_per_call(env: SourceEnvironment) -> None:
    for i in range(600):
        env.server.put(f"m{i}", 1_800_000_000 - 60, i)
    sources = [await env.open(**{f"q{j}": metric(f"m{10 * i + j}") for j in range(10)}) for i in range(60)]
    results = await asyncio.gather(*(s.sample() for s in sources))
    assert [r[f"q{j}"].value for r in results for j in range(10)] == list(range(600))
    assert sorted(env.server.calls) == [100, 500]


async def test_each_metric_is_read_once_per_period(env: SourceEnvironment) -> None:
    env.server.put("m", 1_800_000_000 - 60, 7)
    source = await env.open(n=metric("m"))
    for _ in range(4):
        assert (await source.sample())["n"] == Fresh(7.0, 1_800_000_000 - 60)
        env.clock.at += 7.4
    assert len(env.server.calls) == 1, "the same period"
    env.server.put("m", 1_800_000_000, 9)
    env.clock.at = 1_800_000_060.5
    assert (await source.sample())["n"] == Fresh(9.0, 1_800_000_000)
    assert len(env.server.calls) == 2


async def test_current_period_is_excluded(env: SourceEnvironment) -> None:
    env.server.put("m", 1_800_000_000 - 60, 7)
    env.server.put("m", 1_800_000_000, 2)  # of half a minute: a partial sum
    source = await env.open(n=metric("m", stat="Sum"))
    assert (await source.sample())["n"] == Fresh(7.0, 1_800_000_000 - 60)


async def test_missing_sample_is_absent_and_not_zero(env: SourceEnvironment) -> None:
    source = await env.open(n=metric("m"))
    reading = (await source.sample())["n"]
    assert isinstance(reading, Absent)
    assert "no sample" in reading.reason


async def test_incomplete_result_is_absent_with_its_status(env: SourceEnvironment) -> None:
    env.server.statuses["m"] = "InternalError"
    source = await env.open(n=metric("m"))
    reading = (await source.sample())["n"]
    assert isinstance(reading, Absent)
    assert "InternalError" in reading.reason


async def test_result_on_several_pages_is_one_series(env: SourceEnvironment) -> None:
    env.server.page = 1
    for i in range(1, 4):
        env.server.put("m", 1_800_000_000 - 60 * i, i)
    source = await env.open(n=metric("m"), other=metric("x"))
    readings = await source.sample()
    assert readings["n"] == Fresh(1.0, 1_800_000_000 - 60)
    assert isinstance(readings["other"], Absent)
    assert len(env.server.calls) > 1


async def test_invalid_query_does_not_fail_the_other_queries_of_its_call(env: SourceEnvironment) -> None:
    for i in range(9):
        env.server.put(f"m{i}", 1_800_000_000 - 60, i)
    env.server.wrong.add("m4")
    sources = [await env.open(n=metric(f"m{i}")) for i in range(9)]
    results = await asyncio.gather(*(s.sample() for s in sources), return_exceptions=True)
    wrong = results.pop(4)
    assert isinstance(wrong, Misconfigured)
    assert [r["n"].value for r in results if isinstance(r, dict)] == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize("value", [float("nan"), -1.0, float("inf")])
async def test_an_invalid_count_is_absent(env: SourceEnvironment, value: float) -> None:
    env.server.put("m", 1_800_000_000 - 60, value)
    source = await env.open(n=metric("m"))
    assert isinstance((await source.sample())["n"], Absent)


async def test_a_percentage_becomes_a_share(env: SourceEnvironment) -> None:
    env.server.put("GPUUtilization", 1_800_000_000 - 60, 87.0)
    source = await env.open(utilization=metric("GPUUtilization", divide_by=100))
    assert (await source.sample())["utilization"] == Fresh(0.87, 1_800_000_000 - 60)


async def test_each_period_has_its_own_aligned_read(env: SourceEnvironment) -> None:
    env.server.put("fast", 1_800_000_010, 3)
    env.server.put("slow", 1_800_000_000 - 300, 4)
    source = await env.open(fast=metric("fast", period_s=10), slow=metric("slow", period_s=300))
    readings = await source.sample()
    assert (readings["fast"], readings["slow"]) == (Fresh(3.0, 1_800_000_010), Fresh(4.0, 1_800_000_000 - 300))
    for start, end, period_s in env.server.windows:
        assert (start % period_s, end % period_s) == (0, 0)


async def test_metric_shared_by_two_workloads_is_queried_once(env: SourceEnvironment) -> None:
    env.server.put("m", 1_800_000_000 - 60, 7)
    first, second = await env.open(n=metric("m")), await env.open(n=metric("m"))
    results = await asyncio.gather(first.sample(), second.sample())
    assert list(results) == [{"n": Fresh(7.0, 1_800_000_000 - 60)}] * 2
    assert env.server.calls == [1]


async def test_urgent_read_does_not_wait_for_the_batch(env: SourceEnvironment) -> None:
    env.server.put("m", 1_800_000_000 - 60, 7)
    batch = await metrics(AdapterContext(env.resources, SystemClock(), DEADLINE_S), env.account, 60)
    query = Query("LLM", "m", (), "Average", 60)
    at, sample = await batch.get(query, urgent=True)
    assert datetime.fromtimestamp(at, UTC).year >= 2026
    assert sample is not None


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"metrics": {"a b": metric("m")}}, "metrics"),
        ({"metrics": {"n": metric("m", period_s=300)}}, "max_age_s"),
    ],
)
def test_invalid_cloudwatch_setting_is_refused(keys: dict[str, Any], key: str) -> None:
    assert key in {named for named, _ in CloudWatch(**keys).problems()}


def test_an_invalid_cloudwatch_period_is_refused() -> None:
    assert [named for named, _ in metric("m", period_s=45).problems()] == ["period_s"]
    assert not list(metric("m", period_s=10).problems())


async def test_a_missing_metric_does_not_hide_the_others(env: SourceEnvironment) -> None:
    env.server.put("good", 1_800_000_000 - 60, 7)
    env.server.wrong.add("bad")
    source = await env.open(good=metric("good"), bad=metric("bad"))
    readings = await source.sample()
    assert readings["good"] == Fresh(7.0, 1_800_000_000 - 60)
    assert isinstance(readings["bad"], Absent)
    assert "ValidationError" in readings["bad"].reason


@pytest.mark.slow
async def test_sagemaker_preset_reads_each_metric_in_its_own_resolution(env: SourceEnvironment) -> None:
    match = {"InferenceComponentName": "llama"}
    spec = CloudWatch(preset="sagemaker_inference_component", match=match, account=env.account)
    source = await open_source(spec, AdapterContext(env.resources, env.clock, DEADLINE_S))
    env.server.put("ConcurrentRequestsPerCopy", 1_800_000_010, 7)
    readings = await source.sample()
    assert readings["concurrent_requests_per_replica"] == Fresh(7.0, 1_800_000_010)
    assert isinstance(readings["no_capacity_failures"], Absent), "SageMaker documents no zero"
    assert {period for _, _, period in env.server.windows} == {10, 60}
    assert {m.dimensions["InferenceComponentName"] for m in spec.all_metrics().values()} == {"llama"}


@pytest.mark.slow
async def test_bedrock_preset_reads_rates_per_second_and_latencies_in_seconds(env: SourceEnvironment) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/0123456789ab"
    spec = CloudWatch(preset="bedrock", match={"ModelId": arn}, account=env.account)
    source = await open_source(spec, AdapterContext(env.resources, env.clock, DEADLINE_S))
    for name, value in {"Invocations": 120, "EstimatedTPMQuotaUsage": 90_000, "TimeToFirstToken": 450}.items():
        env.server.put(name, 1_799_999_940, value)
    readings = await source.sample()
    values = {quantity: r.value for quantity, r in readings.items() if isinstance(r, Fresh)}
    assert values == {
        "requests_per_s": 2.0,
        "quota_tokens_per_s": 1500.0,
        "ttft_mean_s": pytest.approx(0.45),
        "ttft_p95_s": pytest.approx(0.45),
    }
    assert isinstance(readings["throttles_per_s"], Absent), "AWS documents no zero"
    assert {m.dimensions["ModelId"] for m in spec.all_metrics().values()} == {arn}


@pytest.mark.slow
async def test_count_of_events_is_zero_only_where_declared_and_complete(env: SourceEnvironment) -> None:
    env.server.statuses["broken"] = "InternalError"
    events = {name: metric(name, stat="Sum", if_absent="zero") for name in ("failures", "broken")}
    readings = await (await env.open(**events, plain=metric("plain"))).sample()
    assert readings["failures"] == Fresh(0.0, 1_799_999_940)
    assert isinstance(readings["broken"], Absent)
    assert isinstance(readings["plain"], Absent)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({}, ""),
        ({"match": {"EndpointName": "e"}, "metrics": {"n": metric("n")}}, "match"),
        ({"preset": "sagemaker_variant", "match": {"EndpointName": "e"}}, "match"),
        ({"preset": "sagemaker_variant"}, "match"),
    ],
)
def test_preset_without_its_dimensions_is_refused(keys: dict[str, Any], key: str) -> None:
    assert [problem for problem, _ in CloudWatch(**keys).problems()] == [key]


def test_metric_takes_precedence_over_the_preset() -> None:
    own = metric("own")
    match = {"EndpointName": "e", "VariantName": "v"}
    spec = CloudWatch(preset="sagemaker_variant", match=match, metrics={"concurrent_requests_per_replica": own})
    assert spec.all_metrics() == {"concurrent_requests_per_replica": own}
