"""The definition of Workload: generated, structural, and as strict as the configuration's own schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from re._constants import BRANCH, MAX_REPEAT, MAXREPEAT, MIN_REPEAT, SUBPATTERN  # type: ignore[import-not-found]
from re._parser import parse  # type: ignore[import-not-found]
from typing import Any

import pytest
import yaml

from scaler.cli import main
from scaler.config.custom_resource import definition, spec_schema
from scaler.config.structural_schema import RESERVED, Translation
from tests.servers.kube_real import DEPLOY

ROOT = Path(__file__).parents[3]
MAX_ANNOTATION = 262_144
"""Bytes of all annotations of an object. `kubectl apply` stores the object in one."""
NOT_STRUCTURAL = {"$ref", "const", "default", "discriminator", "examples", "oneOf", "patternProperties", "title"}
IN_CONDITION = {"type", "description", "additionalProperties", "nullable", "default"}
"""Keywords that an API server refuses within allOf, anyOf and not."""


def nodes(schema: Any, *, condition: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each node of a structural schema, and whether it is within a condition."""
    yield schema, condition
    for inner in schema.get("properties", {}).values():
        yield from nodes(inner, condition=condition)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], condition=condition)
    for key in ("allOf", "anyOf"):
        for inner in schema.get(key, ()):
            yield from nodes(inner, condition=True)
    if "not" in schema:
        yield from nodes(schema["not"], condition=True)


ROOT_SCHEMA = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_shipped_definition_is_the_generated_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Run `make schema` if this fails: the settings of a workload changed."""
    assert main(["schema", "--crd"]) == 0
    printed = capsys.readouterr().out
    assert (DEPLOY / "workload-crd.yaml").read_text(encoding="utf-8") == printed
    assert yaml.safe_load(printed) == definition()
    assert "&id" not in printed


def test_definition_fits_into_the_annotation_of_kubectl_apply() -> None:
    assert len(json.dumps(definition())) < MAX_ANNOTATION * 0.9


def test_schema_is_structural() -> None:
    for node, condition in nodes(ROOT_SCHEMA):
        assert not NOT_STRUCTURAL & node.keys(), node
        assert not ("properties" in node and "additionalProperties" in node), node
        if condition:
            assert not IN_CONDITION & node.keys(), node
        else:
            any_type = {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"} & node.keys()
            assert ("type" in node) != bool(any_type), node


def test_each_map_and_list_has_a_schema_for_its_values() -> None:
    """An API server from before July 2022 needs time that doubles with each nested map without a schema."""
    untyped = [node for node, condition in nodes(ROOT_SCHEMA) if not condition and "type" not in node]
    assert untyped
    for node in untyped:
        assert "x-kubernetes-int-or-string" in node or {"items", "additionalProperties"} <= node.keys(), node


def test_no_pattern_repeats_more_often_than_an_api_server_accepts() -> None:
    """Go's regular expressions repeat at most 1,000 times, where counts of nested repetitions multiply."""
    patterns = [node["pattern"] for node, _ in nodes(ROOT_SCHEMA) if "pattern" in node]
    counts = [repetitions(parse(pattern)) for pattern in patterns]
    assert len(counts) > 10
    assert max(counts) <= 1000
    assert repetitions(parse("^(a[b]{0,62}){1,20}$")) == 1240


def repetitions(parsed: Any) -> int:
    """Return the largest product of counts of nested repetitions in a parsed pattern."""
    largest = 1
    for operation, value in parsed:
        if operation in {MAX_REPEAT, MIN_REPEAT}:
            low, high, repeated = value
            largest = max(largest, int(low if high == MAXREPEAT else high) * repetitions(repeated))
        elif operation is SUBPATTERN:
            largest = max(largest, repetitions(value[-1]))
        elif operation is BRANCH:
            largest = max(largest, *(repetitions(branch) for branch in value[1]))
    return largest


def test_rules_refer_to_settings_of_their_schema() -> None:
    rules = [
        (node, rule["rule"]) for node, _ in nodes(ROOT_SCHEMA) for rule in node.get("x-kubernetes-validations", ())
    ]
    assert len(rules) > 100
    for node, rule in rules:
        names = set(re.findall(r"\bself\.([a-z0-9_]+)", rule))
        plain = {name.strip("_") if name.startswith("__") else name for name in names}
        assert plain <= node.get("properties", {}).keys() | {"all", "metadata"}, rule
        assert not names & RESERVED, rule


@pytest.mark.parametrize("file", sorted((ROOT / "config/workloads").glob("*.yaml")), ids=lambda f: f.stem)
def test_settings_of_each_shipped_workload_are_in_the_schema(file: Path) -> None:
    """No key of a shipped workload would be pruned."""
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        if document and "pools" in document:
            assert list(pruned(document, spec_schema())) == []


def pruned(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield the keys that an API server would drop."""
    if isinstance(value, dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        for key, inner in value.items():
            below = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if below is None:
                yield f"{place}.{key}"
            else:
                yield from pruned(inner, below, f"{place}.{key}")
    elif isinstance(value, list) and "items" in schema:
        for inner in value:
            yield from pruned(inner, schema["items"], place)


@pytest.mark.parametrize(
    "node", [{"anyOf": [{"type": "string"}, {"type": "integer"}]}, {}, {"allOf": [{"type": "string"}]}], ids=json.dumps
)
def test_a_construct_without_translation_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no structural schema"):
        Translation({}).structural(node)
