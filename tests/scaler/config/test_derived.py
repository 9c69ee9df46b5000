"""A workload that names only its source, SLO and pool: what follows from these, and what prevents it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.model.spec import Slo, WorkloadSpec
from policies.recommend.predictive.policy import Predictive
from scaler.config.derived import complete, slo_quantities
from scaler.config.load import Workload, load, workload_from
from scaler.config.model_rates import MODEL_RATES
from scaler.config.partners import Partners
from scaler.config.problems import ConfigError
from scaler.config.warnings import warnings
from simulators.engine.models.rate_table import module_text

ROOT = Path(__file__).parents[3]
ENGINES: dict[str, Any] = {"kind": "prometheus", "url": "http://p:9090", "preset": "vllm"}
SHORT: dict[str, Any] = {
    "workload": "chat",
    "max_replicas": 20,
    "slo": {"ttft_s": 2.5},
    "sources": {"engines": ENGINES},
    "pools": {"gpus": {"kind": "kubernetes", "name": "vllm"}},
}
LOAD = ["running", "waiting", "kv_cache_usage", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"]


def short(**changes: Any) -> Workload:
    """Return the short workload with changed settings."""
    return workload_from({**SHORT, **changes})


def refused(**changes: Any) -> dict[str, str]:
    """Return the rules and hints of the problems of a changed workload, by place."""
    with pytest.raises(ConfigError) as caught:
        short(**changes)
    return {problem.path: f"{problem.rule} ({problem.hint})" for problem in caught.value.problems}


def predictive(spec: WorkloadSpec) -> Predictive:
    (policy,) = spec.policies.values()
    assert isinstance(policy, Predictive)
    return policy


def warned(spec: WorkloadSpec) -> dict[str, str]:
    return {".".join(map(str, place)): f"{rule} ({hint})" for place, rule, hint in warnings(spec, Partners())}


# --- the policy


def test_engine_load_without_policies_is_sized_by_the_predictive_policy() -> None:
    workload = short()
    assert predictive(workload.spec).source == "engines"
    assert [*workload.document["policies"]] == ["predictive"], "the journal records the policy"
    assert workload_from(workload.document).spec == workload.spec


@pytest.mark.parametrize("preset", ["vllm", "sglang"])
@pytest.mark.parametrize(
    "kind", [{"kind": "prometheus", "url": "http://p"}, {"kind": "scrape", "urls": ["http://e:8000/metrics"]}]
)
def test_each_source_of_engine_load_has_the_default_policy(preset: str, kind: dict[str, Any]) -> None:
    assert predictive(short(sources={"engines": {**kind, "preset": preset}}).spec).source == "engines"


def test_embedded_engines_have_the_default_policy() -> None:
    sources = {"engines": {"kind": "embedded", "offers": "engines"}}
    assert predictive(short(sources=sources, pools={"gpus": {"kind": "embedded"}}).spec).rate_window_s == 60.0


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        pytest.param(
            {"kind": "embedded", "offers": "queue"}, "add a policy, or a source with preset: vllm", id="queue"
        ),
        pytest.param({**ENGINES, "preset": "dcgm"}, "add a policy, or a source with preset: vllm", id="GPUs"),
        pytest.param({**ENGINES, "read": LOAD[:-1]}, "add generation_tokens_per_s to it", id="a list without rates"),
    ],
)
def test_policies_are_required_without_engine_load(source: dict[str, Any], remedy: str) -> None:
    problem = refused(sources={"it": source})["policies"]
    assert problem.startswith("is required: no source reports the load of engines")
    assert remedy in problem


def test_two_sources_of_engine_load_need_a_choice() -> None:
    problem = refused(sources={"a": ENGINES, "b": ENGINES})["policies.predictive.source"]
    assert "set source to a or b" in problem


# --- the readings


def test_source_reads_the_load_and_the_measurement_of_the_slo() -> None:
    (source,) = short().spec.sources.values()
    assert [*source.quantities()] == [*LOAD, "ttft_mean_s", "ttft_late_share", "ttft_p95_s", "rate_window_s"]


def test_source_reads_only_what_its_policies_need() -> None:
    gauges = short(slo=None, policies={"it": {"kind": "concurrency"}}).spec.sources["engines"]
    assert [*gauges.quantities()] == LOAD[:3]
    rate = {"it": {"kind": "metric", "quantity": "preemptions_per_s", "target": 1}}
    assert [*short(slo=None, policies=rate).spec.sources["engines"].quantities()] == [
        *LOAD[:3],
        "preemptions_per_s",
        "rate_window_s",
    ]


def test_readings_follow_a_named_trigger_and_an_additional_source() -> None:
    gpus = {**ENGINES, "preset": "dcgm"}
    policy = {"kind": "predictive", "source": "engines", "gpu_activity": "gpus"}
    sources = short(sources={"engines": ENGINES, "gpus": gpus}, policies={"it": policy}).spec.sources
    assert [*sources["gpus"].quantities()] == ["utilization", "tensor_active", "memory_active"]
    metrics = [{"source": "engines", "quantities": ["generation_tokens_per_s"], "target": 500}]
    spec = short(slo=None, policies={"it": {"kind": "hpa", "metrics": metrics}}).spec
    assert "generation_tokens_per_s" in spec.sources["engines"].quantities()


def test_explicit_list_is_kept_and_must_have_what_the_policy_needs() -> None:
    complete_list = [quantity for quantity in LOAD if quantity != "kv_cache_usage"]
    source = short(sources={"engines": {**ENGINES, "read": complete_list}}).spec.sources["engines"]
    assert [*source.quantities()] == [*complete_list, "rate_window_s"]
    short_list = {"engines": {**ENGINES, "read": complete_list[:-1]}}
    problem = refused(sources=short_list, policies={"it": {"kind": "predictive"}})["policies.it.source"]
    assert "remove sources.engines.read, or add generation_tokens_per_s to it" in problem


def test_slo_is_measured_by_the_latencies_that_it_limits() -> None:
    assert slo_quantities(None) == ()
    assert slo_quantities(Slo(itl_s=0.05)) == ("requests_per_s", "itl_mean_s", "itl_late_share", "itl_p95_s")


# --- the window


def test_policy_follows_the_window_of_its_source() -> None:
    assert predictive(short().spec).rate_window_s is None, "the source reports it"
    assert predictive(short(sources={"engines": {**ENGINES, "window_s": 40}}).spec).capacity.window_s == 40.0
    pages = {"kind": "scrape", "preset": "vllm", "urls": ["http://e:8000/metrics"]}
    assert predictive(short(sources={"engines": pages}, interval_s=20).spec).capacity.window_s == 20.0


def test_two_different_windows_are_refused_with_both_places(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(
        "workload: chat\nmax_replicas: 4\nsources:\n"
        "  engines: {kind: prometheus, url: 'http://p', preset: vllm, window_s: 40}\n"
        "policies:\n  it: {kind: predictive, rate_window_s: 60}\npools:\n  gpus: {kind: kubernetes, name: vllm}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load([file])
    (problem,) = caught.value.problems
    assert (problem.path, problem.line, problem.value) == ("policies.it.rate_window_s", 6, "60")
    assert problem.rule == "must equal sources.engines.window_s, 40"


# --- the first guess


def test_table_of_throughput_equals_the_catalogue() -> None:
    text = (ROOT / "scaler" / "config" / "model_rates.py").read_text(encoding="utf-8")
    assert text == module_text(), "run make schema"


def test_model_gives_the_first_guess() -> None:
    capacity = predictive(short(model="llama-3.1-70b-h100x4").spec).capacity
    assert (capacity.prompt_tokens_per_s, capacity.generation_tokens_per_s) == MODEL_RATES["llama-3.1-70b-h100x4"]
    own = {"it": {"kind": "predictive", "prompt_tokens_per_s": 1000, "generation_tokens_per_s": 200}}
    capacity = predictive(short(model="llama-3.1-70b-h100x4", policies=own).spec).capacity
    assert (capacity.prompt_tokens_per_s, capacity.generation_tokens_per_s) == (1000, 200)


def test_unknown_model_is_refused_with_a_similar_one() -> None:
    assert refused(model="llama-3.1-8b-h100-vlm")["model"].endswith("(did you mean 'llama-3.1-8b-h100-vllm'?)")


# --- the SLO


def test_only_named_limits_are_promised() -> None:
    assert (Slo(ttft_s=2.0).limits_s, Slo(e2e_s=9.0).limits_s) == ({"ttft_s": 2.0}, {"e2e_s": 9.0})
    assert "an SLO needs a limit" in next(iter(Slo().problems()))[1]


# --- warnings


def test_short_workload_has_no_warning() -> None:
    assert warned(short().spec) == {}


@pytest.mark.parametrize(
    ("changes", "place", "text"),
    [
        (
            {"slo": {"ttft_s": 2.0}},
            "slo.ttft_s",
            "late share between bounds is interpolated (set it to 1 or 2.5, the nearest bounds)",
        ),
        ({"slo": {"itl_s": 0.001}}, "slo.itl_s", "(set it to 0.01, the nearest bounds)"),
        ({"slo": {"ttft_s": 5000}}, "slo.ttft_s", "(set it to 2560, the nearest bounds)"),
        ({"slo": {"e2e_s": 30.0}}, "slo.e2e_s", "no source reports the duration of whole requests"),
        (
            {"sources": {"engines": {**ENGINES, "read": LOAD}}},
            "slo.ttft_s",
            "no source reads ttft_late_share (remove sources.engines.read, or add ttft_late_share to it)",
        ),
        (
            {"sources": {"engines": {**ENGINES, "preset": "sglang"}}, "slo": {"itl_s": 0.05}},
            "slo.itl_s",
            "is estimated from means: no source reads itl_late_share",
        ),
        ({"policies": {"it": {"kind": "concurrency"}}}, "policies.it", "ignores the SLO: its own target sets the size"),
        (
            {"sources": {"engines": {**ENGINES, "window_s": 30}}},
            "sources.engines.window_s",
            "is less than two scrape intervals of 30 s",
        ),
        (
            {"max_replicas": 3, "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "quantum": 4}}},
            "pools.gpus",
            "never has a replica: its quantum is 4, and at most 3 is allowed (set max_replicas to 4 or more)",
        ),
    ],
)
def test_setting_that_does_less_than_it_says_is_named(changes: dict[str, Any], place: str, text: str) -> None:
    assert text in warned(short(**changes).spec)[place]


def test_policy_that_adds_to_demand_does_not_ignore_the_slo() -> None:
    policies = {"it": {"kind": "predictive"}, "spare": {"kind": "headroom"}}
    assert warned(short(policies=policies).spec) == {}


def test_completion_is_idempotent() -> None:
    spec = short(model="llama-3.1-8b-l40s").spec
    assert complete(spec) == (spec, [])
    assert complete(replace(spec, slo=None))[0].policies == spec.policies


def test_default_policy_has_its_own_windows_where_none_are_set() -> None:
    model = {"model": "llama-3.1-8b-h100-vllm"}
    named, unnamed = short(**model).spec, short().spec
    assert (named.tolerance, named.scale_down.window_s) == (0.0, 60.0)
    assert (unnamed.tolerance, unnamed.scale_down.window_s) == (0.0, 300.0), "an unknown capacity is released slowly"
    own = short(**model, tolerance=0.2, scale_down={"max_share": 0.1}).spec
    assert (own.tolerance, own.scale_down.window_s, own.scale_down.max_share) == (0.2, 60.0, 0.1)
    explicit = short(**model, policies={"p": {"kind": "predictive"}}).spec
    assert (explicit.tolerance, explicit.scale_down.window_s) == (0.1, 300.0)
