"""Cloud Monitoring: filters, presets, sums that settle, PromQL, and parts that are missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.config.kinds.gcp_sources import CloudMonitoring, GcpMetric
from scaler.ports import Misconfigured, Source
from tests.scaler.clouds.gcp_place import GcpEnvironment, gcp_environment

GPU = "kubernetes.io/container/accelerator/duty_cycle"
TPU = "kubernetes.io/node/accelerator/"
RATE = "custom.googleapis.com/requests"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path) as environment:
        yield environment


async def opened(env: GcpEnvironment, **more: Any) -> Source:
    return await open_source(CloudMonitoring(project=env.cloud.project(), **more), env.context)


def record(env: GcpEnvironment, metric: str, value: float, age_s: float, **resource: str) -> None:
    env.cloud.monitoring.record(metric, value, env.clock.now() - age_s, labels=None, **resource)


async def read(source: Source, quantity: str) -> Fresh[float]:
    reading = (await source.sample())[quantity]
    assert isinstance(reading, Fresh), reading
    return reading


async def test_gpu_utilization_is_the_mean_over_a_namespace(env: GcpEnvironment) -> None:
    for pod, value in (("a", 90.0), ("b", 70.0)):
        record(env, GPU, value, 20, namespace_name="llm", pod_name=pod)
    record(env, GPU, 5.0, 20, namespace_name="other")
    source = await opened(env, preset="gke_gpu", match={"namespace_name": "llm"})
    reading = await read(source, "utilization")
    assert reading.value == pytest.approx(0.8)
    assert 59 < env.clock.now() - reading.measured_at < 125, "a mean has the time of its period's start"


async def test_tpu_preset_reads_utilization_tensor_cores_and_memory(env: GcpEnvironment) -> None:
    for name, value in (("duty_cycle", 80.0), ("tensorcore_utilization", 40.0), ("memory_bandwidth_utilization", 60.0)):
        record(env, TPU + name, value, 20, cluster_name="serving")
    source = await opened(env, preset="gke_tpu", match={"cluster_name": "serving"})
    values = {q: (await read(source, q)).value for q in ("utilization", "tensor_active", "memory_active")}
    assert values == {"utilization": 0.8, "tensor_active": 0.4, "memory_active": 0.6}


async def test_a_share_above_one_is_rejected(env: GcpEnvironment) -> None:
    record(env, GPU, 180.0, 20)
    reading = (await (await opened(env, preset="gke_gpu")).sample())["utilization"]
    assert reading == Absent("1.8 is not a share from 0 to 1")


async def test_sum_uses_the_newest_period_with_samples_of_all_series(env: GcpEnvironment) -> None:
    metric = GcpMetric(filter=f'metric.type = "{RATE}"', reducer="sum")
    for pod in ("a", "b"):
        record(env, RATE, 10, 150, pod_name=pod)
    record(env, RATE, 10, 30, pod_name="a")  # the sample of b is not available yet
    reading = await read(await opened(env, metrics={"requests_per_s": metric}), "requests_per_s")
    assert reading.value == 20


async def test_unreadable_part_makes_a_sum_a_lower_bound_and_a_mean_absent(env: GcpEnvironment) -> None:
    of = f'metric.type = "{RATE}"'
    record(env, RATE, 10, 150)
    env.cloud.monitoring.errors = [{"code": 14, "message": "a location is unavailable"}]
    chosen = {"total": GcpMetric(filter=of, reducer="sum"), "mean": GcpMetric(filter=of, reducer="mean")}
    source = await opened(env, metrics=chosen)
    assert "a location is unavailable" in (await read(source, "total")).missing
    assert isinstance((await source.sample())["mean"], Absent)


async def test_invalid_filter_does_not_hide_other_metrics(env: GcpEnvironment) -> None:
    record(env, GPU, 50.0, 20)
    wrong = GcpMetric(filter='metric.type=starts_with("x")')
    readings = await (await opened(env, preset="gke_gpu", metrics={"depth": wrong})).sample()
    assert isinstance(readings["utilization"], Fresh)
    assert "does not specify a valid combination" in str(readings["depth"])
    with pytest.raises(Misconfigured, match="valid combination"):
        await (await opened(env, metrics={"depth": wrong})).sample()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("result", "value"),
    [
        ([{"metric": {}, "value": [1.0, "7.5"]}], 7.5),
        ([], None),
        ([{"metric": {"a": "1"}, "value": [1.0, "1"]}, {"metric": {"a": "2"}, "value": [1.0, "1"]}], None),
        ([{"metric": {}, "value": [1.0, "NaN"]}], None),
        ([{"metric": {}, "value": "7"}], None),
    ],
    ids=["one", "none", "two", "NaN", "no sample"],
)
async def test_promql_result_is_one_number_or_absent(
    env: GcpEnvironment, result: list[Any], value: float | None
) -> None:
    promql = 'sum(rate(vllm:request_success_total{cluster="serving"}[2m]))'
    env.cloud.monitoring.prometheus = {promql: result}
    reading = (await (await opened(env, promql={"done_per_s": promql})).sample())["done_per_s"]
    assert reading == Fresh(value, 1.0) if value is not None else isinstance(reading, Absent)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, "reads no metric; set preset, metrics or promql"),
        ({"promql": {"a b": "up"}}, "is not a valid quantity name"),
        (
            {"promql": {"x": "up"}, "metrics": {"x": GcpMetric(filter="metric.type=x")}},
            "defines x, which metrics also defines",
        ),
        ({"promql": {"x": "up"}, "match": {"a": "b"}}, "requires preset"),
    ],
)
async def test_contradictory_settings_are_refused(env: GcpEnvironment, settings: dict[str, Any], error: str) -> None:
    spec = CloudMonitoring(project=env.cloud.project(), **settings)
    assert error in " ".join(text for _, text in spec.problems())


class TestManagedPresets:
    ONLINE = "aiplatform.googleapis.com/prediction/online/"
    PROVISIONED = "aiplatform.googleapis.com/publisher/online_serving/"
    RUN = "run.googleapis.com/"

    def record(self, env: GcpEnvironment, metric: str, value: float, labels: dict[str, str], **resource: str) -> None:
        """Add samples that are as old as those that a sum reads, and as those that a mean reads."""
        for age_s in (150, 20):
            at = env.clock.now() - age_s
            env.cloud.monitoring.record(metric, value, at, labels=labels, **resource)

    async def test_vertex_reads_one_deployed_model(self, env: GcpEnvironment) -> None:
        values = {"replicas": 3, "target_replicas": 4, "prediction_count": 240, "accelerator/duty_cycle": 0.75}
        for model, factor in (("7", 1), ("8", 10)):
            for name, value in values.items():
                labels = {"deployed_model_id": model}
                self.record(env, self.ONLINE + name, value * factor, labels, endpoint_id="123")
        match = {"endpoint_id": "123", "metric.deployed_model_id": "7"}
        readings = await (await opened(env, preset="vertex", match=match)).sample()
        fresh = {q: r.value for q, r in readings.items() if isinstance(r, Fresh)}
        assert fresh == {"replicas": 3, "native_replicas": 4, "requests_per_s": 4, "utilization": 0.75}
        assert isinstance(readings["errors_per_s"], Absent), "a metric without samples is not 0"

    async def test_provisioned_throughput_tells_dedicated_from_spillover(self, env: GcpEnvironment) -> None:
        for request_type, count in (("dedicated", 600), ("shared", 60), ("spillover", 120)):
            labels = {"request_type": request_type}
            self.record(env, self.PROVISIONED + "model_invocation_count", count, labels, model_user_id="gemini")
        self.record(env, self.PROVISIONED + "dedicated_gsu_limit", 5, {}, model_user_id="gemini")
        source = await opened(env, preset="vertex_provisioned", match={"model_user_id": "gemini"})
        names = ("dedicated_requests_per_s", "spillover_requests_per_s", "gsu_limit")
        assert [(await read(source, name)).value for name in names] == [10, 3, 5]

    async def test_cloud_run_reads_the_recommendation_of_the_larger_driver(self, env: GcpEnvironment) -> None:
        for state, count in (("active", 2), ("idle", 1)):
            self.record(env, self.RUN + "container/instance_count", count, {"state": state}, service_name="vllm")
        for driver, count in (("cpu", 2), ("concurrency", 5)):
            labels = {"scaling_driver": driver}
            self.record(env, self.RUN + "scaling/recommended_instances", count, labels, service_name="vllm")
        self.record(env, self.RUN + "pending_queue/pending_requests", 6, {}, service_name="vllm")
        source = await opened(env, preset="cloud_run", match={"service_name": "vllm"})
        names = ("instances", "native_replicas", "waiting")
        assert [(await read(source, name)).value for name in names] == [3, 5, 6]
        aggregations = {"ALIGN_PERCENTILE_95", "ALIGN_PERCENTILE_50", "ALIGN_RATE", "ALIGN_MAX"}
        assert aggregations == set(env.cloud.monitoring.aligners), "distributions need percentiles"
