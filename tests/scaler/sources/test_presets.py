"""The table of presets, and the choices of a configuration."""

from __future__ import annotations

from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, get_args

import pytest

from policies.model import Fresh
from policies.model.spec import Slo
from policies.recommend.threshold import Concurrency, GpuUtilization, KvCacheUsage
from policies.signals.latency_quantities import LATE_SHARE_BY_LIMIT, LATENCIES, QUANTITIES
from policies.signals.plausibility import SHARES
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.engines.presets import PRESETS, Preset, Recipe
from scaler.clouds.http_access import Access
from scaler.config.kinds.engines import Scrape
from scaler.config.kinds.prometheus import Prometheus
from scaler.config.load import load
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.promql import lost_targets_query, scrapes_query, selector, time_query, value_query
from tests.factories import DEADLINE_S
from tests.servers.exporter import Engine, exporter, gauges

TPU = 'container="vllm",model="tpu-v6e-slice",namespace="default",pod="llm-0",tpu_topology="2x2",make="cloud-tpu"'
PAGES = {
    "neuron": gauges(
        "neuroncore_utilization_ratio",
        {
            'neuroncore="0",instance_type="inf2.xlarge",availability_zone="us-east-1c",runtime_tag="367"': 0.863,
            'neuroncore="1",instance_type="inf2.xlarge",availability_zone="us-east-1c",runtime_tag="367"': 0.0,
        },
    ),
    "tpu": gauges(
        "duty_cycle",
        {
            f'accelerator_id="1-0",{TPU}': 20.0,
            f'accelerator_id="1-1",{TPU}': 40.0,
            'accelerator_id="n-0",make="nvidia",model="nvidia-l4",pod="other"': 99.0,
        },
    )
    + gauges("tensorcore_utilization", {f'accelerator_id="1-0",{TPU}': 20.0, f'accelerator_id="1-1",{TPU}': 30.0})
    + gauges("memory_bandwidth_utilization", {f'accelerator_id="1-0",{TPU}': 11, f'accelerator_id="1-1",{TPU}': 12}),
}
"""Pages in the format of neuron-monitor's exporter and GKE's TPU device plugin."""
ROOT = Path(__file__).parents[3]
ALL = [pytest.param(p, q, r, id=f"{p}-{q}") for p, table in PRESETS.items() for q, r in table.items()]


def test_configuration_accepts_exactly_the_presets_of_the_table() -> None:
    assert get_args(Preset) == tuple(PRESETS)


@pytest.mark.parametrize(("preset", "quantity", "recipe"), ALL)
def test_recipe_aggregation_fits_its_quantity(preset: str, quantity: str, recipe: Recipe) -> None:
    assert (recipe.aggregation in {"mean", "late"}) == (quantity in SHARES)
    assert (recipe.aggregation == "average") == quantity.endswith("_mean_s")
    assert (recipe.aggregation == "late") == quantity.endswith("_late_share")
    assert recipe.slo == (quantity.removesuffix("_late_share") + "_s" if recipe.aggregation == "late" else "")
    assert (recipe.aggregation == "rate") == quantity.endswith("_per_s")
    assert (recipe.aggregation == "p95") == quantity.endswith("_p95_s")
    assert len(set(recipe.names)) == len(recipe.names)


@pytest.mark.parametrize(
    ("preset", "promises"), [("vllm", {*LATENCIES}), ("sglang", {"ttft_s"}), ("triton", {"ttft_s"})]
)
def test_engine_preset_has_all_readings_of_each_latency_slo(preset: str, promises: set[str]) -> None:
    quantities = {*QUANTITIES} & PRESETS[preset].keys()
    assert {q for slo in promises for q in astuple(LATENCIES[slo])[:3]} <= quantities
    assert {slo for slo, latency in LATENCIES.items() if latency.late_share in quantities} == promises
    assert promises <= {slo.name for slo in fields(Slo)}
    for slo in promises:
        mean, late, p95 = (PRESETS[preset][q].names for q in astuple(LATENCIES[slo])[:3])
        assert late == mean[: len(late)] == p95[: len(late)], "all readings of a latency come from one histogram"


@pytest.mark.parametrize(
    ("preset", "limits"),
    [
        ("vllm", {"ttft_s", "itl_s", "e2e_s"}),
        ("sglang", {"ttft_s", "e2e_s"}),
        ("tgi", {"e2e_s"}),
        ("triton", {"ttft_s"}),
    ],
)
def test_preset_measures_the_error_budget_of_these_limits(preset: str, limits: set[str]) -> None:
    assert {limit for limit, share in LATE_SHARE_BY_LIMIT.items() if share in PRESETS[preset]} == limits
    assert "requests_per_s" in PRESETS[preset], "an error budget counts requests"


@pytest.mark.parametrize("preset", ["vllm", "sglang", "triton_trtllm"])
def test_engine_preset_provides_the_signals_of_the_policies(preset: Any) -> None:
    offered = Prometheus(url="http://x", preset=preset).quantities()
    assert {*Concurrency().needs(), *KvCacheUsage().needs()} <= offered.keys()
    assert offered == Scrape(urls=("http://x:1/metrics",), preset=preset).quantities()


