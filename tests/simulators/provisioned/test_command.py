"""``forescale plan``: text, JSON, page and script from a CSV and a journal, and invalid arguments."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scaler.cli import main
from tests.simulators.cost.inputs import journal, write_scenario
from tests.simulators.provisioned.inputs import write_csv, write_offers

pytestmark = pytest.mark.slow


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main(["plan", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plan")
    write_offers(directory)
    write_csv(directory)
    return directory


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return journal(write_scenario(tmp_path_factory.mktemp("journal")))


def test_text_has_the_plan_its_risk_and_its_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, folder / "tokens.csv", "--offers", folder / "offers.yaml")
    assert code == 0
    assert "Hold 50 PTU (year: 40, hour: 10)." in out
    for part in (
        "Expected spillover: 0.00% of the tokens",
        "Observed: 336.0 h in 14.0 days, 168 of the 168 hours of the week.",
        "All units in one term",
        "If the load changes",
        "Spilled share of the tokens of an hour",
        "Each week under the plan of the weeks before it",
        "Mean load by hour of the week (UTC)",
        "units.csv:",
        "2026-11-02",
        "Limits of this plan",
    ):
        assert part in out
    assert max(map(len, out.splitlines())) <= 250


def test_json_page_and_script_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        code, out, _ = run(
            capsys, folder / "tokens.csv", "--offers", folder / "offers.yaml", "--json", "-",
            "--html", folder / name, "--apply", folder / "plan.sh",
        )  # fmt: skip
        assert code == 0
        pages.append((folder / name).read_text())
    (result,) = json.loads(out)["plans"]
    assert result["hold"]["units"] == 50
    assert pages[0] == pages[1]
    for part in ('id="plan0-cost"', 'id="plan0-load"', 'class="heat"', result["plan_id"]):
        assert part in pages[0]
    assert 'src="http' not in pages[0]
    script = folder / "plan.sh"
    assert result["plan_id"] in script.read_text()
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    refused = subprocess.run(["sh", script], capture_output=True, text=True, check=False, env={})
    assert refused.returncode != 0
    assert "SUBSCRIPTION" in refused.stderr


def test_journal_is_planned_from_its_token_rates(
    folder: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offers = folder / "offers.yaml"
    code, out, err = run(capsys, recorded, "--offers", offers)
    assert (code, out) == (2, "")
    assert "of the 168 hours of a week; a plan needs 7 days and 151 of these hours" in err
    code, out, _ = run(capsys, recorded, "--offers", offers, "--allow-short", "--json", "-")
    (short,) = json.loads(out)["plans"]
    assert code == 0
    assert short["observed"]["hours_of_week_seen"] in {1, 2}
    assert short["observed"]["units_by_hour_of_week"].count(None) >= 166
    signals = ("--input", "engines.generation_tokens_per_s", "--output", "engines.prompt_tokens_per_s")
    code, out, _ = run(capsys, recorded, "--offers", offers, "--allow-short", "--json", "-", *signals)
    (swapped,) = json.loads(out)["plans"]
    assert swapped["observed"]["units_mean"] != pytest.approx(short["observed"]["units_mean"])


def test_table_of_units_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--units")
    assert code == 0
    assert "azure-gpt-4.1-global" in out
    assert "bedrock-model-unit" in out


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        ([], "JOURNAL|CSV: is required"),
        (["tokens.csv"], "--offers: is required: Forescale reads no prices from a cloud"),
        (
            ["tokens.csv", "--offers", "offers.yaml", "--workload", "chat"],
            "--workload = chat: applies to a journal only",
        ),
        (["tokens.csv", "--offers", "offers.yaml", "--fall", "1"], "--fall = 1: must be 0 to 0.9"),
        (["tokens.csv", "--offers", "offers.yaml", "--fall", "nan"], "--fall = nan: must be 0 to 0.9"),
        (["tokens.csv", "--offers", "offers.yaml", "--offer", "chatt"], "did you mean 'chat'?"),
        (["tokens.csv", "--offers", "offers.yaml", "--html", "none/page.html"], "the directory does not exist"),
        (["tokens.csv", "--offers", "none.yaml"], "cannot be read"),
        (["none.csv", "--offers", "offers.yaml"], "cannot be read"),
        (["nowhere", "--offers", "offers.yaml"], "no such file or directory"),
    ],
)
def test_invalid_arguments_are_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: list[str], rule: str
) -> None:
    monkeypatch.chdir(folder)
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert rule in err


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        (["--input", "engines.prompt"], "--input = engines.prompt: was never read in the journal"),
        (["--cached", "engines.cached"], "--cached = engines.cached: was never read"),
        (["--workload", "cat"], "did you mean 'chat'?"),
    ],
)
def test_signals_that_the_journal_lacks_are_reported(
    folder: Path, recorded: Path, capsys: pytest.CaptureFixture[str], args: list[str], rule: str
) -> None:
    code, out, err = run(capsys, recorded, "--offers", folder / "offers.yaml", "--allow-short", *args)
    assert (code, out) == (2, "")
    assert rule in err
