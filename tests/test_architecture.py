"""The house rules that a tool can check: what the registry names is tested, shown and told; rooms stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scaler.registry import REGISTRIES, resolve

ROOT = Path(__file__).parents[1]
ENTRIES = [(registry, kind) for registry, kinds in REGISTRIES.items() for kind in kinds]
DOCS = {
    "policy": "docs/add-a-policy.md",
    "source": "docs/add-a-source.md",
    "pool": "docs/add-an-actuator.md",
}
MAX_LINES = 400


def python_files(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))


def contract_tests() -> str:
    return "\n".join(p.read_text() for p in (ROOT / "tests/contracts").glob("test_*.py"))


@pytest.mark.parametrize(("registry", "kind"), ENTRIES)
def test_every_entry_has_its_contract_test(registry: str, kind: str) -> None:
    name = resolve(registry, kind).__name__
    assert re.search(rf"\b{name}\(", contract_tests()), f"tests/contracts/ has no subclass that makes a {name}"


@pytest.mark.parametrize(("registry", "kind"), ENTRIES)
def test_every_entry_has_its_example(registry: str, kind: str) -> None:
    key = {"policy": "policies", "source": "sources", "pool": "pools"}[registry]
    shown = {
        entry["kind"]
        for file in (ROOT / "config").rglob("*.yaml")
        if "deploy" not in file.parts
        for document in yaml.safe_load_all(file.read_text())
        if document and "scenario" not in document
        for entry in document.get(key, {}).values()
    }
    assert kind in shown


@pytest.mark.parametrize(("registry", "kind"), ENTRIES)
def test_every_entry_has_its_line_in_the_readme(registry: str, kind: str) -> None:
    assert f"`{kind}`" in (ROOT / "README.md").read_text(), f"the README's table of {registry} kinds lacks `{kind}`"


@pytest.mark.parametrize("registry", REGISTRIES)
def test_registries_are_in_alphabetical_order(registry: str) -> None:
    assert list(REGISTRIES[registry]) == sorted(REGISTRIES[registry])


@pytest.mark.parametrize("doc", sorted({*DOCS.values(), "docs/architecture.md", "docs/runbook.md"}))
def test_the_documents_that_the_design_names_exist(doc: str) -> None:
    assert (ROOT / doc).stat().st_size > 500


@pytest.mark.parametrize("file", [str(p.relative_to(ROOT)) for p in python_files("policies", "scaler", "simulators")])
def test_files_are_small_and_say_what_they_are(file: str) -> None:
    text = (ROOT / file).read_text()
    assert text.count("\n") <= MAX_LINES, "a room that may hold two"
    assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_only_the_clock_reads_a_clock() -> None:
    reading = re.compile(r"\btime\.(time|monotonic|perf_counter)\(|datetime\.now\(|loop\.time\(")
    found = [p.name for p in python_files("policies", "scaler", "simulators") if reading.search(p.read_text())]
    assert found == ["clock.py"]


def test_nothing_is_patched() -> None:
    patching = re.compile("mock" + r"\.patch|monkeypatch\.setattr|" + "Magic" + "Mock|Async" + "Mock")
    assert [p.name for p in python_files("tests") if patching.search(p.read_text())] == []


def test_a_process_pays_only_for_what_its_configuration_names() -> None:
    """Loading a configuration without clouds imports no SDK; loading one that names them does not either."""
    script = (
        "import sys; from pathlib import Path; from scaler.config.load import load;"
        "load([Path('config/example')]); import scaler.app;"
        "sdks = ('aiobotocore','azure.core','botocore','google.auth','grpc','kubernetes_asyncio');"
        "print(sorted(m for m in sdks if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
