"""``forescale simulate`` from outside: its output and files, and its errors for invalid input."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scaler.cli import main
from simulators.world.traffic.readers import read
from tests.foreground import FOREGROUND
from tests.patience import PATIENCE_S
from tests.simulators.world.files import Change, files, nothing

WELL_UNDER_WAY_BYTES = 100_000
"""Size of a journal at which the run is well under way. Bytes."""
ENTRY = "from scaler.cli import main; raise SystemExit(main())"


def simulate(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main(["simulate", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def file_names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def setting(*keys: str, to: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def without(*keys: str) -> Change:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


# --- output


@pytest.mark.slow
def test_a_scenario_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = simulate(capsys, files(tmp_path))
    assert (code, err) == (0, "")
    rows = dict(line.split("  ", 1) for line in out.splitlines()[1:-1])
    assert rows["requests"].strip() == rows["finished"].strip()
    assert rows["cost"].strip().startswith("$0.")
    assert "warning" not in out


def test_json_output_contains_no_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    late = files(tmp_path, setting("warm_up_s", to=1e6))
    code, out, _ = simulate(capsys, late, "--json", "-")
    summary = json.loads(out, parse_constant=refuse)
    assert code == 0
    assert (summary["arrived"], summary["ttft_s"]["p50"], summary["attainment"], summary["slo_met"]) == (
        0,
        None,
        {},
        None,
    )
    assert summary["warnings"] == ["no request is counted: all arrive within the warm-up of 1e+06 s (warm_up_s)"]
    simulate(capsys, late, "--json", tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text(), parse_constant=refuse) == summary


def test_the_requests_file_has_a_row_per_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(s: dict[str, Any]) -> None:
        s["traffic"] = {"kind": "trace", "file": "long.csv"}

    scenario = files(tmp_path, change)
    (tmp_path / "long.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,10,2\n0.5,15990,100\n1.5,20,3\n")
    code, out, _ = simulate(capsys, scenario, "--requests", tmp_path / "rows.csv")
    assert code == 0
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["prompt_tokens"] for r in rows] == ["10", "15990", "20"]
    assert [float(r["ttft_s"] or "nan") for r in rows] == pytest.approx([0.01, float("nan"), 0.01], nan_ok=True)
    assert [float(r["e2e_s"] or "nan") for r in rows] == pytest.approx([0.02, float("nan"), 0.03], nan_ok=True)
    assert [r["replica"] for r in rows] == ["0", "-1", "0"]
    assert "warning: 1 of 3 requests were rejected: prompt and output exceed the KV cache of a replica" in out


def test_the_trace_option_replaces_the_traffic_and_sets_the_duration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = files(tmp_path, setting("traffic", to={"kind": "trace", "file": "gone.csv"}))
    code, out, _ = simulate(capsys, scenario, "--trace", tmp_path / "told.csv", "--speed", "0.1", "--json", "-")
    assert code == 0
    summary = json.loads(out)
    assert (summary["arrived"], summary["duration_s"]) == (2, 15.0 + 60.0)
    assert summary["trace"] == read(tmp_path / "told.csv").speed(0.1).digest()[:16]


def test_skip_bad_omits_invalid_rows_and_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("arrival_s,prompt_tokens,output_tokens\n3,10,2\nx,1,1\n1,10,2\n")
    code, out, _ = simulate(capsys, files(tmp_path), "--trace", bad, "--skip-bad")
    assert code == 0
    assert "warning: the trace was repaired: " in out
    assert "malformed rows skipped: 1" in out


def test_load_above_the_maximum_capacity_gives_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = simulate(capsys, files(tmp_path, lambda s: s["traffic"].update(rps=40.0, duration_s=600.0)))
    assert code == 0
    assert "warning: from 0 to 600 s the load is at least" in out
    assert "at most 4 are allowed" in out


def test_an_engine_only_run_serves_the_trace_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path)
    model, trace = tmp_path / "steady.yaml", tmp_path / "told.csv"
    code, out, _ = simulate(capsys, "--model", model, "--trace", trace, "--replicas", "2", "--seed", "0", "--json", "-")
    assert code == 0
    summary = json.loads(out)
    assert (summary["finished"], summary["replicas_mean"], summary["seed"]) == (2, 2, 0)


def test_an_engine_only_run_without_price_and_slo_has_unknown_cost_and_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path)
    engines = ("--model", tmp_path / "steady.yaml", "--trace", tmp_path / "told.csv")
    code, out, _ = simulate(capsys, *engines, "--html", tmp_path / "page.html")
    assert code == 0
    for shown in (out, (tmp_path / "page.html").read_text()):
        assert "cost unknown (no price given: --price-usd-per-hour)" in shown
        assert "SLO not judged (no SLO given: set slo in a scenario)" in shown
        assert "$0.00" not in shown
        assert "100.00%" not in shown
    summary = json.loads(simulate(capsys, *engines, "--json", "-")[1])
    unknown = ("cost_usd", "waste_share", "usd_per_million_tokens", "slo", "slo_met", "slo_missed_by")
    assert {key: summary[key] for key in unknown} == dict.fromkeys(unknown)
    assert (summary["attainment"], summary["cost_by_use_usd"], summary["cost_by_market_usd"]) == ({}, {}, {})


@pytest.mark.parametrize(("price", "cost"), [("36000", "$"), ("0", "$0.00")])
def test_an_engine_only_run_with_a_price_has_a_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], price: str, cost: str
) -> None:
    files(tmp_path)
    engines = ("--model", tmp_path / "steady.yaml", "--trace", tmp_path / "told.csv")
    code, out, _ = simulate(capsys, *engines, "--price-usd-per-hour", price)
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("cost"))
    assert row.split()[1].startswith(cost)
    assert "unknown" not in out


def test_a_run_ends_with_its_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    met = files(tmp_path, setting("slo", to={"ttft_s": 60.0, "itl_s": None, "share": 0.5}))
    assert simulate(capsys, met)[1].splitlines()[-1].startswith("SLO met: 100.00% of the requests, 50.00 points above")
    missed = files(tmp_path, setting("slo", to={"ttft_s": 0.001, "itl_s": None, "share": 0.5}))
    last = simulate(capsys, missed)[1].splitlines()[-1]
    assert last == "SLO missed by 50.00 points: 0.00% of the requests met it, the target is 50%"


def test_a_simulated_journal_can_be_explained_and_replays_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, journal = files(tmp_path), tmp_path / "journal"
    assert simulate(capsys, scenario, "--journal", journal)[0] == 0
    assert main(["replay", str(journal)]) == 0
    assert main(["explain", str(journal)]) == 0
    assert "told" in capsys.readouterr().out
    before = (journal / "00000001.jsonl").read_bytes()
    assert simulate(capsys, scenario, "--journal", journal)[0] == 0
    assert (journal / "00000001.jsonl").read_bytes() == before
    assert {n for n in file_names(tmp_path) if n.startswith(".")} == set()


@pytest.mark.slow
def test_output_is_byte_identical_for_a_seed_whatever_the_hash_seed(tmp_path: Path) -> None:
    faults = [{"fault": "unavailable", "share": 0.2}, {"fault": "out_of_capacity", "share": 0.3, "where": "pools"}]

    def change(s: dict[str, Any]) -> None:
        s |= {"faults": faults, "telemetry": {"lost_share": 0.1, "partial_share": 0.2}}
        s["pools"]["gpus"] |= {"market": "spot", "zones": {"a": {"losses_per_node_hour": 30}, "b": {}}}

    scenario, outputs = files(tmp_path, change), []
    for hash_seed in ("0", "1", "4242"):
        out, journal = tmp_path / f"{hash_seed}.json", tmp_path / f"j{hash_seed}"
        arguments = ["simulate", str(scenario), "--json", str(out), "--journal", str(journal)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", ENTRY, *arguments], check=True, env=environment, capture_output=True)
        outputs.append((out.read_bytes(), (journal / "00000001.jsonl").read_bytes()))
    assert outputs[0] == outputs[1] == outputs[2]


# --- invalid input


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("trafic", to=1), "scenario.yaml:22: trafic: unknown key (did you mean 'traffic'?)"),
        (setting("settle_s", to="long"), 'scenario.yaml:21: settle_s = "long": must be a number'),
        (setting("seed", to=-1), "seed = -1: must be greater than or equal to 0"),
        (setting("duration_s", to=float("inf")), "duration_s = Infinity: must be finite"),
        (setting("settle_s", to=float("nan")), "settle_s = NaN: must be finite"),
        (setting("initial_replicas", to={"gpus": -1}), "gpus starts with -1 replicas: must be 0 to 100000"),
        (setting("initial_replicas", to={"gpus": 10**6}), "must be 0 to 100000"),
        (setting("initial_replicas", to={"gpus": float("nan")}), "initial_replicas.gpus = NaN: must be a whole number"),
        (setting("initial_replicas", to={"cpus": 1}), "cpus is not a pool of the scenario; the pools are gpus"),
        (setting("traffic", "kind", to="poison"), "traffic.kind = \"poison\": must be one of"),
        (setting("traffic", to=None), "traffic: must be a generator, with a kind"),
        (setting("traffic", to="told.csv"), "traffic: must be a generator, with a kind"),
        (setting("traffic", "rps", to=float("nan")), "traffic.rps = NaN: must be finite"),
        (setting("traffic", "rps", to=0.0), "no request arrives: nothing to simulate"),
        (setting("traffic", to={"kind": "poisson", "rps": 1e6, "duration_s": 1e6}), "at most 100,000,000 can be"),
        (setting("traffic", to={"kind": "poisson", "rps": 1e-6, "duration_s": 1e8}), "at most 9e+06 s (104 days)"),
        (setting("traffic", to={"kind": "trace", "file": "gone.csv"}), "gone.csv: cannot be read: No such file"),
        (setting("traffic", to={"kind": "trace", "file": "a\0b"}), "traffic.file: contains a NUL character"),
        (
            setting("pools", "gpus", "model", to="h100"),
            'scenario.yaml:14: pools.gpus.model = "h100": is not in the catalogue',
        ),
        (setting("pools", "gpus", "model", to="gone.yaml"), "gone.yaml:1: cannot be read: No such file"),
        (setting("pools", "gpus", "price_usd_per_hour", to=None), "is missing for zone zone-a"),
        (without("pools", "gpus", "price_usd_per_hour"), "pools.gpus.price_usd_per_hour: is required"),
        (setting("pools", "gpus", "price_usd_per_hour", to=-1), "must be greater than or equal to 0"),
        (setting("pools", "gpus", "price_usd_per_hour", to=float("nan")), "must be finite"),
        (setting("pools", "gpus", "zones", to={"a": {"trace": {"file": "gone.json"}}}), "gone.json: cannot be read"),
        (setting("pools", to={}), "pools: must name at least one pool"),
        (setting("workload", to="gone.yaml"), "gone.yaml:1: cannot be read: No such file"),
        (setting("workload", to=""), "cannot be read: it is a directory"),
        (setting("workload", to="scenario.yaml"), "scenario.yaml"),
        (setting("start", to="2026-01-05"), "start: must have a UTC offset"),
        (setting("start", to="1969-07-20T20:17:00+00:00"), "start: must be in the years 1970 to 2199"),
        (setting("start", to="soon"), "start: must be a date and time in ISO 8601"),
        (setting("quantities", to={"running": "runing"}), "does not provide runing (for running)"),
        (lambda s: (s.pop("scenario"), s.update(max_replicas=9)), ": is a workload, not a scenario (name this file in"),
        (setting("weather", to=[]), "weather: was renamed to faults (write faults with the same value)"),
        (setting("beside", to=[]), "beside: was renamed to concurrent_scenarios"),
        (setting("faults", to=[{"fault": "storm"}]), "faults[0].fault"),
        (setting("faults", to=[{"fault": "hang", "since_s": 9, "until_s": 3}]), "until_s: must be above since_s, 9"),
        (setting("telemetry", to={"scrape_interval_s": 1e-13}), "must be greater than or equal to 0.001"),
        (setting("router", to={"patience_s": 1e14}), "patience_s must be at most 9e+06; null: no limit"),
        (lambda s: s.update(queue={}, router={"limit": 3}), "limit cannot be set in a scenario with a queue"),
        (lambda s: s["pools"].update(more=dict(s["pools"]["gpus"], model="llama-3.1-8b-h100-vllm"), x=1), "pools.x"),
    ],
)  # fmt: skip
def test_an_invalid_scenario_is_reported_with_its_location(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    scenario = files(tmp_path, change)
    before = file_names(tmp_path)
    code, out, err = simulate(capsys, scenario, "--json", tmp_path / "o.json")
    assert (code, out) == (2, "")
    assert message in err
    assert file_names(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must contain one scenario, not 0 documents"),
        ("a: 1\n---\nb: 2\n", "must contain one scenario, not 2 documents"),
        ("a: [1\n", "scenario.yaml:2: is not valid YAML"),
        ("hello", "scenario.yaml:1: must be a mapping"),
        ("- a\n", "must be a mapping"),
        ("scenario: a\nscenario: b\n", "scenario.yaml:2: scenario: is a duplicate of line 1"),
        ("a: &a [*a]\n", "scenario.yaml"),
    ],
)
def test_a_file_that_is_not_a_scenario_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    scenario = files(tmp_path)
    scenario.write_text(text)
    code, _, err = simulate(capsys, scenario)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("interval_s", to=1e-300), "interval_s = 1e-300: must be greater than or equal to 0.01"),
        (without("max_replicas"), "workload.yaml:1: max_replicas: is required"),
        (setting("sources", to={"e": {"kind": "embedded"}}), "needs a source that provides running, waiting"),
        (
            lambda w: w.update(
                sources={"e": {"kind": "embedded"}}, policies={"p": {"kind": "queue_depth", "target_per_replica": 1}}
            ),
            "workload.yaml:6: sources.e.kind: embedded cannot be simulated",
        ),
    ],
)
def test_a_workload_that_cannot_be_simulated_is_reported_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    code, _, err = simulate(capsys, files(tmp_path, change_workload=change))
    assert code == 2
    assert message in err


def test_unmatched_pools_are_reported_with_their_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def two(s: dict[str, Any]) -> None:
        s["pools"] = {"a": s["pools"]["gpus"], "b": s["pools"]["gpus"]}

    code, _, err = simulate(capsys, files(tmp_path, two))
    assert code == 2
    assert "workload.yaml:14: pools.gpus: is not a pool of the scenario; its pools are a, b" in err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("-1,10,2\n", "line 2, column 'arrival_s' = \"-1\": must be 0 or later"),
        ("0,10,2\nnan,10,2\n", "line 3, column 'arrival_s' = \"nan\": must be a finite time"),
        ("0,0,2\n", "column 'prompt_tokens' = \"0\": must be at least 1"),
        ("0,10,1e99\n", "column 'output_tokens' = \"1e99\": must be at most"),
        ("0,10\n", "has 2 columns; must have 3"),
        ("0,10,2\n1,1", "has 2 columns; must have 3"),
        ("", "has no request"),
    ],
)
def test_an_invalid_trace_row_is_reported_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, message: str
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    code, _, err = simulate(capsys, files(tmp_path), "--trace", bad)
    assert code == 2
    assert "bad.csv" in err
    assert message in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"when,in,out\n1,2,3\n", "unknown format"),
        (b"\x1f\x8b\x08half a gzip", "bad.csv"),
        (b"\xff\xfe\x00", "is neither UTF-8 text"),
    ],
)
def test_a_file_that_is_not_a_trace_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    code, _, err = simulate(capsys, files(tmp_path), "--trace", tmp_path / "bad.csv")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["s", "--seed", "-1"], "--seed = -1: must be 0 to 2**63 - 1"),
        (["s", "--seed", str(2**63)], "must be 0 to 2**63 - 1"),
        (["s", "--speed", "0"], "--speed = 0.0: requires --trace"),
        (["s", "--run", "x"], "--run = x: requires --trace"),
        (["s", "--skip-bad"], "--skip-bad = True: requires --trace"),
        (["s", "--model-name", "m"], "--model-name = m: requires --trace"),
        (["s", "--replicas", "3"], "--replicas = 3: cannot be combined with a scenario"),
        (["s", "--model", "x"], "--model = x: cannot be combined with a scenario"),
        (["s", "--trace", "told.csv", "--speed", "0"], "speed 0.0 must be above 0"),
        (["s", "--trace", "told.csv", "--speed", "-1"], "speed -1.0 must be above 0"),
        (["s", "--trace", "told.csv", "--speed", "nan"], "speed nan must be above 0"),
        (["s", "--trace", "told.csv", "--speed", "1e-300"], "arrival_s must lie within"),
        (["s", "--trace", "gone.csv"], "gone.csv: cannot be read"),
        (["gone.yaml"], "gone.yaml:1: cannot be read: No such file"),
        ([], "give a scenario, or both --model and --trace"),
        (["--model", "steady.yaml"], "give a scenario, or both --model and --trace"),
        (["--model", "steady.yaml", "--trace", "told.csv", "--replicas", "0"], "--replicas = 0: must be 1 to 100000"),
        (["--model", "steady.yaml", "--trace", "told.csv", "--journal", "j"], "requires a scenario"),
        (["s", "--price-usd-per-hour", "2"], "cannot be combined with a scenario: set price_usd_per_hour"),
        (["--model", "steady.yaml", "--trace", "told.csv", "--price-usd-per-hour", "-1"], "must be 0 to 100,000"),
        (["--model", "steady.yaml", "--trace", "told.csv", "--price-usd-per-hour", "nan"], "must be 0 to 100,000"),
        (["--model", "nothing", "--trace", "told.csv"], "is not in the cat"),
        (["s", "--json", "gone/o.json"], "--json = gone/o.json: cannot be written: the directory does not exist"),
        (["s", "--html", "gone/o.html"], "--html = gone/o.html: cannot be written: the directory does not exist"),
        (["s", "--requests", "."], "--requests = .: cannot be written: it is a directory"),
        (["s", "--journal", "gone/j"], "--journal = gone/j: cannot be written: the directory does not exist"),
        (["s", "--journal", "told.csv"], "--journal = told.csv: is not a folder"),
        (["s", "--journal", "full"], "--journal = full: contains files that do not belong to a journal"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_reported_before_any_work_or_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files(Path())
    Path("full").mkdir()
    Path("full/conversations.jsonl").write_text("{}\n")  # JSON lines that are not a journal
    before = file_names(tmp_path)
    code, out, err = simulate(capsys, *("scenario.yaml" if a == "s" else a for a in args))
    assert (code, out) == (2, "")
    assert message in err
    assert file_names(tmp_path) == before
    assert file_names(Path("full")) == {"conversations.jsonl"}


def test_a_journal_locked_by_a_daemon_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario, journal = files(tmp_path), tmp_path / "journal"
    journal.mkdir()
    (journal / "00000001.jsonl").write_text("{}\n")
    with (journal / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = simulate(capsys, scenario, "--journal", journal)
    assert code == 2
    assert "is being written by a daemon" in err
    assert (journal / "00000001.jsonl").read_text() == "{}\n"


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_files(tmp_path: Path) -> None:
    def change(s: dict[str, Any]) -> None:
        s["duration_s"] = 8e6  # three months of ticks

    scenario = files(tmp_path, change)
    before = file_names(tmp_path)
    arguments = ["simulate", str(scenario), "--trace", str(tmp_path / "told.csv"), "--json", str(tmp_path / "o.json")]
    arguments += ["--journal", str(tmp_path / "journal")]
    command = [*FOREGROUND, sys.executable, "-c", ENTRY, *arguments]
    with subprocess.Popen(command, text=True, stderr=-1, stdout=-1) as process:
        try:
            while not any(p.stat().st_size > WELL_UNDER_WAY_BYTES for p in tmp_path.glob(".journal.*/00000001.jsonl")):
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert "forescale: interrupted\n" in err
    assert file_names(tmp_path) == before


def test_the_workload_of_the_small_scenario_is_valid(tmp_path: Path) -> None:
    assert main(["check", str(files(tmp_path, nothing).with_name("workload.yaml"))]) == 0
