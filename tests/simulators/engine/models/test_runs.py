"""Reading recorded runs: valid files are read whole, and errors name line and column."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from scaler.config.problems import ConfigError
from simulators.engine.models.runs import EngineRun, read_runs
from tests.simulators.engine.models.makers import measured

HEADER = "run,arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n"
ROW = "a,1.5,10,20,0.1,0.9\n"


def write_requests(folder: Path, text: str) -> Path:
    (folder / "requests.csv").write_text(text)
    return folder


def test_runs_are_separated_sorted_by_arrival_and_without_warm_ups(tmp_path: Path) -> None:
    runs = read_runs(
        write_requests(tmp_path, f"{HEADER}warm1,0,1,1,0,0\na,7.5,1,2,.1,.2\nb,3,3,4,.1,.2\na,6,5,6,.3,.4\n")
    )
    assert list(runs) == ["a", "b"]
    assert runs["a"].arrival_s.tolist() == [0.0, 1.5]
    assert (runs["a"].prompt.tolist(), runs["a"].ttft_s.tolist()) == ([5, 1], [0.3, 0.1])


def test_compressed_files_and_files_without_a_run_column_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "requests.csv.gz", "wt") as file:
        file.write("arrival_unix,prompt_tokens,output_tokens,ttft_s,e2e_s,replica\n1.5,10,20,0.1,0.9,0\n")
    assert list(read_runs(tmp_path)) == ["requests"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + ROW + "a,x,10,20,0.1,0.9\n", ":3: arrival_s = x: must be a finite number"),
        (HEADER + "a,1,0,20,0.1,0.9\n", ":2: prompt_tokens = 0: must be a whole number of at least 1"),
        (HEADER + "a,1,9,2.5,0.1,0.9\n", ":2: output_tokens = 2.5: must be a whole number of at least 1"),
        (HEADER + "a,1,9,2,nan,0.9\n", ":2: ttft_s = nan: must be a number of seconds, 0 or more"),
        (HEADER + "a,1,9,2,,0.9\n", ":2: ttft_s: must be a number of seconds, 0 or more"),
        (HEADER + "a,1,9,2,0.9\n", ":2: e2e_s = None: must be a number of seconds, 0 or more"),
        (HEADER + "a,1,9,2,0.9,0.1\n", ":2: e2e_s = 0.1: must not be less than ttft_s"),
        (
            "arrival_s,prompt_tokens,output_tokens,ttft,e2e_s\n",
            r":1: ttft_s: is a required column \(did you mean 'ttft'",
        ),
        (HEADER, "contains no request"),
        (HEADER + "warm,1,9,2,0.1,0.9\n", "contains no request"),
        ("", "arrival_unix: is a required column"),
    ],
)
def test_an_invalid_file_is_reported_by_line_column_value_and_rule(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_runs(write_requests(tmp_path, text))


def test_every_invalid_row_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as e:
        read_runs(write_requests(tmp_path, HEADER + "a,1,0,2,0.1,0.9\n" + ROW + "a,1,1,0,0.1,0.9\n"))
    assert [p.line for p in e.value.problems] == [2, 4]


def test_a_truncated_file_is_rejected(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + ROW * 1000).encode())
    (tmp_path / "requests.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be read completely"):
        read_runs(tmp_path)


def test_a_folder_without_requests_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must contain requests\.csv"):
        read_runs(tmp_path)


def loop(clients: int, think_s: float, rounds: int) -> EngineRun:
    """Return a closed loop of clients whose requests take 1 s each."""
    arrival = np.sort(np.add.outer(np.arange(rounds) * (1 + think_s), np.arange(clients) / clients).ravel())
    ones = np.ones(len(arrival), dtype=np.int32)
    return EngineRun("loop", arrival, ones, ones, np.ones(len(arrival)), np.ones(len(arrival)))


@pytest.mark.parametrize("clients", [1, 3, 40])
def test_a_closed_loop_is_detected_by_its_constant_concurrency(clients: int) -> None:
    run = loop(clients, 0.002, 6)
    assert run.clients() == clients
    assert run.think_s() == pytest.approx(0.002)


def test_measured_closed_loops_and_replays_are_distinguished() -> None:
    clients = {name: run.clients() for name, run in read_runs(measured()).items() if not name.startswith("prefill")}
    assert clients == {
        "c1": 1, "c4": 4, "c16": 16, "c64": 64, "c128": 128, "c256": 256, "c64long": 64, "c32xl": 32,
        "conv_a": 0, "conv_b2": 0, "code_a2": 0,
    }  # fmt: skip
