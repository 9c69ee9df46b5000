"""Policies with their own stabilization: alone in their workload, and documented like the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from scaler.config.example import example
from scaler.config.load import json_schema, load
from scaler.config.problems import ConfigError, Problem
from scaler.config.schema import plain_value
from scaler.registry import REGISTRIES, resolve

ROOT = Path(__file__).parents[3]
PEERS = sorted(kind for kind in REGISTRIES["policy"] if resolve("policy", kind).owns_stabilization)
FILES = sorted((ROOT / "config/peers").glob("*.yaml"))
KEDA = "{kind: keda, triggers: [{quantities: [visible, in_flight], target: 5}]}"
GOOD = f"""\
workload: llm
max_replicas: 8
sources:
  queue: {{kind: embedded}}
  engines: {{kind: embedded, offers: engines}}
policies:
  scaler: {KEDA}
pools:
  gpus: {{kind: embedded}}
"""


def problems(tmp_path: Path, text: str) -> list[Problem]:
    file = tmp_path / "w.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([file])
    return list(caught.value.problems)


def test_policy_with_own_stabilization_resolves_its_source(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(GOOD)
    spec = next(iter(load([tmp_path]).workloads.values())).spec
    policy = spec.policies["scaler"]  # type: ignore[index]
    assert (policy.source, policy.needs()) == ("queue", ("visible", "in_flight"))
    assert spec.lookback_s >= policy.lookback_s == 300


@pytest.mark.parametrize(
    ("change", "path", "line", "rule", "hint"),
    [
        pytest.param(
            ("policies:\n", "policies:\n  depth: {kind: queue_depth}\n"),
            "policies.scaler",
            8,
            "must be the only policy of the workload: keda has its own windows, tolerance and rate limits",
            "remove the other policies",
            id="beside another policy",
        ),
        pytest.param(
            ("max_replicas: 8", "max_replicas: 8\ntolerance: 0.2"),
            "tolerance",
            3,
            "has no effect: keda has its own",
            "set the counterpart under policies.scaler",
            id="a tolerance that nothing reads",
        ),
        pytest.param(
            ("max_replicas: 8", "max_replicas: 8\nscale_down: {window_s: 600}"),
            "scale_down",
            3,
            "has no effect",
            "",
            id="a window that nothing reads",
        ),
        pytest.param(
            ("max_replicas: 8", "max_replicas: 8\ninterval_s: 0.05\ndeadline_s: 0.01"),
            "interval_s",
            3,
            "scaler looks back 300 s, and the history holds 4096 ticks",
            "at least 0.0732",
            id="more ticks than are remembered",
        ),
        pytest.param(
            ("target: 5", "target: 5, source: quueue"),
            "policies.scaler.triggers[0].source",
            7,
            "names source 'quueue', which is not in sources",
            "did you mean 'queue'?",
            id="a trigger's source that is not there",
        ),
        pytest.param(
            ("target: 5", "target: 5, source: engines"),
            "policies.scaler.triggers[0].source",
            7,
            "source 'engines' does not provide in_flight, visible",
            "queue provides",
            id="a trigger's source that does not provide it",
        ),
        pytest.param(
            ("[visible, in_flight]", "[visible, visible]"),
            "policies.scaler.triggers[0].quantities",
            7,
            "must name at least one quantity, and each only once",
            "",
            id="a quantity counted twice",
        ),
        pytest.param(
            ("[{quantities: [visible, in_flight], target: 5}]", "[]"),
            "policies.scaler.triggers",
            7,
            "must not be empty",
            "",
            id="no trigger",
        ),
    ],
)
def test_each_error_has_path_line_rule_and_hint(
    tmp_path: Path, change: tuple[str, str], path: str, line: int, rule: str, hint: str
) -> None:
    assert change[0] in GOOD
    matching = [p for p in problems(tmp_path, GOOD.replace(*change)) if p.path == path]
    assert matching, problems(tmp_path, GOOD.replace(*change))
    assert matching[0].line == line
    assert rule in matching[0].rule
    assert hint in matching[0].hint


def test_workload_settings_at_their_defaults_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(f"{GOOD}tolerance: 0.1\ncooldown_s: 300\nscale_up: {{}}\n")
    assert load([tmp_path]).workloads


def test_triggers_can_read_different_sources(tmp_path: Path) -> None:
    more = "target: 5}, {quantities: [running], target: 16, source: engines}"
    (tmp_path / "w.yaml").write_text(GOOD.replace("target: 5}", more))
    (spec,) = (w.spec for w in load([tmp_path]).workloads.values())
    assert [t.source for t in spec.policies["scaler"].triggers] == [None, "engines"]  # type: ignore[index]


# --- published files


def documented(kind: str) -> Any:
    """The commented-out block of a kind in the documented example, read as YAML."""
    name = kind.replace("_", "-")
    lines = example().splitlines()
    start = lines.index(f"  # {name}:")
    block = [lines[start][4:]]
    for line in lines[start + 1 :]:
        if not line.startswith("  #   "):
            break
        block.append(line[4:])
    return yaml.safe_load("\n".join(block))[name]


@pytest.mark.slow
@pytest.mark.parametrize("kind", PEERS)
def test_documented_example_shows_every_setting_with_its_default(kind: str) -> None:
    shown = documented(kind)
    cls = resolve("policy", kind)
    assert shown.pop("kind") == kind
    assert shown.keys() == {f.name for f in dataclasses.fields(cls)}
    for f in dataclasses.fields(cls):
        if f.default is not dataclasses.MISSING and f.default is not None:
            assert shown[f.name] == plain_value(f.default), f.name


def test_example_files_cover_exactly_the_peer_policies() -> None:
    kinds = {p["kind"] for file in FILES for p in yaml.safe_load(file.read_text())["policies"].values()}
    assert kinds == set(PEERS)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_shipped_peer_loads_and_validates_against_the_schema(file: Path) -> None:
    assert load([file]).workloads
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(file.read_text()))