def test_dcgm_preset_provides_gpu_utilization() -> None:
    assert {*GpuUtilization().needs()} <= Prometheus(url="http://x", preset="dcgm").quantities().keys()


@pytest.mark.parametrize("preset", ["dcgm", "neuron", "tpu"])
def test_accelerator_preset_provides_utilization(preset: Any) -> None:
    assert {*GpuUtilization().needs()} <= Scrape(urls=("http://x:1/metrics",), preset=preset).quantities().keys()


@pytest.mark.parametrize(
    ("preset", "match", "expected"),
    [
        ("neuron", {"neuroncore": "0"}, {"utilization": 0.863}),
        ("neuron", {}, {"utilization": 0.4315}),
        ("tpu", {"make": "cloud-tpu"}, {"utilization": 0.3, "tensor_active": 0.25, "memory_active": 0.115}),
    ],
)
async def test_accelerator_pages_are_read_as_shares(
    preset: Any, match: dict[str, str], expected: dict[str, float]
) -> None:
    async with exporter({"node": Engine(PAGES[preset])}) as served, Resources() as resources:
        spec = Scrape(preset=preset, urls=(served.url("node"),), match=match)
        source = await open_source(spec, AdapterContext(resources, SystemClock(), DEADLINE_S))
        read = await source.sample()
    values = {quantity: reading.value for quantity, reading in read.items() if isinstance(reading, Fresh)}
    assert values == pytest.approx(expected)


def test_rates_and_latencies_are_read_only_if_listed() -> None:
    assert [*Prometheus(url="http://x", preset="vllm").quantities()] == ["running", "waiting", "kv_cache_usage"]
    named = Prometheus(url="http://x", preset="vllm", read=("waiting", "ttft_p95_s"), max_age_s=90)
    assert named.quantities() == {"waiting": 90, "ttft_p95_s": 90, "rate_window_s": 90}


def test_a_configured_query_overrides_the_preset() -> None:
    spec = Prometheus(url="http://x", preset="vllm", queries={"waiting": "mine"})
    assert [*spec.quantities()] == ["running", "kv_cache_usage", "waiting"]
    assert "waiting" not in spec.recipes()


@pytest.mark.parametrize(
    ("recipe", "promql"),
    [
        (Recipe(("a",), "sum", {"kind": "waiting"}), 'sum(a{pod="p",kind="waiting"})'),
        (Recipe(("a", "b"), "mean", divisor=100), 'avg(a{pod="p"} or b{pod="p"}) / 100'),
        (Recipe(("a", "b"), "rate"), 'sum(rate(a{pod="p"}[60000ms]) or rate(b{pod="p"}[60000ms]))'),
        (
            Recipe(("a_ms",), "p95", divisor=1000),
            'histogram_quantile(0.95, sum by (le) (rate(a_ms_bucket{pod="p"}[60000ms]))) / 1000',
        ),
        (
            Recipe(("a_ms",), "average", divisor=1000),
            'sum(rate(a_ms_sum{pod="p"}[60000ms])) / 1000 / sum(rate(a_ms_count{pod="p"}[60000ms]))',
        ),
        (
            Recipe(("a", "b"), "average"),
            (
                'sum(rate(a_sum{pod="p"}[60000ms]) or rate(b_sum{pod="p"}[60000ms]))'
                ' / sum(rate(a_count{pod="p"}[60000ms]) or rate(b_count{pod="p"}[60000ms]))'
            ),
        ),
        (Recipe(("a_ms",), "late", divisor=1000), 'sum by (le) (rate(a_ms_bucket{pod="p"}[60000ms]))'),
        (
            Recipe(("a", "b", "c"), "late"),
            (
                'sum by (le) (rate(a_bucket{pod="p"}[60000ms])'
                ' or (rate(b_bucket{pod="p"}[60000ms]) unless ignoring (le) rate(a_bucket{pod="p"}[60000ms]))'
                ' or (rate(c_bucket{pod="p"}[60000ms]) unless ignoring (le) rate(a_bucket{pod="p"}[60000ms])'
                ' unless ignoring (le) rate(b_bucket{pod="p"}[60000ms])))'
            ),
        ),
    ],
)
def test_recipe_is_translated_to_promql(recipe: Recipe, promql: str) -> None:
    assert value_query(recipe, {"pod": "p"}, 60) == promql


def test_time_and_lost_targets_are_translated_to_promql() -> None:
    recipe = Recipe(("a", "b"), "sum")
    assert time_query(recipe, {}) == "min(timestamp(a{}) or timestamp(b{}))"
    assert lost_targets_query(recipe, {}) == (
        "count(group by (job, instance) (last_over_time(a{}[300s]) or last_over_time(b{}[300s]))"
        " and on (job, instance) (up == 0))"
    )


