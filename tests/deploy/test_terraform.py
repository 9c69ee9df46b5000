"""The Terraform modules: they parse, name only what they declare, and grant the documented permissions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hcl2
import pytest
import yaml

from tests.deploy.charts import DEPLOY

FOLDER: Final = DEPLOY / "terraform"
MODULES: Final = ("aws", "azure", "gcp")
PERMISSIONS: Final = (DEPLOY.parents[1] / "docs/reference/permissions.md").read_text()
MARKS: Final = {"__comments__", "__inline_comments__", "__is_block__"}
"""Keys that the parser adds."""


def plain(value: Any) -> Any:
    """Return a parsed value without the quotation marks of its texts and the marks of its blocks."""
    if isinstance(value, dict):
        return {plain(key): plain(v) for key, v in value.items() if key not in MARKS}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, str) and value.startswith('"') and value.endswith('"'):
        return value[1:-1]
    return value


def module(name: str) -> dict[str, Any]:
    """Return the blocks of a module's files by kind."""
    merged: dict[str, Any] = {}
    for file in sorted((FOLDER / name).glob("*.tf")):
        with file.open() as text:
            for kind, blocks in hcl2.load(text).items():
                merged.setdefault(kind, []).extend(plain(blocks))
    return merged


def declared(name: str, kind: str) -> dict[str, Any]:
    """Return the contents of the blocks of a kind by their label."""
    return {label: content for block in module(name).get(kind, []) for label, content in block.items()}


def local_values(name: str) -> dict[str, Any]:
    return {key: value for block in module(name)["locals"] for key, value in block.items()}


def source(name: str) -> str:
    """Return the text of a module's files without comments."""
    text = "\n".join(file.read_text() for file in sorted((FOLDER / name).glob("*.tf")))
    return re.sub(r"^\s*#.*$|\s# .*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", MODULES)
def test_module_names_only_what_it_declares_and_uses_all_of_it(name: str) -> None:
    text = source(name)
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(declared(name, "variable"))
    assert set(re.findall(r"\blocal\.(\w+)", text)) == set(local_values(name))
    made = {f"{kind}.{label}" for block in module(name)["resource"] for kind, of in block.items() for label in of}
    read = {f"{kind}.{label}" for block in module(name).get("data", []) for kind, of in block.items() for label in of}
    assert set(re.findall(r"(?<![.\w])((?:aws|google|azurerm)_\w+\.\w+)", text)) <= made
    assert set(re.findall(r"\bdata\.(\w+\.\w+)", text)) == read


@pytest.mark.parametrize("name", MODULES)
def test_variables_and_outputs_are_described_and_versions_bounded(name: str) -> None:
    for kind in ("variable", "output"):
        assert all(block["description"].endswith(".") for block in declared(name, kind).values())
    (settings,) = module(name)["terraform"]
    providers = settings["required_providers"][0]
    assert all(provider["version"].startswith(">= ") for provider in providers.values())


@pytest.mark.parametrize("name", MODULES)
def test_one_service_account_of_the_cluster_is_trusted(name: str) -> None:
    subject = "${var.namespace}[:/]${var.service_account}".replace("$", r"\$").replace("{", r"\{").replace("}", r"\}")
    assert re.search(subject, source(name))
    assert "*" not in re.findall(r"system:serviceaccount:\S+", source(name))


def statements() -> Iterator[dict[str, Any]]:
    """Yield the statements of the AWS policy, whatever turns them on."""
    document = next(
        of["aws_iam_policy_document"]["permissions"]
        for of in module("aws")["data"]
        if "permissions" in of.get("aws_iam_policy_document", {})
    )
    for block in document["dynamic"]:
        statement = block["statement"]
        (content,) = statement["content"]
        assert content["sid"] in statement["for_each"]
        yield content
    yield from document["statement"]


AWS_POLICIES: Final = ("aws-iam.json", "aws-routes-iam.json")


