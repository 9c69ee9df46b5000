"""The search space, and its settings written back into the owner's file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policies.model import WorkloadName
from scaler.config.load import load as load_config
from scaler.config.problems import ConfigError
from scaler.config.scalar_edit import NoPlace
from simulators.experiments.scenario import Case
from simulators.tune import policy
from simulators.tune.baseline import load_baseline
from simulators.tune.space import Space, space_of
from simulators.tune.yaml_edit import edit_yaml
from tests.laws import law
from tests.simulators.tune import small

TARGET = "policies.concurrency.target_per_replica"
HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: vllm, namespace: llm}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: vllm}
  minReplicas: 1
  maxReplicas: 6
  metrics:
    - type: Pods
      pods:
        metric: {name: "vllm:num_requests_running"}
        target: {type: AverageValue, averageValue: "8"}
"""
SCALED_OBJECT = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: vllm, namespace: llm}
spec:
  scaleTargetRef: {name: vllm}
  minReplicaCount: 1
  maxReplicaCount: 6
  triggers:
    - type: prometheus
      metadata: {serverAddress: "http://prom:9090", threshold: "5",
                 query: 'sum(vllm:num_requests_waiting{namespace="llm"})'}
"""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return small.case(tmp_path_factory.mktemp("settings"))


def search_space(case: Case, folder: Path, document: str) -> Space:
    (folder / "search.yaml").write_text(document)
    return space_of(case, folder / "search.yaml")


def test_each_policy_kind_has_ranges_around_the_present_values(case: Case) -> None:
    dimensions = {d.path: (d.present, d.low, d.high) for d in space_of(case).dimensions}
    assert dimensions[TARGET] == pytest.approx((12, 3.6, 36))
    assert set(dimensions) == {TARGET, ".tolerance", "scale_down.window_s", "scale_down.max_share"}


def test_a_search_document_adds_narrows_and_removes_dimensions(case: Case, tmp_path: Path) -> None:
    document = (
        f"search: {{{TARGET}: {{low: 10, high: 20}}, scale_down.window_s: null, .interval_s: {{choices: [15, 30]}}}}"
    )
    dimensions = {d.path: d for d in search_space(case, tmp_path, document).dimensions}
    assert (dimensions[TARGET].low, dimensions[TARGET].high) == (10, 20)
    assert dimensions[".interval_s"].choices == (15, 30)
    assert "scale_down.window_s" not in dimensions
    assert list(search_space(case, tmp_path, "only: true\nsearch: {.tolerance: {low: 0, high: 0.1}}").dimensions)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("search: {policies.concurency.target_per_replica: {low: 1, high: 2}}", "the workload has no concurency"),
        ("search: {tolerance: {low: 0, high: 0.1}}", "write it with a leading dot: .tolerance"),
        ("search: {.tolerance: {low: 0.2, high: 0.1}}", "must be above low, 0.2"),
        ("search: {.tolerance: {low: 0, high: 2}}", "2 is rejected"),
        ("search: {scale_up.window_s: null}", "is not in the default search space"),
        ("search: {.min_replicas: {low: 1, high: 9}}", "is rejected"),
        ("only: true\nsearch: {}", "names nothing to search"),
        ("serach: {}", "did you mean 'search'"),
    ],
)
def test_a_setting_that_cannot_be_searched_is_rejected_with_its_rule(
    case: Case, tmp_path: Path, document: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        search_space(case, tmp_path, document)


TEXT = """# mine
workload: chat
tolerance: 0.1   # why
policies:
  flow: {kind: predictive, demand_hold_s: 900}  # beside it
  block:
    kind: keda
    triggers:
      - target: 5
        query: "x: é"
