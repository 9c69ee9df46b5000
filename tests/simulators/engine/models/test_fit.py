"""Calibration: known coefficients are recovered, and errors are reported on held-out runs."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from scaler.config.problems import ConfigError
from simulators.commands.calibrate import arguments, command
from simulators.engine.models.catalogue import load
from simulators.engine.models.fit import (
    CalibrationOptions,
    calibrate,
    fit_coefficients,
    fit_scale,
    keys,
    scaled,
    splits,
)
from simulators.engine.models.replay import errors, measures, recorded, simulate
from simulators.engine.models.report import medians
from simulators.engine.models.runs import read_runs
from tests.simulators.engine.models.makers import measured, open_run, runs_at_four_loads, write_runs

pytestmark = pytest.mark.slow

BASE = load("llama-3.1-8b-h100-vllm")
BAR = {"ttft_p50": 0.06, "ttft_p95": 0.06, "tpot": 0.03, "e2e": 0.03, "throughput": 0.02}


def run_command(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    arguments(parser)
    return command(parser.parse_args(argv))


def test_fit_recovers_a_known_scale() -> None:
    runs = runs_at_four_loads(scaled(load("llama-3.1-8b-l40s"), 1.17))
    fitted = fit_scale(runs, load("llama-3.1-8b-l40s"), keys(0))
    assert fitted.cmp_token_s / load("llama-3.1-8b-l40s").cmp_token_s == pytest.approx(1.17, rel=1e-3)


def test_fit_recovers_known_coefficients() -> None:
    truth = dataclasses.replace(BASE, mem_base_s=BASE.mem_base_s * 0.93, cmp_token_s=BASE.cmp_token_s * 1.15)
    fitted = fit_coefficients(runs_at_four_loads(truth), BASE, keys(0))
    for name in ("mem_base_s", "cmp_token_s"):
        assert getattr(fitted, name) == pytest.approx(getattr(truth, name), rel=0.02), name
    fresh = {"fresh": open_run(truth, "fresh", 7, 300, seed=77)}
    assert all(abs(e) < 0.03 for e in errors(fitted, fresh, keys(5))["fresh"].values())
    assert not all(abs(e) < 0.03 for e in errors(BASE, fresh, keys(5))["fresh"].values())


def test_fit_keeps_terms_absent_that_the_base_model_omits() -> None:
    base = load("llama-3.1-8b-l40s")
    fitted = fit_coefficients({"only": open_run(base, "only", 2, 60, seed=1)}, base, keys(0))
    assert (fitted.host_decode_s, fitted.mem_token_s, fitted.ingest_s) == (0.0, 0.0, 0.0)


def test_a_model_has_no_error_on_its_own_run() -> None:
    run = open_run(BASE, "own", 5, 100, seed=3)
    assert errors(BASE, {"own": run}, (1003,))["own"] == pytest.approx(dict.fromkeys(recorded(run), 0.0), abs=1e-12)


def test_clients_of_a_closed_loop_send_after_their_previous_answer() -> None:
    run = open_run(BASE, "loop", 1000, 40, seed=4)
    endless = np.full(40, 1e9)
    for _ in range(40):  # 8 clients with a think time of 2 ms
        _, ttft, e2e = simulate(BASE, dataclasses.replace(run, ttft_s=endless, e2e_s=endless))
        ends = np.sort(run.arrival_s + e2e)
        run = dataclasses.replace(
            run, arrival_s=np.concatenate((run.arrival_s[:8], ends[:-8] + 0.002)), ttft_s=ttft, e2e_s=e2e
        )
    assert run.clients() == 8
    arrival, _, e2e = simulate(scaled(BASE, 2.0), run)
    assert arrival[8:] == pytest.approx(np.sort(arrival + e2e)[:-8] + 0.002, abs=1e-6)


def test_measures_without_enough_requests_are_omitted() -> None:
    few = np.ones(3)
    assert list(measures(few, few, few, np.ones(3, dtype=np.int32))) == ["ttft_p50"]
    many = np.ones(20)
    assert list(measures(many, many, 2 * many, np.full(20, 2, dtype=np.int32))) == list(BAR)


def test_each_run_is_held_out_exactly_once() -> None:
    runs = runs_at_four_loads(BASE)
    parts = splits(runs)
    assert sorted(name for _, group in parts for name in group) == sorted(runs)
    assert all(not rest.keys() & group.keys() for rest, group in parts)
    assert all(rest for rest, _ in parts)


def test_the_second_half_of_a_single_run_is_held_out() -> None:
    ((rest, group),) = splits({"log": open_run(BASE, "log", 5, 101, seed=5)})
    assert [len(r) for r in rest.values()] == [50]
    assert {name: len(r) for name, r in group.items()} == {"log, second half": 51}


def test_a_request_too_large_for_the_base_model_raises_an_error() -> None:
    small = dataclasses.replace(BASE, kv_tokens=2048)
    with pytest.raises(ValueError, match="does not fit into"):
        calibrate({"only": open_run(BASE, "only", 5, 50, seed=6)}, small, CalibrationOptions(fit_scale))


def test_the_calibrate_command_writes_a_loadable_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(runs_at_four_loads(scaled(load("llama-3.1-8b-l40s"), 0.8)), tmp_path)
    out, page = tmp_path / "mine.yaml", tmp_path / "errors.html"
    options = ["--model", "llama-3.1-8b-l40s", "--scalar", "--out", str(out), "--html", str(page)]
    assert run_command(str(tmp_path), *options) == 0
    output = capsys.readouterr().out
    assert "held out of the fit" in output
    assert "-20.0%" in output
    model = load(str(out))
    assert model.name == "mine"
    assert model.calibrated
    assert "4 runs held out" in model.provenance
    assert "error on runs held out of the fit" in page.read_text()
    assert "TTFT p50" in page.read_text()
    assert run_command(str(tmp_path), *options[:3], "--json", "--hold-out", "at-4,at-9") == 0
    assert list(json.loads(capsys.readouterr().out)["held_out"]) == ["at-4", "at-9"]


def test_the_calibrate_command_is_reproducible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs({"log": open_run(BASE, "log", 5, 80, seed=8)}, tmp_path)
    outputs = []
    for _ in range(2):
        run_command(str(tmp_path), "--scalar", "--json", "--seed", "3")
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--hold-out", "at4"], "did you mean 'at-4'"),
        (["--hold-out", "at-0.5,at-4,at-9,at-12"], "must leave at least one run to fit"),
        (["--set", "max_seq=3"], "did you mean 'max_seqs'"),
        (["--set", "max_seqs"], "must be KEY=VALUE"),
        (["--set", "max_seqs=many"], "must be a whole number"),
        (["--model", "llama-3.1-8b-h10"], "did you mean 'llama-3.1-8b-h100'"),
    ],
)
def test_an_invalid_calibrate_option_is_reported(tmp_path: Path, option: list[str], message: str) -> None:
    write_runs(runs_at_four_loads(BASE), tmp_path)
    with pytest.raises(ConfigError, match=message):
        run_command(str(tmp_path), *option)


@pytest.mark.slow
def test_held_out_measured_runs_are_predicted_within_the_error_limits() -> None:
    runs = read_runs(measured())
    calibration = calibrate(runs, load("llama-3.1-8b-h100-vllm-prior"), CalibrationOptions(fit_coefficients))
    assert len(calibration.held_out) == 10
    assert {m: v for m, v in medians(calibration.held_out).items() if v > BAR[m]} == {}


def test_the_shipped_model_is_within_the_error_limits_on_its_own_runs() -> None:
    runs = {name: run for name, run in read_runs(measured()).items() if len(run) >= 20}
    assert {m: v for m, v in medians(errors(BASE, runs, keys(0))).items() if v > BAR[m]} == {}
