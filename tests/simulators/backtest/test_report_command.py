"""``forescale report`` from outside: its output and files, and refused options."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scaler.cli import main
from tests.servers import chromium
from tests.simulators.backtest import recorded_runs
from tests.simulators.reporting.test_report import charts_of, script_of

pytestmark = pytest.mark.slow

needs_browser = pytest.mark.skipif(chromium.find() is None, reason="no Chromium on PATH")
EARLY = ("--until", str(recorded_runs.BEGAN + 1800))
"""Enough ticks for every section, and the start of the crowd."""


def report(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main(["report", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def without_ten_minutes(lines: list[str]) -> list[str]:
    """Return the lines without the ticks from the tenth minute to the twentieth."""
    return [
        line
        for line in lines
        if not recorded_runs.BEGAN + 600 <= json.loads(line).get("at", 0.0) < recorded_runs.BEGAN + 1200
    ]


def called_batch(lines: list[str]) -> list[str]:
    """Return the lines as those of another workload with its own specification."""
    fingerprint = next(json.loads(line)["fingerprint"] for line in lines if '"type":"spec"' in line)
    return [line.replace('"chat"', '"batch"').replace(fingerprint, "other") for line in lines]


def test_the_report_has_a_summary_notable_periods_and_counterfactuals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A policy that is compared anyway may be named too."""
    code, out, err = report(capsys, recorded_runs.period().journal, "--policy", "hpa")
    assert (code, err) == (0, "")
    assert re.search(r"chat, 91.0 minutes from 2026-01-05T00:00:00Z: [\d.]+ replica-hours for \$\d+\.\d\d\.", out)
    verdict = r"SLO missed: about [\d,]+ late of [\d,]+ \(\d+\.\d\d%\), 1% allowed: burn rate [\d.]+; estimated from"
    assert re.match(verdict, out)
    assert re.search(r"SLO violations +2026-01-05T00:20:00Z", out)
    columns = next(line.split("  ") for line in out.splitlines() if line.strip().startswith("recorded"))
    assert [c.strip() for c in columns if c] == ["recorded", "same sizes", "present", "hpa", "keda"]
    assert "A replay of the recorded sizes costs" in out
    assert "The simulation of the policy that ran has" in out
    assert "a start takes" in out


def test_every_figure_is_json_without_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = report(capsys, recorded_runs.period().journal, "--json", "-", *EARLY)
    report_json = json.loads(out, parse_constant=refuse)
    assert code == 0
    chat = report_json["workloads"]["chat"]
    assert chat["ticks"] == 120
    assert chat["recorded"]["usd"] > 0
    assert chat["recorded"]["late_estimated_by"]
    assert all(rule["last_reason"] for rule in chat["reasons"].values())
    assert chat["recorded"]["slo"] in {"met", "missed"}
    assert chat["notable_periods"][0]["what"] == "SLO violations"
    assert set(chat["others"]["policies"]) == {"same sizes", "present", "hpa", "keda"}
    assert chat["others"]["error"]["usd_off"] > 0
    assert sum(rule["ticks"] for rule in chat["reasons"].values()) == 120
    report(capsys, recorded_runs.period().journal, "--json", tmp_path / "o.json", *EARLY)
    assert json.loads((tmp_path / "o.json").read_text(), parse_constant=refuse) == report_json, (
        "equal for equal records"
    )


def test_the_html_page_has_the_same_text_and_shows_gaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = recorded_runs.edited_journal(tmp_path, without_ten_minutes)
    page = tmp_path / "page.html"
    code, out, _ = report(capsys, journal, "--html", page, *EARLY)
    text = script_of(page.read_text())
    assert code == 0
    assert "No ticks for 10.0 minutes" in out
    assert "No ticks for 10.0 minutes" in text
    assert "no tick for 10.0 minutes" in text
    for heading in ("Where to look", "Recorded period", "Rules that decided the size", "Simulation of other policies"):
        assert heading in text
    chart = charts_of(text)["w0-record-sizes"]
    ready = next(series for series in chart["series"] if series["name"] == "ready")
    at = [k for k, t in enumerate(chart["xs"][ready["x"]]) if 600 <= t - recorded_runs.BEGAN < 1200]
    assert [ready["y"][k] for k in at] == [None], "no line across a gap"


def test_record_only_simulates_no_policy(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = report(capsys, recorded_runs.period().journal, "--record-only")
    assert code == 0
    assert "No other policy was simulated: --record-only is set." in out
    assert "hpa" not in out


def test_several_workloads_are_reported_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = recorded_runs.edited_journal(tmp_path, called_batch)
    page = tmp_path / "page.html"
    code, out, _ = report(capsys, recorded_runs.period().journal, renamed, "--record-only", "--html", page)
    assert code == 0
    assert [line.split(",")[0] for line in out.splitlines() if "replica-hours for" in line] == ["batch", "chat"]
    assert all(f'id="w{k}-record-sizes">' in page.read_text() for k in range(2))
    code, out, _ = report(capsys, recorded_runs.period().journal, renamed, "--record-only", "--workload", "batch")
    assert "chat" not in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(("none",), "none: no such file or directory", id="no journal"),
        pytest.param(("JOURNAL", "--since", "yesterday"), "--since 'yesterday': must be ISO 8601", id="time"),
        pytest.param(("JOURNAL", "--since", "2026-01-06", "--until", "2026-01-05"), "must be after --since", id="ends"),
        pytest.param(("JOURNAL", "--workload", "chta"), "did you mean 'chat'?", id="workload"),
        pytest.param(("JOURNAL", "--model", "llama-9"), "llama-9", id="model"),
        pytest.param(("JOURNAL", "--policy", "hpaa"), "hpaa", id="policy"),
        pytest.param(("JOURNAL", "--policy", "none.yaml"), "none.yaml", id="file"),
        pytest.param(
            ("JOURNAL", "--record-only", "--policy", "kpa"), "cannot be combined with --record-only", id="for nothing"
        ),
        pytest.param(("JOURNAL", "--prompt-tokens", "0"), "must be 1 to 65536", id="tokens"),
        pytest.param(("JOURNAL", "--html", "none/page.html"), "the directory does not exist", id="page"),
    ],
)
def test_invalid_options_are_reported(capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str) -> None:
    arguments: list[Any] = [recorded_runs.period().journal if argument == "JOURNAL" else argument for argument in args]
    code, out, err = report(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.slow
@needs_browser
async def test_a_browser_draws_every_plot_without_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    await asyncio.to_thread(
        lambda: report(capsys, recorded_runs.edited_journal(tmp_path, without_ten_minutes), "--html", page)
    )
    async with chromium.browser(tmp_path / "profile") as tab:
        await tab.show(1280, 900, "light")
        await tab.go(page.as_uri())
        await tab.until("document.querySelectorAll('.canvas').length >= 20")
        await tab.tell("document.querySelectorAll('details').forEach(d => d.open = true)")
        await tab.until("[...document.querySelectorAll('.canvas')].every(p => p.querySelector('canvas'))")
        assert tab.complaints == []
        assert [url for url in tab.asked_for if not url.startswith(("file:", "data:", "blob:"))] == []
