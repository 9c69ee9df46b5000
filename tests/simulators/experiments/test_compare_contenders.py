"""Contenders of a comparison: their texts, their settings, and the errors for invalid ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml

from policies.recommend.peers.dynamo import DynamoEasy
from policies.recommend.peers.dynamo_sla import DynamoSla
from policies.recommend.peers.hpa import Hpa
from policies.recommend.peers.kpa import Kpa
from policies.recommend.peers.static import Static
from scaler.config.problems import ConfigError
from simulators.engine.models.worth import engine_profile
from simulators.experiments.compare import compare
from simulators.experiments.contenders.contenders import TEMPLATES, Contender, contenders, peer_names, split_texts
from simulators.experiments.scenario import Case, load
from tests.simulators.experiments.test_compare import write_scenario

QUEUE = "keda-queue"
NO_FIFTH_METRIC = "hpa:policies.hpa.metrics.5.target=1"
ON_ENGINES = [name for name in peer_names() if name != QUEUE]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return load(write_scenario(tmp_path))


def contender_of(case: Case, text: str) -> Contender:
    (contender,) = contenders(case, [text], with_self=False)
    return contender


def policy(contender: Contender) -> object:
    (policy_,) = contender.case.workload.spec.policies.values()
    return policy_


def problems(case: Case, *texts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        contenders(case, texts)
    return str(caught.value)


def test_the_scenarios_own_workload_is_listed_first_and_only_once(case: Case) -> None:
    assert [c.name for c in contenders(case, ["hpa", "self"])] == ["small", "hpa"]
    assert [c.name for c in contenders(case, ["hpa"], with_self=False)] == ["hpa"]


@pytest.mark.parametrize("name", ON_ENGINES)
def test_every_peer_runs_with_the_scenarios_bounds_and_pools(case: Case, name: str) -> None:
    spec, own = contender_of(case, name).case.workload.spec, case.workload.spec
    assert (spec.min_replicas, spec.max_replicas, spec.interval_s) == (1, 6, own.interval_s)
    assert spec.pools == own.pools
    assert spec.workload == name


@pytest.mark.parametrize("name", peer_names())
def test_every_template_documents_its_target_and_sets_only_two_keys(name: str) -> None:
    text = (TEMPLATES / f"{name}.yaml").read_text(encoding="utf-8")
    assert "Target:" in text.split("sources:")[0]
    assert yaml.safe_load(text).keys() == {"sources", "policies"}


HAVE_OWN_RULES = {
    "static",
    "hpa",
    "hpa-value",
    "dynamo",
    "dynamo-sla",
    "sagemaker-target-tracking",
    "vertex-duty-cycle",
}


@pytest.mark.parametrize("name", [n for n in peer_names() if n not in HAVE_OWN_RULES])
def test_peer_templates_set_only_the_target(case: Case, name: str) -> None:
    """A template sets only its target: all else is the policy's default."""
    document = yaml.safe_load((TEMPLATES / f"{name}.yaml").read_text(encoding="utf-8"))
    (policy_,) = document["policies"].values()
    assert {key for key in policy_ if key != "kind" and not key.startswith("target")} <= {"triggers", "recipe"}


def test_dynamo_gets_the_scenarios_kv_cache_size(case: Case) -> None:
    planner = policy(contender_of(case, "dynamo"))
    assert isinstance(planner, DynamoEasy)
    assert planner.kv_tokens == min(m.kv_tokens for m in case.models.values())


def test_dynamo_sla_gets_the_profile_of_the_scenarios_engine(case: Case) -> None:
    planner = policy(contender_of(case, "dynamo-sla:step_s=0.5"))
    assert isinstance(planner, DynamoSla)
    (model,) = case.models.values()
    profile = engine_profile(model)
    assert (planner.kv_tokens, planner.max_seqs, planner.max_step_tokens) == (
        model.kv_tokens,
        model.max_seqs,
        model.max_step_tokens,
    )
    assert (planner.prompt_token_s, planner.kv_token_s) == (profile["prompt_token_s"], profile["kv_token_s"])
    assert planner.step_s == 0.5, "a setting replaces the profile"


def test_a_setting_replaces_the_existing_key_of_its_name(case: Case) -> None:
    changed = contender_of(case, "hpa:target=24;tolerance=0.2;max_replicas=9")
    hpa = policy(changed)
    assert isinstance(hpa, Hpa)
    assert (hpa.metrics[0].target, hpa.tolerance) == (24, 0.2)
    assert changed.case.workload.spec.max_replicas == 9
    assert changed.name == "hpa:target=24;tolerance=0.2;max_replicas=9"


def test_a_dotted_key_addresses_lists_and_mappings(case: Case) -> None:
    changed = contender_of(case, "self:scale_up.max_replicas=2")
    hpa = policy(contender_of(case, "hpa:policies.hpa.metrics.0.target=7"))
    assert isinstance(hpa, Hpa)
    assert hpa.metrics[0].target == 7
    assert changed.case.workload.spec.scale_up.max_replicas == 2


def test_setting_values_may_contain_commas_in_brackets(case: Case) -> None:
    texts = split_texts(
        "kpa:quantities=[running, waiting];target=50, hpa:policies.hpa.metrics=[{quantities: [a, b]}],static"
    )
    assert texts == [
        "kpa:quantities=[running, waiting];target=50",
        "hpa:policies.hpa.metrics=[{quantities: [a, b]}]",
        "static",
    ]
    kpa = policy(contender_of(case, "kpa:quantities=[running];target=50"))
    assert isinstance(kpa, Kpa)
    assert (kpa.quantities, kpa.target) == (("running",), 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_ENGINES)
