"""CSV files of observed tokens: gaps, units of time, and hostile content."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from scaler.config.problems import ConfigError
from simulators.provisioned.of_csv import of_csv
from tests.simulators.provisioned.inputs import MONDAY, write_csv

HEADER = "at,input_tokens_per_minute,output_tokens_per_minute"


def read(folder: Path, *lines: str) -> None:
    file = folder / "tokens.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    of_csv(file)


def test_rows_become_spans_of_their_distance(tmp_path: Path) -> None:
    observed = of_csv(write_csv(tmp_path))
    assert (len(observed.at), observed.seen_h, observed.hours_seen) == (336, 336.0, 168)
    assert observed.cached is None
    assert observed.utilization is None


def test_a_gap_and_an_empty_cell_are_unknown_and_not_zero(tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    rows = [f"{MONDAY + 60 * k},100,{'' if k == 3 else 10},{'' if k else 0.5}" for k in (0, 1, 2, 3, 4, 90)]
    file.write_text("\n".join([f"{HEADER},utilization", *rows]) + "\n")
    observed = of_csv(file)
    assert (observed.at - MONDAY).tolist() == [0, 60, 120, 240, 5400]
    assert observed.seconds.tolist() == [60.0] * 5
    assert observed.utilization is not None
    assert np.isfinite(observed.utilization).tolist() == [True, False, False, False, False]


def test_times_may_be_iso_8601(tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    file.write_text(f"{HEADER}\n2026-09-28T00:00:00Z,1,2\n2026-09-28T02:01:00+02:00,1,2\n")
    assert (of_csv(file).at - MONDAY).tolist() == [0, 60]


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (["time,tokens", "1,2"], "tokens.csv:1: the columns at, input_tokens_per_minute, output_tokens_per_minute"),
        ([""], "the columns at,"),
        ([HEADER], "must have at least 2 rows with tokens, not 0"),
        ([HEADER, "1,2,3"], "must have at least 2 rows with tokens, not 1"),
        ([HEADER, "0,,", "60,,"], "no row has all token counts"),
        ([HEADER, "yesterday,2,3"], "tokens.csv:2: at = yesterday: must be ISO 8601"),
        ([HEADER, ",2,3"], "tokens.csv:2: at: must be ISO 8601"),
        ([HEADER, "nan,2,3"], "must be ISO 8601"),
        ([HEADER, "1790553600000,2,3"], "must be ISO 8601"),
        ([HEADER, "60,2,3", "60,2,3"], "tokens.csv:3: at = 60: must be after the row before (sort the rows by time)"),
        ([HEADER, "0,2,3", "7200,2,3"], "rows must be at most one hour apart, not 7,200 s"),
        ([HEADER, "0,-2,3"], "tokens.csv:2: input_tokens_per_minute = -2: must be a number from 0 to 1e+12"),
        ([HEADER, "0,2,inf"], "output_tokens_per_minute = inf: must be a number"),
        ([HEADER, "0,2,\x1b[31m"], "output_tokens_per_minute = "),
        ([HEADER, "0,2"], "must have at least 2 rows"),
        ([f"{HEADER},cached_tokens_per_minute", "0,2,3,4"], "must be at most input_tokens_per_minute"),
        (
            [f"{HEADER},utilization", "0,2,3,85"],
            "utilization = 85: must be a number from 0 to 5 (divide percentages by 100)",
        ),
        ([HEADER, 'x"y"z,"1'], "is not a CSV table"),
        ([HEADER, f"0,{'9' * 5000}x,1"], "input_tokens_per_minute = 99999"),
    ],
)
def test_invalid_files_are_refused_with_their_place(tmp_path: Path, lines: list[str], rule: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, *lines)
    text = str(refused.value)
    assert rule in text
    assert all(line.isprintable() and len(line) < 400 for line in text.splitlines())


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    binary, pipe = tmp_path / "binary.csv", tmp_path / "pipe.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    os.mkfifo(pipe)
    for path, rule in ((tmp_path / "none.csv", "cannot be read"), (binary, "UTF-8"), (pipe, "is a pipe")):
        with pytest.raises(ConfigError, match=rule):
            of_csv(path)
