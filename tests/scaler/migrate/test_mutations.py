"""Mutated manifests: an import, or problems with file and line, but no other exception."""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scaler.cli import main
from tests.laws import law
from tests.scaler.migrate.importing import MANIFESTS

pytestmark = pytest.mark.slow

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text("aZ-.:/{ ", max_size=6), st.just(10**400),
    st.sampled_from(["", "1e999", "9" * 50, "-5", "2024-01-01", "0x1", "Disabled", "Percent", "EiEi", "\x00"]),
    st.sampled_from([[], {}, [1], [{}], [[]], {"a": 1}, {1: 2}, {"a": {"b": []}}, [None], ["cpu"]]),
)  # fmt: skip
DOCUMENTS = [list(yaml.safe_load_all(file.read_text())) for file in sorted(MANIFESTS.glob("*.yaml"))]


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [p for key, value in below for p in [(*at, key), *places(value, (*at, key))]]


@st.composite
def manifests(draw: Callable[..., Any]) -> list[Any]:
    """Draw a valid manifest with one to four values replaced, removed or added."""
    documents: list[Any] = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        all_places = places(documents)
        if not all_places:
            break
        *above, key = draw(st.sampled_from(all_places))
        at: Any = documents
        for step in above:
            at = at[step]
        mutation = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if mutation == "remove":
            del at[key]
        elif mutation == "add" and isinstance(at, dict):
            at[draw(st.sampled_from(["zz", "spec", "type", 1, None]))] = copy.deepcopy(draw(VALUES))
        else:
            at[key] = copy.deepcopy(draw(VALUES))
    return documents


def run_import(*options: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["import", *options])
    return code, out.getvalue()


@law(examples=400)
@given(documents=manifests(), option=st.sampled_from([(), ("--native",), ("--prometheus", "http://prom:9090")]))
def test_mutated_manifest_is_imported_or_rejected_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, documents: list[Any], option: tuple[str, ...]
) -> None:
    file = tmp_path_factory.getbasetemp() / "changed.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    code, out = run_import(str(file), *option)
    assert code in {0, 1, 2}
    if code:
        assert re.search(r"(changed\.yaml|the generated workload):[0-9]+", out)


WRONG = {
    "a step without a value": "policies: [{type: Pods, periodSeconds: 60}]",
    "a step whose value is text": "policies: [{type: Percent, value: x, periodSeconds: 60}]",
    "no steps": "policies: []",
    "a step of a kind that is a list": "policies: [{type: [Pods], value: 1, periodSeconds: 60}]",
    "a choice that is a mapping": "selectPolicy: {a: 1}",
}


@pytest.mark.parametrize("rules", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("option", [(), ("--native",)])
def test_invalid_behavior_is_rejected_with_its_line(
    rules: str, option: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents = yaml.safe_load((MANIFESTS / "hpa-vllm.yaml").read_text())
    documents["spec"]["behavior"] = {"scaleUp": yaml.safe_load(rules)}
    file = tmp_path_factory.getbasetemp() / "behavior.yaml"
    file.write_text(yaml.safe_dump(documents))
    code, out = run_import(str(file), *option)
    assert code == 2
    assert re.search(r"behavior\.yaml:[0-9]+: spec\.behavior\.scaleUp", out)


@pytest.mark.parametrize(
    "text", ["kind: [a]\n", "kind: {a: b}\n", "kind: List\nitems: 5\n", "kind: List\nitems: {a: 1}\n"]
)
def test_invalid_kind_or_list_is_rejected(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "kind.yaml"
    file.write_text(text)
    code, out = run_import(str(file))
    assert code == 2
    assert "kind.yaml:" in out
