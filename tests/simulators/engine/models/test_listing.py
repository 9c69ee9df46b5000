"""``forescale models`` and its reference page: every service model with its figures, error and source."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from scaler.cli import main
from simulators.engine.models import catalogue, listing
from simulators.engine.models.worth import saturation_rates

HOOK = Path(__file__).parents[4] / "docs/hooks/reference.py"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(["models", *args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_list_has_every_model_and_fits_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= listing.WIDTH
    assert [line.split()[0] for line in lines[1 : len(catalogue.names()) + 1]] == catalogue.names()
    rates = saturation_rates(catalogue.load("llama-3.1-8b-h100-vllm"))
    (row,) = (line.split() for line in lines if line.startswith("llama-3.1-8b-h100-vllm "))
    assert row[1:4] == ["1x", "H100", "vLLM"]
    assert row[4:] == [
        f"{rates.prompt_tokens_per_s:,.0f}",
        f"{rates.generation_tokens_per_s:,.0f}",
        "1.8%",
        "runs",
    ]


@pytest.mark.parametrize(
    ("name", "accelerator", "engine", "error", "source"),
    [
        ("llama-3.1-70b-b200x2-trtllm", "2x B200", "TRT-LLM", 0.036, "kernels"),
        ("qwen3-32b-rtx-pro-6000x2", "2x RTX PRO 6000", "vLLM", 0.031, "kernels"),
        ("llama-3.1-70b-h100x4-llmservingsim", "4x H100", "vLLM", 0.052, "profile"),
        ("llama-3.1-8b-tpu-v6e", "1x TPU v6e", "vLLM", 0.088, "profile"),
        ("llama-3.1-8b-h100-vllm-prior", "1x H100", "vLLM", None, "prior"),
    ],
)
def test_a_model_has_its_parts_error_and_source(
    capsys: pytest.CaptureFixture[str], name: str, accelerator: str, engine: str, error: float | None, source: str
) -> None:
    entry = json.loads(run(capsys, name, "--json")[1])
    assert (entry["accelerator"], entry["engine"], entry["error"], entry["source"]) == (
        accelerator, engine, error, source,
    )  # fmt: skip
    assert entry["model"]["provenance"] == catalogue.load(name).provenance
    text = run(capsys, name)[1]
    assert "  error        " + ("unknown" if error is None else f"{error:.1%}, ") in text
    assert catalogue.load(name).provenance[:60] in text
    assert f"kv_tokens          {catalogue.load(name).kv_tokens}" in text


def test_every_model_has_a_known_source() -> None:
    assert [e.name for e in listing.entries() if e.source is None or e.weights is None] == []


def test_the_list_as_json_has_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert [e["name"] for e in json.loads(run(capsys, "--json")[1])] == catalogue.names()


def test_a_model_file_is_shown_with_unknown_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text((catalogue.DATA / "llama-3.1-8b-h100-vllm.yaml").read_text().split("provenance:")[0])
    out = run(capsys, str(file))[1]
    assert "  accelerator  unknown" in out
    assert "  error        unknown\n  source       unknown" in out


def test_a_mistyped_name_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "llama-3.1-8b-h10")
    assert code == 2
    assert "is not in the catalogue (did you mean 'llama-3.1-8b-h100'?)" in err


def test_the_reference_page_has_every_model_with_its_source() -> None:
    spec = importlib.util.spec_from_file_location("reference", HOOK)
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.pages()["models"]
    for entry in listing.entries():
        anchor = entry.name.replace(".", "")
        assert f"| [`{entry.name}`](#{anchor}) | {entry.accelerator} |" in page
        assert f"### `{entry.name}` {{#{anchor}}}\n\n{entry.model.provenance}" in page
