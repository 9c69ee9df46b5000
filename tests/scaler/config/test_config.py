"""Configuration: every error at once, each with file, line, path, value, rule and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from policies.model.spec import ScaleDown, WorkloadSpec
from scaler.config.example import example
from scaler.config.load import json_schema, load, workload_from
from scaler.config.problems import ConfigError, Problem
from scaler.config.schema import plain_value

ROOT = Path(__file__).parents[3]
GOOD = """\
workload: llm
max_replicas: 8
sources:
  queue: {kind: embedded}
policies:
  depth: {kind: queue_depth}
pools:
  gpus: {kind: embedded}
"""


def problems(tmp_path: Path, text: str) -> list[Problem]:
    file = tmp_path / "w.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([file])
    return list(caught.value.problems)


def test_minimal_document_gets_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(GOOD)
    spec = load([tmp_path]).workloads["llm"].spec  # type: ignore[index]
    assert (spec.min_replicas, spec.interval_s, spec.scale_down) == (1, 15.0, ScaleDown())
    assert spec.policies["depth"].source == "queue"  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "path", "line", "rule", "hint"),
    [
        pytest.param(("max_replicas: 8", "max_replica: 8"), "max_replica", 2, "unknown key", "did you mean 'max_replicas'?", id="a mistyped key"),
        pytest.param(("{kind: queue_depth}", "{kind: queue_dept}"), "policies.depth.kind", 6, "must be one of aibrix_apa, concurrency", "did you mean 'queue_depth'?", id="a mistyped kind"),
        pytest.param(("{kind: queue_depth}", "{kind: queue_depth, target: 5}"), "policies.depth.target", 6, "unknown key", "did you mean 'target_per_replica'?", id="a key of another kind"),
        pytest.param(("{kind: queue_depth}", "{}"), "policies.depth.kind", 6, "is required; must be one of", "", id="no kind"),
        pytest.param(("max_replicas: 8", "max_replicas: '8'"), "max_replicas", 2, "must be a whole number", "without quotes: 8", id="a number in quotes"),
        pytest.param(("max_replicas: 8", "max_replicas: 8.5"), "max_replicas", 2, "must be a whole number", "", id="half a replica"),
        pytest.param(("max_replicas: 8", "max_replicas: true"), "max_replicas", 2, "must be a whole number", "", id="a yes for a number"),
        pytest.param(("max_replicas: 8", "max_replicas: 0"), "max_replicas", 2, "must be greater than or equal to 1", "", id="below a bound"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\ntolerance: .nan"), "tolerance", 3, "must be", "", id="not a number"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\ninterval_s: .inf"), "interval_s", 3, "must be", "", id="infinite"),
        pytest.param(("max_replicas: 8", f"max_replicas: 8\nmin_replicas: {10**310}"), "min_replicas", 3, "must be less than or equal to 1000000000000000", "", id="more than any float"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\nscale_up: {max_share: 1.0e+300}"), "scale_up.max_share", 3, "must be less than or equal to 1000000000000000", "", id="more than can be multiplied"),
        pytest.param(("workload: llm", "workload: LLM_1"), "workload", 1, "must be at most 63 lowercase letters, digits and inner hyphens, for a workload of a Kubernetes namespace after that namespace and a dot, such as llama-chat", "", id="a name that is no label"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\nlateness_ratio: 9"), "lateness_ratio", 3, "was renamed to slo_violation_cost_ratio", "write slo_violation_cost_ratio with the same value", id="a key of the workload that was renamed"),
        pytest.param(("{kind: queue_depth}", "{kind: predictive, drain_s: 60}"), "policies.depth.drain_s", 6, "was renamed to backlog_clear_s", "write backlog_clear_s", id="a policy's key that was renamed"),
        pytest.param(("max_replicas: 8\n", ""), "max_replicas", 1, "is required", "", id="a missing key"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\nmin_replicas: 9"), "min_replicas", 3, "must be at most max_replicas, 8", "", id="bounds the wrong way round"),
        pytest.param(("{kind: queue_depth}", "{kind: queue_depth, source: quueue}"), "policies.depth.source", 6, "names source 'quueue', which is not in sources", "did you mean 'queue'?", id="an unknown source"),
        pytest.param(("{kind: queue_depth}", "{kind: gpu_utilization}"), "policies.depth.source", 6, "needs a source that provides utilization", "queue provides delayed", id="a source that does not provide it"),
        pytest.param(("{kind: queue_depth}", "{kind: headroom}"), "policies", 5, "needs a policy that measures demand", "headroom only adds to it", id="headroom only adds to it"),
        pytest.param(("{kind: queue_depth}", "{kind: schedule, time_zone: Mars/Base, windows: [{start: '08:00', end: '9:00', replicas: 1}]}"), "policies.depth.windows[0].end", 6, "must be a time of day as HH:MM, such as 18:00", "", id="a time that is none"),
        pytest.param(("policies:\n  depth: {kind: queue_depth}\n", "policies: {}\n"), "policies", 5, "is required: no source reports the load of engines", "add a policy", id="no policy"),
        pytest.param(("  gpus: {kind", "  gpus: {kind: embedded, world: '${WORLD}', x"), "pools.gpus.world", 8, "must not contain ${...}: only secrets come from the environment", "{env: NAME}", id="an environment reference"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\nmax_replicas: 9"), "max_replicas", 3, "is a duplicate of line 2", "", id="a key given twice"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\ninterval_s: 5\ndeadline_s: 5"), "deadline_s", 4, "must be below interval_s, 5", "", id="a deadline as long as the interval"),
        pytest.param(("  gpus: {kind", "  gpus: {quantum: 9, kind"), "pools.gpus.quantum", 8, "has no multiple of 9 between min_replicas and max_replicas", "to multiples of quantum", id="a quantum larger than the pool"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\ninterval_s: 15s"), "interval_s", 3, "must be a number", "seconds, without a unit: 15", id="seconds with their unit"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\ninterval_s: 1.5 min"), "interval_s", 3, "must be a number", "seconds, without a unit: 90", id="minutes"),
        pytest.param(("max_replicas: 8", "max_replicas: 8\nslo: {ttft_s: 1, share: 99}"), "slo.share", 3, "must be less than or equal to 1", "a share is 0 to 1: 0.99", id="a share in percent"),
        pytest.param(("  gpus: {kind", "  gpus: {market: ondemand, kind"), "pools.gpus.market", 8, "must be one of reserved, on_demand, spot", "did you mean 'on_demand'?", id="a mistyped value"),
        pytest.param(("queue: {kind: embedded}", "queue: {kind: prometheus, url: 'http://p', preset: vlm}"), "sources.queue.preset", 4, "must be one of dcgm, neuron", "did you mean 'vllm'?", id="a mistyped preset"),
        pytest.param(("queue: {kind: embedded}", "queue: {kind: prometheus, url: prometheus, preset: vllm}"), "sources.queue.url", 4, "must be an http:// or https:// URL without user, password and query, such as http://prometheus.monitoring:9090", "", id="no URL"),
        pytest.param(("queue: {kind: embedded}", "queue: {kind: sqs, queue_url: 'arn:aws:sqs:us-east-1:1:q'}"), "sources.queue.queue_url", 4, "must be the URL of an SQS queue, such as https://sqs.us-east-1.amazonaws.com/", "", id="an ARN for a URL"),
        pytest.param(("  gpus: {kind: embedded}", "  gpus: {kind: kubernetes, name: Chat}"), "pools.gpus.name", 8, "must be at most 253 lowercase letters, digits and inner hyphens and dots, such as llama-chat", "", id="a name in Kubernetes"),
        pytest.param(("queue: {kind: embedded}", "queue: {kind: cloud_monitoring, project: {id: my-project}, metrics: {x: {filter: up}}}"), "sources.queue.metrics.x.filter", 4, "must be a filter that compares metric.type, such as metric.type = ", "", id="a form in a named record"),
        pytest.param(("queue: {kind: embedded}", "queue: {kind: prometheus, url: 'http://p', preset: vllm, access: {bearer_token: {env: 9X}}}"), "sources.queue.access.bearer_token.env", 4, "must be letters, digits and _, without a leading digit", "", id="a form in an optional record"),
        pytest.param(("  gpus: {kind", "  gpus: {kind: asg, group: a/b, x"), "pools.gpus.group", 8, "must be at most 255 characters without spaces, / and :, such as llama-chat-h100", "", id="a name with a slash"),
        pytest.param(("  gpus:", "\tgpus:"), "", 8, "is indented with a tab, which YAML does not allow", "indent with spaces", id="a tab"),
        pytest.param(("  gpus:", "  GPUs!:"), "pools.GPUs!", 8, "name must be at most 63 lowercase letters, digits and inner hyphens", "", id="a pool's name that is no label"),
    ],
)  # fmt: skip
def test_each_error_has_path_line_rule_and_hint(
    tmp_path: Path, change: tuple[str, str], path: str, line: int, rule: str, hint: str
) -> None:
    assert change[0] in GOOD
    matching = [p for p in problems(tmp_path, GOOD.replace(*change)) if p.path == path]
    assert matching, problems(tmp_path, GOOD.replace(*change))
    assert (matching[0].line, matching[0].file) == (line, str(tmp_path / "w.yaml"))
    assert rule in matching[0].rule
    assert hint in matching[0].hint


@pytest.mark.parametrize(
    ("kind", "settings", "remedy"),
    [
        (
            "predictive",
            "preset: vllm, read: [running, waiting, requests_per_s, prompt_tokens_per_s]",
            "remove sources.engines.read, or add generation_tokens_per_s to it",
        ),
        (
            "concurrency",
            "preset: vllm, read: [kv_cache_usage]",
            "remove sources.engines.read, or add running, waiting to it",
        ),
        ("concurrency", "queries: {x: up}", "engines provides x"),
    ],
)
@pytest.mark.parametrize("source", ["", ", source: engines"])
def test_missing_quantity_names_the_setting_that_adds_it(
    tmp_path: Path, kind: str, settings: str, remedy: str, source: str
) -> None:
    text = GOOD.replace("queue: {kind: embedded}", f"engines: {{kind: prometheus, url: 'http://p', {settings}}}")
    (problem,) = problems(tmp_path, text.replace("{kind: queue_depth}", f"{{kind: {kind}{source}}}"))
    assert (problem.path, problem.line, problem.hint) == ("policies.depth.source", 6, remedy)


@pytest.mark.parametrize(
    ("text", "path", "line", "rule", "hint"),
    [
        ("apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\n", "kind", 2, "a Kubernetes object", "forescale import {}"),
        ("apiVersion: v1\nkind: List\nitems: [{kind: ScaledObject}]\n", "kind", 2, "a Kubernetes", "import {}"),
        ("apiVersion: v1\nkind: ConfigMap\n", "kind", 2, "a Kubernetes object", "remove it from the configuration"),
        ("scenario: day\nworkload: w.yaml\n", "scenario", 1, "is a scenario", "forescale simulate {}"),
    ],
)
def test_document_of_another_command_names_the_command(
    tmp_path: Path, text: str, path: str, line: int, rule: str, hint: str
) -> None:
    (problem,) = problems(tmp_path, text)
    assert (problem.path, problem.line) == (path, line)
    assert rule in problem.rule
    assert hint.format(tmp_path / "w.yaml") in problem.hint


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        pytest.param(("max_replicas: 8", "max_replicas: 8\nmin_replicas: 9"), ["min_replicas"], id="minimum above maximum"),
        pytest.param(("  gpus: {kind", "  gpus: {quantum: 9, kind"), ["pools.gpus.quantum"], id="no multiple of quantum"),
        pytest.param(("  gpus: {kind", "  gpus: {tier: slept, serves: x, kind"), ["pools", "pools.gpus.serves"], id="no serving pool"),
        pytest.param(("  gpus: {kind", "  gpus: {max_replicas: 0, kind"), ["min_replicas"], id="pools without replicas"),
    ],
)  # fmt: skip
def test_one_contradiction_of_bounds_is_one_problem(tmp_path: Path, change: tuple[str, str], paths: list[str]) -> None:
    found = problems(tmp_path, GOOD.replace(*change))
    assert sorted(p.path for p in found) == paths
    assert not any(p.hint.endswith(": ") for p in found), "no list without names"


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    text = (
        "workload: A\nmax_replicas: -1\nmin_replicas: x\nsources: {q: {kind: nope}}\npolicies: {}\npools: {}\nwat: 1\n"
    )
    (tmp_path / "other.yaml").write_text("workload: b\n")
    (tmp_path / "broken.yaml").write_text("workload: [\n")
    (tmp_path / "w.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([tmp_path, tmp_path / "missing.yaml"])
    paths = {(Path(p.file).name, p.path) for p in caught.value.problems}
    assert {
        ("w.yaml", k) for k in ("workload", "max_replicas", "min_replicas", "sources.q.kind", "pools", "wat")
    } <= paths
    assert ("other.yaml", "max_replicas") in paths
    assert ("broken.yaml", "") in paths
    assert ("missing.yaml", "") in paths


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n- b\n",
        "just text",
        "workload: llm\nsources: !!python/object/apply:os.system ['true']\n",
        "a: &a [*a]\n",
        "{" * 2000,
        "workload: \x00",
        "? [1, 2]\n: 3\n",
        "<<: {workload: x}\n",
        "1: 2\n",
        "workload: 2026-01-01\nmax_replicas: 0x10\n",
        "daemon: 5\n",
        "daemon: {listen: nowhere}\n",
        "daemon: {}\nworkload: x\n",
    ],
)
def test_malformed_documents_raise_config_error(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_non_utf8_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes(b"workload: \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load([tmp_path])


def test_duplicate_workload_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(f"{GOOD}---\n{GOOD.replace('llm', 'other')}")
    with pytest.raises(
        ConfigError, match=r"b\.yaml:1: workload: must be unique: .*a\.yaml:1 has a workload of the same name"
    ):
        load([tmp_path])


def test_zero_min_replicas_needs_a_policy_that_measures_work_at_zero(tmp_path: Path) -> None:
    text = GOOD.replace("{kind: embedded}\npolicies", "{kind: embedded, offers: engines}\npolicies")
    text = text.replace("queue_depth", "gpu_utilization").replace("max_replicas: 8", "max_replicas: 8\nmin_replicas: 0")
    assert [p.rule for p in problems(tmp_path, text)] == [
        "may be 0 only with a policy that detects load at zero replicas"
    ]


def test_ambiguous_policy_source_is_rejected(tmp_path: Path) -> None:
    text = GOOD.replace("  queue: {kind: embedded}", "  queue: {kind: embedded}\n  other: {kind: embedded}")
    assert "set source to queue or other" in problems(tmp_path, text)[0].hint


def test_daemon_settings_are_allowed_in_one_document_only(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(f"daemon: {{listen: '0.0.0.0:9', journal: {{keep_files: 2}}}}\n---\n{GOOD}")
    daemon = load([tmp_path]).daemon
    assert (daemon.listen, daemon.journal.keep_files, daemon.journal.directory) == ("0.0.0.0:9", 2, "journal")
    (tmp_path / "v.yaml").write_text("daemon: {}\n")
    with pytest.raises(ConfigError, match="daemon: must be unique"):
        load([tmp_path])


@pytest.mark.parametrize(
    ("listen", "rule"),
    [
        (":99999", "must be HOST:PORT, such as 127.0.0.1:8080"),
        ("127.0.0.1:99999", "must have a port from 0 to 65535"),
        ("a..b:80", "must start with a host name or IP address"),
        ("[1:2]:80", "must start with a host name or IP address"),
    ],
)
def test_invalid_listen_address_is_rejected(tmp_path: Path, listen: str, rule: str) -> None:
    problem = problems(tmp_path, f"{GOOD}---\ndaemon:\n  listen: '{listen}'\n")[0]
    assert (problem.path, problem.line, problem.value) == ("daemon.listen", 11, f'"{listen}"')
    assert rule in problem.rule


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:8080", "localhost:65535", "0.0.0.0:8080"])
def test_valid_listen_address_is_accepted(tmp_path: Path, listen: str) -> None:
    (tmp_path / "w.yaml").write_text(f"daemon: {{listen: '{listen}'}}\n---\n{GOOD}")
    assert load([tmp_path]).daemon.listen == listen


def test_fast_clock_is_rejected_for_live_pools(tmp_path: Path) -> None:
    live = GOOD.replace("gpus: {kind: embedded}", "gpus: {kind: kubernetes, name: llm}")
    text = f"daemon: {{clock: {{speed: 60}}}}\n---\n{live}"
    assert [(p.path, p.line) for p in problems(tmp_path, text)] == [("daemon.clock", 1)]
    (tmp_path / "w.yaml").write_text(text.replace("60", "1"))
    assert load([tmp_path]).workloads


def test_fingerprint_depends_on_values_not_on_spelling(tmp_path: Path) -> None:
    def fingerprint(text: str) -> str:
        (tmp_path / "w.yaml").write_text(text)
        return load([tmp_path]).workloads["llm"].fingerprint  # type: ignore[index]

    assert fingerprint(GOOD) == fingerprint(f"# a comment\n{GOOD}min_replicas: 1\n")
    assert fingerprint(GOOD) != fingerprint(f"{GOOD}min_replicas: 2\n")


def test_workload_document_round_trips_through_json(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(GOOD)
    workload = next(iter(load([tmp_path]).workloads.values()))
    assert workload_from(json.loads(json.dumps(workload.document))) == workload


# --- published files


def test_documented_example_is_generated_from_code() -> None:
    assert (ROOT / "config/example/workload.yaml").read_text() == example(), "run: make schema"


def test_published_schema_is_generated_from_code() -> None:
    assert json.loads((ROOT / "config/schema.json").read_text()) == json_schema(), "run: make schema"


def test_schema_bounds_every_number() -> None:
    numbers = list(number_schemas(json_schema()))
    assert len(numbers) > 300
    assert not [n for n in numbers if not n.keys() & {"minimum", "exclusiveMinimum"}]
    assert not [n for n in numbers if not n.keys() & {"maximum", "exclusiveMaximum"}]


def number_schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield each part of a schema that is about a number."""
    if isinstance(schema, dict) and schema.get("type") in ("integer", "number"):
        yield schema
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in parts:
        yield from number_schemas(part)


def test_documented_example_equals_the_defaults(tmp_path: Path) -> None:
    loaded = load([ROOT / "config/example"])
    spec = next(iter(loaded.workloads.values())).spec
    (tmp_path / "w.yaml").write_text(GOOD)
    short = next(iter(load([tmp_path]).workloads.values())).spec
    chosen = {"workload", "max_replicas", "sources", "policies", "pools", "routes"}
    for name in WorkloadSpec.__dataclass_fields__.keys() - chosen:
        assert plain_value(getattr(spec, name)) == plain_value(getattr(short, name)), name


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["example", "quickstart", "workloads"])
def test_shipped_configuration_validates_against_published_schema(folder: str) -> None:
    schema: dict[str, Any] = json.loads((ROOT / "config/schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    documents = [
        d for f in sorted((ROOT / "config" / folder).glob("*.yaml")) for d in yaml.safe_load_all(f.read_text())
    ]
    assert documents
    for document in documents:
        validator.validate(document)


@pytest.mark.parametrize("file", sorted((ROOT / "config/workloads").glob("*.yaml")), ids=lambda f: f.stem)
def test_shipped_workload_loads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_TOKEN", "a token")
    assert load([file]).workloads