scale_up: {}
"""


def test_a_setting_is_edited_in_place_and_comments_are_preserved() -> None:
    changes = {
        ".tolerance": 0.05,
        "policies.flow.demand_hold_s": 20,
        "policies.flow.utilization": 1.2,
        "policies.block.triggers.0.target": 7,
        "scale_down.window_s": 60,
        "scale_up.max_replicas": 4,
    }
    text = edit_yaml(TEXT, changes)
    data = yaml.safe_load(text)
    assert data["tolerance"] == 0.05
    assert data["policies"]["flow"] == {"kind": "predictive", "demand_hold_s": 20, "utilization": 1.2}
    assert data["policies"]["block"]["triggers"][0] == {"target": 7, "query": "x: é"}
    assert data["scale_down"] == {"window_s": 60}
    assert data["scale_up"] == {"max_replicas": 4}
    assert all(comment in text for comment in ("# mine", "# why", "# beside it"))


keys = st.text("abcxyz", min_size=1, max_size=4)
documents = st.dictionaries(
    keys,
    st.one_of(
        st.integers(0, 99),
        st.dictionaries(keys, st.one_of(st.integers(0, 9), st.none(), st.text("é# :'", max_size=4)), max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@law(100)
@given(documents, st.lists(keys, min_size=1, max_size=3), st.integers(100, 999), st.booleans())
def test_an_edited_text_parses_to_the_document_with_the_setting(
    data: dict[str, Any], path: list[str], value: int, flow: bool
) -> None:
    text = yaml.safe_dump(data, default_flow_style=flow or None, allow_unicode=True, sort_keys=False)
    expected = yaml.safe_load(text)
    parent = expected
    for key in path[:-1]:
        parent = parent.setdefault(key, {}) if isinstance(parent, dict) else None
    if not isinstance(parent, dict) or isinstance(parent.get(path[-1]), dict):
        with pytest.raises(NoPlace):
            edit_yaml(text, {"." + ".".join(path): value})
        return
    parent[path[-1]] = value
    assert yaml.safe_load(edit_yaml(text, {"." + ".".join(path): value})) == expected


def write_point(case: Case, folder: Path, settings: dict[str, Any], source: Path | None = None) -> str:
    baseline = load_baseline(case, source, "http://prom:9090" if source else None, native=False)
    space = space_of(baseline.case)
    policy.write(folder / "point.yaml", baseline, {**space.present, **settings}, space, [f"{policy.HEADER_START} 9"])
    return (folder / "point.yaml").read_text()


def test_a_policy_file_loads_and_lists_its_changes_at_the_top(case: Case, tmp_path: Path) -> None:
    text = write_point(case, tmp_path, {TARGET: 24.5})
    assert text.startswith(f"# {policy.HEADER_START} 9\n# Changed:\n#   {TARGET}: 12 -> 24.5\n")
    assert "max_replicas: 6   # what the quota has" in text
    document_ = load_config([tmp_path / "point.yaml"]).workloads[WorkloadName("small")].document
    before = case.workload.document
    concurrency = before["policies"]["concurrency"] | {"target_per_replica": 24.5}
    assert document_ == {**before, "policies": {"concurrency": concurrency}}


def test_a_file_that_was_tuned_before_has_one_header(case: Case, tmp_path: Path) -> None:
    first = write_point(case, tmp_path, {TARGET: 24.5})
    (tmp_path / "again.yaml").write_text(first)
    assert policy.without_head(first) == small.WORKLOAD.replace("target_per_replica: 12", "target_per_replica: 24.5")
    second = load_baseline(case, tmp_path / "again.yaml", None, native=False)
    space = space_of(second.case)
    policy.write(tmp_path / "twice.yaml", second, {**space.present, TARGET: 9}, space, [f"{policy.HEADER_START} 9"])
    assert (tmp_path / "twice.yaml").read_text().count(policy.HEADER_START) == 1


def test_a_document_with_anchors_is_rewritten_completely(case: Case, tmp_path: Path) -> None:
    text = small.WORKLOAD.replace("max_replicas: 6 ", "max_replicas: &n 12 ").replace("replica: 12", "replica: *n")
    baseline = dataclasses.replace(load_baseline(case, None, None, native=False), text=text)
    space = space_of(case)
    written_text = policy.text_of(baseline, {**space.present, TARGET: 9}, space)
    assert "&n" not in written_text
    assert yaml.safe_load(written_text)["max_replicas"] == 6
    assert yaml.safe_load(written_text)["policies"]["concurrency"]["target_per_replica"] == 9


def test_a_rejected_point_leaves_the_existing_file_unchanged(case: Case, tmp_path: Path) -> None:
    before = write_point(case, tmp_path, {TARGET: 24.5})
    with pytest.raises(ConfigError):
        write_point(case, tmp_path, {".tolerance": 7})
    assert (tmp_path / "point.yaml").read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["point.yaml"]


@pytest.mark.parametrize(("manifest", "kind"), [(HPA, "hpa"), (SCALED_OBJECT, "keda")], ids=["hpa", "keda"])
def test_a_search_starts_from_the_current_kubernetes_manifest(
    case: Case, tmp_path: Path, manifest: str, kind: str
) -> None:
    (tmp_path / "today.yaml").write_text(manifest)
    baseline = load_baseline(case, tmp_path / "today.yaml", "http://prom:9090", native=False)
    (only,) = baseline.case.workload.document["policies"].values()
    assert only["kind"] == kind
    assert baseline.present is None
    assert any("target" in d.path for d in space_of(baseline.case).dimensions)


def test_a_native_proposal_is_compared_with_the_current_hpa(case: Case, tmp_path: Path) -> None:
    (tmp_path / "today.yaml").write_text(HPA)
    baseline = load_baseline(case, tmp_path / "today.yaml", "http://prom:9090", native=True)
    assert baseline.present is not None
    assert [p["kind"] for p in baseline.present.document["policies"].values()] == ["hpa"]
    assert [p["kind"] for p in baseline.case.workload.document["policies"].values()] == ["metric"]


def test_a_scenario_with_concurrent_workloads_is_rejected(case: Case) -> None:
    with pytest.raises(ConfigError, match=r"has concurrent_scenarios \(small\), but tune handles one workload"):
        load_baseline(dataclasses.replace(case, concurrent=(case,)), None, None, native=False)


def test_a_metric_without_a_simulated_quantity_is_rejected_by_name(case: Case, tmp_path: Path) -> None:
    (tmp_path / "today.yaml").write_text(HPA.replace("vllm:num_requests_running", "my_own_metric"))
    with pytest.raises(ConfigError, match=r"the workload imported from .*the simulator does not provide my_own_metric"):
        load_baseline(case, tmp_path / "today.yaml", "http://prom:9090", native=False)


def test_a_manifest_of_which_a_part_is_invalid_is_rejected(case: Case, tmp_path: Path) -> None:
    nameless = SCALED_OBJECT.replace("name: ", "nmae: ", 1)
    (tmp_path / "today.yaml").write_text(f"{HPA}\n---\n{nameless}")
    with pytest.raises(ConfigError, match=r"metadata\.name: is required"):
        load_baseline(case, tmp_path / "today.yaml", "http://prom:9090", native=False)