def test_aws_statements_are_those_of_the_policies() -> None:
    published = [s for file in AWS_POLICIES for s in json.loads((DEPLOY / file).read_text())["Statement"]]
    expected = {}
    for statement in published:
        actions = statement["Action"]
        condition = [
            (test, key, [values] if isinstance(values, str) else values)
            for test, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        ]
        expected[statement["Sid"]] = ([actions] if isinstance(actions, str) else actions, condition)
    granted = {
        s["sid"]: (s["actions"], [(c["test"], c["variable"], c["values"]) for c in s.get("condition", [])])
        for s in statements()
    }
    region = granted["BuyInstances"][1]
    assert region == [("StringEquals", "aws:RequestedRegion", ["${data.aws_region.current.id}"])]
    expected["BuyInstances"] = (expected["BuyInstances"][0], region)
    actions, (names, types, changes) = expected["SetWeightsOfRecords"]
    chosen = [(*names[:2], "${var.record_names}"), (*types[:2], "${var.record_types}"), changes]
    expected["SetWeightsOfRecords"] = (actions, chosen)
    assert granted == expected
    everywhere = {s["Sid"] for s in published if s["Resource"] == "*"}
    assert {s["sid"] for s in statements() if s["resources"] == ["*"]} == everywhere


def test_aws_role_trusts_pod_identity_or_one_service_account() -> None:
    text = source("aws")
    assert 'identifiers = ["pods.eks.amazonaws.com"]' in text
    assert 'variable = "${local.issuer}:sub"' in text
    assert 'variable = "${local.issuer}:aud"' in text


def documented(heading: str, scope: str | None = None) -> dict[str, set[str]]:
    """Return the permissions of each kind in a section of the reference; `scope` selects rows of the project's role."""
    section = PERMISSIONS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    by_kind: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (.+) \|$", section, re.MULTILINE):
        cells = row.split(" | ")
        permissions = set(re.findall(r"`([\w]+\.[\w./]+)`", cells[1]))
        if not permissions or (scope and cells[2] != scope):
            continue
        kinds = re.findall(r"`(\w+)`", re.split(r",| with ", cells[0])[0])
        kinds += re.findall(r"`(\w+)`", cells[0]) if scope else []
        if "reservation" in cells[0]:
            kinds = ["reservation"]
        for kind in kinds or ["always"]:
            by_kind.setdefault(kind, set()).update(permissions)
    return by_kind


def resolved(name: str, key: str) -> dict[str, set[str]]:
    """Return a map of lists among the locals, with references to other locals replaced."""
    values = local_values(name)

    def texts(listed: Any) -> list[str]:
        return texts(values[listed.removeprefix("${local.").removesuffix("}")]) if isinstance(listed, str) else listed

    return {kind: set(texts(listed)) for kind, listed in values[key].items()}


def test_google_roles_are_the_published_ones() -> None:
    project, notices = (
        set(role["includedPermissions"]) for role in yaml.safe_load_all((DEPLOY / "gcp-role.yaml").read_text())
    )
    granted = resolved("gcp", "permissions")
    assert set().union(*granted.values()) == project
    assert granted == documented("Google Cloud", "the project")
    roles = {label: of for block in module("gcp")["resource"] for label, of in block.items()}
    (notices_role,) = [
        of["notices"]
        for block in module("gcp")["resource"]
        for kind, of in block.items()
        if kind == "google_project_iam_custom_role" and "notices" in of
    ]
    assert set(notices_role["permissions"]) == notices
    assert "google_pubsub_subscription_iam_member" in roles


def test_azure_role_is_the_published_one() -> None:
    actions = set(json.loads((DEPLOY / "azure-role.json").read_text())["Actions"])
    always = set(local_values("azure")["always"])
    granted = resolved("azure", "actions")
    assert set().union(always, *granted.values()) == actions
    assert {**granted, "always": always} == documented("Azure")


@pytest.mark.parametrize(("name", "key"), [("azure", "actions"), ("gcp", "permissions")])
def test_uses_allows_the_kinds_that_grant_permissions(name: str, key: str) -> None:
    (validation,) = declared(name, "variable")["uses"]["validation"]
    for text in (validation["condition"], validation["error_message"]):
        assert set(re.findall(r"\b\w+_\w+\b|\bpubsub\b|\bvmss\b|\breservation\b", text)) - {"error_message"} == set(
            local_values(name)[key]
        )


def test_modules_are_complete() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [*MODULES]
    for name in MODULES:
        assert {file.name for file in Path(FOLDER / name).iterdir()} == {"main.tf", "outputs.tf", "variables.tf"}
