"""Rules of the repository: registry entries have tests, examples and docs; files are small; no import cycles."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from scaler.adapters import EXTRAS
from scaler.registry import POOLS, REGISTRIES, ROUTES, SOURCES, import_object, resolve

ROOT = Path(__file__).parents[1]
ENTRIES = [(registry, kind) for registry, kinds in REGISTRIES.items() for kind in kinds]
DOCS = {
    "policy": "docs/how-to/add-a-policy.md",
    "source": "docs/how-to/add-a-source.md",
    "pool": "docs/how-to/add-an-actuator.md",
}
ADAPTERS = {"source": SOURCES, "pool": POOLS, "route": ROUTES}
PACKAGES = {"source": "scaler.sources", "pool": "scaler.actuators", "route": "scaler.routes"}
MAX_LINES = 400


def python_files(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def contract_tests() -> str:
    return "\n".join(p.read_text() for p in (ROOT / "tests/contracts").glob("test_*.py"))


@pytest.mark.parametrize(("registry", "kind"), ENTRIES)
def test_every_registry_entry_has_a_contract_test(registry: str, kind: str) -> None:
    name = resolve(registry, kind).__name__
    assert re.search(rf"\b{name}\(", contract_tests()), f"tests/contracts/ has no subclass that makes a {name}"


@pytest.mark.slow
@pytest.mark.parametrize(("registry", "kind"), ENTRIES)
def test_every_registry_entry_has_an_example(registry: str, kind: str) -> None:
    key = {"policy": "policies", "source": "sources", "pool": "pools", "route": "routes"}[registry]
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
def test_every_registry_entry_has_a_line_in_the_readme(registry: str, kind: str) -> None:
    assert f"`{kind}`" in (ROOT / "README.md").read_text(), f"the README's table of {registry} kinds lacks `{kind}`"


@pytest.mark.parametrize("registry", REGISTRIES)
def test_registries_are_in_alphabetical_order(registry: str) -> None:
    assert list(REGISTRIES[registry]) == sorted(REGISTRIES[registry])


@pytest.mark.parametrize("doc", sorted(DOCS.values()))
def test_imports_in_how_to_pages_exist(doc: str) -> None:
    page = (ROOT / doc).read_text()
    code = [
        textwrap.dedent(block) for block in re.findall(r"^   ```python\n(.*?)^   ```", page, re.DOTALL | re.MULTILINE)
    ]
    files = [ast.parse(block) for block in code if block.startswith('"""')]
    created_files = {name.removesuffix(".py").replace("/", ".") for name in re.findall(r"`([\w/]+\.py)`", page)}
    imports = [node for file in files for node in ast.walk(file) if isinstance(node, ast.ImportFrom)]
    checked = [n for n in imports if str(n.module).startswith(("policies", "scaler")) and n.module not in created_files]
    assert len(checked) >= 3
    for node in checked:
        module = importlib.import_module(str(node.module))
        for name in node.names:
            assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), name.name


@pytest.mark.parametrize(("registry", "kind"), [entry for entry in ENTRIES if entry[0] != "policy"])
def test_adapter_has_its_own_file_named_after_its_kind(registry: str, kind: str) -> None:
    opening = ADAPTERS[registry][kind].open
    package = PACKAGES[registry]
    assert opening in {f"{package}.{kind}:open_{kind}", f"simulators.quickstart.embedded:open_{kind}_{registry}"}
    assert inspect.iscoroutinefunction(import_object(opening))


def imports_of(module: str, modules: Mapping[str, Path]) -> set[str]:
    """Return those of `modules` that one of them imports, under TYPE_CHECKING and within functions too.

    To import `a.b.c` is to import `a` and `a.b` first, unless these are packages that the importer is in itself.
    """
    named: set[str] = set()
    for node in ast.walk(ast.parse(modules[module].read_text())):
        if isinstance(node, ast.Import):
            named |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{name.name}" for name in node.names} & modules.keys()
            named |= inner or {node.module}
    packages = {name.rsplit(".", depth)[0] for name in named for depth in range(1, name.count(".") + 1)}
    imports = named | {package for package in packages if not module.startswith(f"{package}.")}
    return {name for name in imports if name in modules and name != module}


CLOUD_EXTRA = re.compile(r"scaler\.clouds\.(aws|azure|gcp|kubernetes|modal|postgresql)\.")


