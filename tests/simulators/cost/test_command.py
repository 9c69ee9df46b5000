"""``forescale advise``: text, JSON and page, and invalid arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaler.cli import main
from tests.simulators.cost.inputs import MODEL, journal, write_scenario

pytestmark = pytest.mark.slow

OFFERS = f"""\
offers:
  h100:
    model: {MODEL}
    reserved_usd_per_hour: 3.0
api: {{input_usd_per_million: 0.5, output_usd_per_million: 1.5}}
"""
RESERVED = "offers.yaml:4 offers.h100.reserved_usd_per_hour"


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main([str(a) for a in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("advise")
    (directory / "offers.yaml").write_text(OFFERS)
    write_scenario(directory)
    journal(directory / "scenario.yaml")
    return directory


def test_text_output_has_findings_figures_and_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "advise", folder / "scenario.yaml", "--offers", folder / "offers.yaml")
    assert code == 0
    assert out.startswith("hour: workload chat on h100")
    for title in (
        "Purchase plan",
        "Choice of the GPU",
        "Batching",
        "Cost of headroom",
        "Managed API",
        "Sources",
        "Limits",
    ):
        assert title in out
    assert RESERVED in out.replace("\n     ", "")
    assert "scenario.yaml" in out


def test_json_has_every_figure_with_formula_and_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "advise", folder / "journal", "--offers", folder / "offers.yaml", "--json", "-")
    document = json.loads(out)
    assert (code, document["workload"], [s["key"] for s in document["sections"]]) == (
        0, "chat", ["buying", "sizing", "effects", "headroom", "bursts", "managed"],
    )  # fmt: skip
    figures = [f for s in document["sections"] for f in s["figures"]]
    assert len(figures) > 20
    assert all(f["formula"] and f["sources"] and f["unit"] for f in figures)
    assert document["curve"]["held_share"] == sorted(document["curve"]["held_share"], reverse=True)
    assert len(document["curve"]["markets"]) == len(document["curve"]["held_share"])


@pytest.mark.slow
def test_html_page_is_reproducible_and_loads_no_external_resources(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        args = ("advise", folder / "scenario.yaml", "--offers", folder / "offers.yaml", "--html", folder / name)
        assert run(capsys, *args)[0] == 0
        pages.append((folder / name).read_text())
    assert pages[0] == pages[1]
    for part in ('id="load-duration"', 'id="reserving"', 'id="sizing"', "Sources", RESERVED):
        assert part in pages[0]
    assert 'src="http' not in pages[0]
    assert len(pages[0].encode()) < 1_500_000


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        (["scenario.yaml", "--model", "x"], "applies to a journal only"),
        (["scenario.yaml", "--prompt-tokens", "5"], "applies to a journal only"),
        (["journal", "--trace", "t.csv"], "applies to a scenario only"),
        (["journal", "--output-tokens", "0"], "must be 1 to 1,000,000 tokens"),
        (["journal", "--seed", "-1"], "must be 0 to"),
        (["scenario.yaml", "--html", "none/page.html"], "the directory does not exist"),
        (["journal", "--offers", "none.yaml"], "cannot be read"),
        (["nowhere"], "no such file or directory"),
        (["nowhere.yaml"], "cannot be read"),
        (["journal", "--workload", "cat"], "did you mean 'chat'?"),
        (["journal", "--model", "llama-9"], "is not in the catalogue"),
    ],
)
def test_invalid_arguments_are_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], rule: str
) -> None:
    paths = [str(folder / a) if i == 0 else a for i, a in enumerate(args)]
    code, out, err = run(capsys, "advise", *paths)
    assert (code, out) == (2, "")
    assert rule in err