def test_samples_of_a_target_are_counted_over_five_minutes() -> None:
    assert scrapes_query(Recipe(("a", "b"), "sum"), {}) == (
        "max((count_over_time(a{}[300s]) and (a{} offset 300s)) or (count_over_time(b{}[300s]) and (b{} offset 300s)))"
    )


def test_time_of_a_mean_is_that_of_its_older_part() -> None:
    assert time_query(Recipe(("a",), "average", divisor=1000), {}) == "min(timestamp(a_sum{}) or timestamp(a_count{}))"


def test_one_query_reads_the_series_of_many_workloads() -> None:
    match, by = {"x": ("m1", "a.b|c")}, ("x",)
    gauge, histogram = Recipe(("a",), "sum", divisor=100), Recipe(("a",), "late")
    assert value_query(gauge, match, 60, by) == 'sum by (x)(a{x=~"m1|a\\\\.b\\\\|c"}) / 100'
    assert time_query(gauge, match, by) == 'min by (x)(timestamp(a{x=~"m1|a\\\\.b\\\\|c"}))'
    assert value_query(histogram, {"le": ("1",)}, 60, ("le",)) == 'sum by (le) (rate(a_bucket{le=~"1"}[60000ms]))'
    assert lost_targets_query(gauge, {"job": ("j",)}, ("job",)) == (
        'count by (job)(group by (job, instance) (last_over_time(a{job=~"j"}[300s])) and on (job, instance) (up == 0))'
    )


def test_label_values_are_quoted() -> None:
    assert selector("a", {"x": 'q"\\\n\tü'}) == 'a{x="q\\"\\\\\\n\\tü"}'


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({}, "", "reads no metric"),
        ({"read": ("waiting",)}, "read", "names waiting, which the preset does not provide; set preset first"),
        ({"preset": "tgi", "read": ("waitng",)}, "read", "it provides running, waiting"),
        ({"queries": {"x": "1"}, "match": {"a": "b"}}, "match", "requires preset"),
        ({"preset": "vllm", "match": {"__name__": "up"}}, "match", "is not a label name"),
        ({"preset": "vllm", "match": {"a b": "up"}}, "match", "is not a label name"),
        ({"preset": "triton_trtllm", "match": {"request_type": "max"}}, "match", "which the preset itself sets"),
        ({"queries": {"a-b": "1"}}, "queries", "is not a valid quantity name"),
        (
            {"queries": {"a": "1"}, "timestamp_queries": {"b": "1"}},
            "timestamp_queries",
            "names 'b', which is not in queries",
        ),
    ],
)
def test_invalid_prometheus_setting_is_refused(fields: dict[str, Any], field: str, rule: str) -> None:
    assert [f for f, text in Prometheus(url="http://x", **fields).problems() if rule in text] == [field]


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({}, "urls", "and service exclude each other"),
        ({"urls": ("http://a/m",), "service": "http://b/m"}, "urls", "and service exclude each other"),
        ({"urls": ("http://a/m", "http://a/m")}, "urls", "twice"),
        ({"urls": ("a:8000",)}, "urls", "must be URLs such as"),
        ({"urls": ("http://me:pass@a/m",)}, "urls", "must be URLs such as"),
        ({"service": "http://a:99999/m"}, "service", "must be a URL such as"),
    ],
)
def test_invalid_scrape_address_is_refused(fields: dict[str, Any], field: str, rule: str) -> None:
    assert [f for f, text in Scrape(preset="vllm", **fields).problems() if rule in text] == [field]


@pytest.mark.parametrize(
    ("access", "rule"),
    [
        (Access(username="me"), "must be set together"),
        (Access(headers={"Authorization": "Bearer x"}), "must not contain secrets"),
        (Access(headers={"X-A": "b\r\nX-C: d"}), "must be valid HTTP headers, each on one line"),
        (Access(headers={"X A": "b"}), "must be valid HTTP headers, each on one line"),
    ],
)
def test_invalid_credentials_are_refused(access: Access, rule: str) -> None:
    assert any(rule in text for _, text in access.problems())


@pytest.mark.parametrize("name", ["vllm-prometheus", "vllm-scrape"])
def test_example_workloads_load(name: str) -> None:
    workloads = load([ROOT / "config" / "workloads" / f"{name}.yaml"]).workloads
    assert [*workloads] == ["vllm-llama"]


def test_credentials_are_configured_as_file_references(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2-token", encoding="utf-8")
    text = (ROOT / "config" / "workloads" / "vllm-prometheus.yaml").read_text(encoding="utf-8")
    access = f"    access: {{bearer_token: {{file: {token}}}, headers: {{X-Scope-OrgID: llm}}}}\n"
    file = tmp_path / "workload.yaml"
    file.write_text(text.replace("    # access:\n", access), encoding="utf-8")
    (workload,) = load([file]).workloads.values()
    sent = workload.spec.sources["engines"].access.request_headers()
    assert sent == {"Authorization": "Bearer hunter2-token", "X-Scope-OrgID": "llm"}
    assert "hunter2-token" not in str(workload.document)