@pytest.mark.parametrize(("registry", "kind"), [entry for entry in ENTRIES if entry[0] != "policy"])
def test_kind_names_the_extra_that_its_adapter_imports(registry: str, kind: str) -> None:
    entry = ADAPTERS[registry][kind]
    adapter = entry.open.partition(":")[0]
    files = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts): p
        for p in python_files("scaler/actuators", "scaler/sources", "scaler/routes", "scaler/clouds")
    }
    reached, queue = set[str](), [adapter] if adapter in files else []
    while queue:
        reached.add(module := queue.pop())
        queue += imports_of(module, files) - reached
    clouds = {match[1] for module in reached if (match := CLOUD_EXTRA.match(module))}
    assert clouds | {EXTRAS[sdk] for sdk in (sdks_of(files[adapter]) if reached else ())} == ({entry.extra} - {""})


def sdks_of(file: Path) -> set[str]:
    """Return the packages of extras that a file imports itself."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    named |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
    return {name.partition(".")[0] for name in named} & EXTRAS.keys()


def import_cycles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the import cycles: strongly connected components of at least two modules."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    cycles: list[set[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        path.append(module)
        for other in imports[module]:
            if other not in order:
                visit(other)
            if other in path:
                low[module] = min(low[module], low[other])
        if low[module] == order[module]:
            component = set(path[path.index(module) :])
            del path[path.index(module) :]
            if len(component) > 1:
                cycles.append(component)

    for module in imports:
        if module not in order:
            visit(module)
    return cycles


def test_import_cycles_are_detected() -> None:
    assert import_cycles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}) == [{"b", "c"}]
    assert import_cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.slow
def test_no_import_cycles_exist() -> None:
    files = python_files("policies", "scaler", "simulators")
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}
    cycles = import_cycles({name: imports_of(name, modules) for name in modules})
    assert [sorted(cycle) for cycle in cycles] == []


@pytest.mark.slow
@pytest.mark.parametrize("file", [str(p.relative_to(ROOT)) for p in python_files("policies", "scaler", "simulators")])
def test_files_are_small_and_have_a_docstring(file: str) -> None:
    text = (ROOT / file).read_text()
    assert text.count("\n") <= MAX_LINES, f"more than {MAX_LINES} lines"
    assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_class_name_stands_for_one_class() -> None:
    places: dict[str, list[str]] = {}
    for path in python_files("policies", "scaler", "simulators"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_only_the_clock_module_reads_the_time() -> None:
    clock_read = re.compile(r"\btime\.(time|monotonic|perf_counter)\(|datetime\.now\(|loop\.time\(")
    readers = [p.name for p in python_files("policies", "scaler", "simulators") if clock_read.search(p.read_text())]
    assert readers == ["clock.py"]


def test_log_events_are_constant() -> None:
    """Operators filter and count lines by their event; its details are fields."""
    calls = [
        (f"{file.relative_to(ROOT)}:{node.lineno}", node.args[0])
        for file in python_files("scaler", "simulators")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and re.fullmatch(r"log\.(debug|info|warning|error)", ast.unparse(node.func))
    ]
    assert len(calls) > 20
    wrong = [(place, ast.unparse(event)) for place, event in calls if not is_constant_event(event)]
    assert wrong == []


def is_constant_event(event: ast.expr) -> bool:
    """Return whether an argument is a text of lowercase words."""
    text = event.value if isinstance(event, ast.Constant) else None
    return isinstance(text, str) and re.fullmatch("[a-z]+([ _][a-z]+)*", text) is not None


@pytest.mark.parametrize("event", ["f'tick of {name}'", "event", "'tick %s'", "'Tick failed'", "7"])
def test_other_log_events_are_detected(event: str) -> None:
    assert not is_constant_event(ast.parse(event, mode="eval").body)


def test_tests_patch_nothing() -> None:
    patching = re.compile("mock" + r"\.patch|monkeypatch\.setattr|" + "Magic" + "Mock|Async" + "Mock")
    assert [p.name for p in python_files("tests") if patching.search(p.read_text())] == []


@pytest.mark.slow
def test_configuration_with_every_kind_loads_no_sdk() -> None:
    script = (
        "import sys; from pathlib import Path; from scaler.config.load import load\n"
        "from scaler.registry import POOLS, SOURCES, kind_of\n"
        "import scaler.app, scaler.commands.check, scaler.commands.schema\n"
        "loaded = [load([Path(f'config/{name}')]) for name in ('example', 'quickstart')]\n"
        "specs = [w.spec for config in loaded for w in config.workloads.values()]\n"
        "assert {kind_of('source', s) for spec in specs for s in spec.sources.values()} == SOURCES.keys()\n"
        "assert {kind_of('pool', p) for spec in specs for p in spec.pools.values()} == POOLS.keys()\n"
        "from scaler.adapters import EXTRAS\n"
        "sdks = {*EXTRAS, 'scipy'}\n"
        "print(sorted(sdks & {module.partition('.')[0] for module in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