def test_every_peer_runs_to_completion_with_its_signals(case: Case, name: str) -> None:
    (replication,) = compare([contender_of(case, name)], [1]).runs[name]
    assert replication.summary.finished > 0
    assert replication.summary.blind_ticks < replication.summary.ticks / 4


def test_the_queue_peer_runs_in_a_scenario_with_a_queue(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    file.write_text(file.read_text() + "queue: {service: sqs}\n")
    (replication,) = compare([contender_of(load(file), QUEUE)], [1]).runs[QUEUE]
    assert replication.summary.finished > 0
    assert replication.summary.blind_ticks == 0


def test_scale_to_zero_is_rejected_for_a_policy_that_reads_only_engines(case: Case) -> None:
    message = problems(case, "hpa:min_replicas=0", "ray-serve:min_replicas=0", "static:min_replicas=0")
    assert message.count("0 needs a source that reports demand while no engine runs") == 2
    assert "static" not in message


def test_a_peer_accepts_its_own_interval(case: Case) -> None:
    spec = contender_of(case, "kpa:interval_s=2").case.workload.spec
    assert (spec.interval_s, spec.deadline_s) == (2, 1)


def test_a_file_that_is_not_a_single_workload_is_rejected(case: Case) -> None:
    file = case.folder / "workloads" / "odd.yaml"
    file.write_text("- 1\n")
    assert "must be a mapping" in problems(case, "odd")
    file.write_text("workload: a\n---\nworkload: b\n")
    assert "must contain one workload, not 2" in problems(case, "odd")


def test_the_own_workload_can_be_compared_with_a_changed_copy(case: Case) -> None:
    own, changed = contenders(case, ["self:target_per_replica=3"])
    assert (own.name, changed.name) == ("small", "self:target_per_replica=3")
    assert own.case.workload.fingerprint != changed.case.workload.fingerprint


def test_a_file_takes_precedence_over_a_scenario_workload_and_a_peer(case: Case, tmp_path: Path) -> None:
    document = dict(case.workload.document) | {"workload": "mine"}
    document["policies"] = {"size": {"kind": "static", "replicas": 2}}
    workload_file = tmp_path / "workloads" / "hpa.yaml"
    workload_file.write_text(yaml.safe_dump(document))
    assert contender_of(case, "hpa").name == "mine"
    other_file = tmp_path / "other.yaml"
    other_file.write_text(yaml.safe_dump(document | {"workload": "other"}))
    assert contender_of(case, str(other_file)).name == "other"
    assert isinstance(policy(contender_of(case, f"{other_file}:replicas=3")), Static)


def test_contenders_can_be_pickled(case: Case) -> None:
    selected = contenders(case, [*ON_ENGINES, "oracle"])
    assert pickle.loads(pickle.dumps(selected)) == selected  # noqa: S301 - pickled above


def test_all_invalid_contenders_are_reported_at_once(case: Case) -> None:
    message = problems(
        case,
        *("hpaa", QUEUE, "static:replica=8", "static:8"),
        *("hpa:metrics.target=1", "static:replicas=99", NO_FIFTH_METRIC, "kpa:target=[1"),
    )
    assert "hpaa: is not a file, a workload in" in message
    assert "did you mean 'hpa'?" in message
    assert "reads a queue, but the scenario has none: a gateway forwards its requests" in message
    assert "policies.static.replica: unknown key (did you mean 'replicas'?)" in message
    assert "'8' must be key=value" in message
    assert "metrics: unknown key" in message
    assert "'[1' is not a valid YAML value" in message
    assert "the workload has no policies.hpa.metrics.5.target" in message
    assert "99 must be min_replicas to max_replicas, 1 to 6" in message


def test_a_key_of_a_workload_without_policies_is_reported(case: Case, tmp_path: Path) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text("{workload: bare, max_replicas: 4}", encoding="utf-8")
    assert "the workload has no target" in problems(case, f"{bare}:target=3")


def test_an_ambiguous_key_must_be_qualified(case: Case) -> None:
    document = dict(case.workload.document)
    policies = {
        "a": {"kind": "concurrency", "target_per_replica": 9},
        "b": {"kind": "concurrency", "target_per_replica": 8},
    }
    (case.folder / "workloads" / "two.yaml").write_text(
        yaml.safe_dump(document | {"workload": "two", "policies": policies})
    )
    message = problems(case, "two:target_per_replica=4")
    assert "occurs in 2 places (use policies.a.target_per_replica or policies.b.target_per_replica)" in message


def test_unknown_quantities_and_unmatched_pools_are_rejected(case: Case) -> None:
    document = dict(case.workload.document) | {"workload": "blind"}
    sources = {"engines": {"kind": "prometheus", "url": "http://p", "queries": {"tokens_queued": "sum(x)"}}}
    metric = {"kind": "metric", "quantity": "tokens_queued", "target": 10}
    pools = {name: {"kind": "kubernetes", "name": name} for name in ("a", "b")}
    blind = document | {"sources": sources, "policies": {"m": metric}, "pools": pools}
    (case.folder / "workloads" / "blind.yaml").write_text(yaml.safe_dump(blind))
    message = problems(case, "blind")
    assert "the simulator does not provide tokens_queued" in message
    assert "pools.a: is not a pool of the scenario; its pools are gpus" in message


def test_duplicate_names_and_an_empty_comparison_are_rejected(case: Case) -> None:
    assert "two policies have the name small" in problems(case, "small")
    with pytest.raises(ConfigError, match="names no policy to compare"):
        contenders(case, [], with_self=False)
