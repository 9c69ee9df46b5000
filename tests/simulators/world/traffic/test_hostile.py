"""Damaged, truncated and foreign files: errors name the line, or bad rows are skipped and counted."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import TraceError
from tests.laws import law
from tests.simulators.world.traffic.makers import json_lines, rows_of, text

HEADER = "arrival_s,prompt_tokens,output_tokens\n"
SKIP = ReadOptions(skip_bad=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("-1,5,5", "column 'arrival_s' = \"-1\": must be 0 or later", id="before the start"),
        pytest.param("nan,5,5", "column 'arrival_s' = \"nan\": must be a finite time", id="NaN"),
        pytest.param("inf,5,5", "column 'arrival_s' = \"inf\": must be a finite time", id="infinite"),
        pytest.param(",5,5", "column 'arrival_s' = null: must be a finite time", id="no time"),
        pytest.param("2e8,5,5", "column 'arrival_s' = \"2e8\": must lie within 1e+08 s", id="in three years"),
        pytest.param("soon,5,5", "column 'arrival_s' = \"soon\": must be a finite time", id="a word"),
        pytest.param("1,0,5", "column 'prompt_tokens' = \"0\": must be at least 1", id="an empty prompt"),
        pytest.param("1,5,-3", "column 'output_tokens' = \"-3\": must be at least 1", id="negative tokens"),
        pytest.param("1,5,", "column 'output_tokens' = null: must be a number", id="no tokens"),
        pytest.param("1,5.5,5", "column 'prompt_tokens' = \"5.5\": must be a whole number", id="half a token"),
        pytest.param("1,5,9e99", "column 'output_tokens' = \"9e99\": must be at most 100000000", id="huge"),
        pytest.param("1,1_000,5", "column 'prompt_tokens' = \"1_000\": must be a number", id="Python's own spelling"),
        pytest.param("1,5", '"1,5": has 2 columns; must have 3', id="cut short"),
        pytest.param("1,5,6,7", '"1,5,6,7": has 4 columns; must have 3', id="a column too many"),
    ],
)
def test_a_bad_row_is_reported_with_its_line_or_skipped_and_counted(tmp_path: Path, row: str, message: str) -> None:
    file = text(tmp_path / "t.csv", f"{HEADER}0,1,1\n1,2,2\n{row}\n3,4,4\n")
    with pytest.raises(TraceError) as raised:
        read(file)
    assert f"{file}, line 4" in str(raised.value)
    assert message in str(raised.value)
    assert "--skip-bad" in str(raised.value)
    result = read(file, SKIP)
    assert rows_of(result) == [(0, 1, 1), (1, 2, 2), (3, 4, 4)]
    assert result.repairs == {"malformed rows skipped": 1}


def test_line_numbers_include_bad_and_blank_lines_across_batches(tmp_path: Path) -> None:
    rows = [f"{i},10,10" for i in range(150_000)]  # several blocks of the reader
    rows[10] = "cut,"
    rows[20] = ""
    rows[140_000] = "140000,0,10"
    file = text(tmp_path / "t.csv", HEADER + "\n".join(rows) + "\n\n")
    with pytest.raises(TraceError) as raised:
        read(file)
    assert "line 12: " in str(raised.value)
    assert "line 140002, column 'prompt_tokens'" in str(raised.value)
    assert read(file, SKIP).repairs == {"malformed rows skipped": 2, "empty rows skipped": 2}


def test_lines_within_an_unclosed_quote_are_all_counted(tmp_path: Path) -> None:
    file = text(tmp_path / "t.csv", HEADER + '0,1,1\n1,"5,5\n2,3,3\n4,4,4\n')
    with pytest.raises(TraceError, match="line 3: "):
        read(file)
    result = read(file, SKIP)
    assert (len(result), result.repairs) == (1, {"malformed rows skipped": 3})


def test_a_run_that_begins_late_in_the_file_is_parsed_by_its_own_values(tmp_path: Path) -> None:
    header = "run,arrival_unix,prompt_tokens,output_tokens,client\n"
    warm = "".join(f"warm,{1.7e9 + i},10,10,7\n" for i in range(60_000))  # more than one block of the reader
    late = "late,2026-01-01 10:00:00,1,1,bob\nlate,2026-01-01 10:00:02.5,2,2,ann\n"
    result = read(text(tmp_path / "t.csv", header + warm + late), ReadOptions(run="late"))
    assert rows_of(result) == [(0, 1, 1), (2.5, 2, 2)]


def test_many_bad_rows_are_reported_by_the_first_and_their_count(tmp_path: Path) -> None:
    file = text(tmp_path / "t.csv", HEADER + "0,0,0\n" * 100 + "1,1,1\n")
    with pytest.raises(TraceError, match="and 95 more"):
        read(file)
    with pytest.raises(TraceError, match="has no request: all 100 rows are malformed"):
        read(text(file, HEADER + "0,0,0\n" * 100), SKIP)


def test_unsorted_rows_are_sorted_and_counted(tmp_path: Path) -> None:
    result = read(text(tmp_path / "t.csv", f"{HEADER}5,1,1\n3,2,2\n4,3,3\n6,4,4\n"))
    assert rows_of(result) == [(3, 2, 2), (4, 3, 3), (5, 1, 1), (6, 4, 4)]
    assert result.repairs == {"unordered rows sorted": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(HEADER.encode(), "has no request", id="a header alone"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\xff", "neither UTF-8 text", id="an image"),
        pytest.param(b"t_s,rate_rps\n0,1\n", "is a series of rates, not of requests", id="rates"),
        pytest.param(b"arival_s,prompt_tokens,output_tokens\n0,1,1\n", "did you mean 'arival_s'", id="a slip"),
        pytest.param(
            HEADER[:-1].encode() + b",prompt_tokens\n0,1,2,3\n", "'prompt_tokens' occurs twice", id="a column twice"
        ),
        pytest.param(b"hello\n", "--columns arrival=COLUMN", id="prose"),
        pytest.param(b'{"start_times": [1.0', "is not a complete JSON document", id="half JSON"),
        pytest.param(b'{"input_lens": [1], "output_lens": [1]}', "--save-detailed", id="vLLM without detail"),
        pytest.param(b'{"a": 1}', 'unknown JSON format with the keys ["a"]', id="other JSON"),
        pytest.param(b"[]", 'unknown JSON format with the keys ["a list"]', id="a list"),
        pytest.param(b'{"benchmarks": []}', "has no benchmarks", id="GuideLLM without a benchmark"),
        pytest.param(b'{"benchmarks": [{}]}', "no list requests.successful", id="GuideLLM's summary"),
    ],
)
def test_a_file_that_is_no_trace_is_reported_with_its_content_type(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "t"
    file.write_bytes(content)
    for options in (ReadOptions(), SKIP):
        with pytest.raises(TraceError) as raised:
            read(file, options)
        assert message in str(raised.value)
        assert str(file) in str(raised.value)


def test_a_missing_trace_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read(tmp_path / "gone.csv")
    with pytest.raises(TraceError, match="is a directory"):
        read(tmp_path)


def test_a_truncated_gzip_file_is_detected(tmp_path: Path) -> None:
    rows = [f"{i},{i * 7919 % 5000 + 1},{i * 104729 % 900 + 1}" for i in range(20_000)]
    packed = gzip.compress((HEADER + "\n".join(rows) + "\n").encode())
    file = tmp_path / "t.csv.gz"
    file.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(TraceError, match="download the file again"):
        read(file)
    result = read(file, SKIP)
    assert result.repairs["truncated file, last row skipped"] == 1
    assert 1000 < len(result) < 19_000
    expected = [tuple(map(int, row.split(","))) for row in rows[: len(result)]]
    assert rows_of(result) == expected


def test_a_last_line_without_a_newline_is_reported(tmp_path: Path) -> None:
    result = read(text(tmp_path / "t.csv", HEADER + "0,1,1\n1,2,2"))
    assert len(result) == 2
    assert result.repairs == {"last line without a line break kept": 1}


def test_bad_json_lines_are_reported_with_their_line(tmp_path: Path) -> None:
    good = {"timestamp": 10, "input_length": 5, "output_length": 5}
    file = json_lines(tmp_path / "m.jsonl", [good, {**good, "input_length": True}, good])
    file.write_text(file.read_text() + '{"timestamp": 1')
    with pytest.raises(TraceError) as raised:
        read(file)
    assert "line 2, column 'input_length' = true: must be a number" in str(raised.value)
    assert "line 4: " in str(raised.value)
    assert len(read(file, SKIP)) == 2


def test_lists_of_different_lengths_are_rejected(tmp_path: Path) -> None:
    data = {"start_times": [1.0, 2.0], "input_lens": [1], "output_lens": [1, 1]}
    with pytest.raises(TraceError, match="must have the same length"):
        read(text(tmp_path / "v.json", json.dumps(data)))


CELLS = st.sampled_from(["1", "2.0", "3", "0", "-1", "nan", "inf", "", " 4", "x", "2.5", "7\u00e9", "1,1"])


@pytest.mark.slow
@law(150)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS | st.just("1e12")), min_size=1, max_size=12))
def test_every_row_is_read_or_counted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    file = text(tmp_path_factory.mktemp("rows") / "t", HEADER + "".join(",".join(row) + "\n" for row in rows))
    good = [row for row in rows if set(row[1:]) <= {"1", "2.0", "3", " 4"} and row[0] in {*"0123", "2.0", "2.5", " 4"}]
    empty = sum(not any(row) for row in rows)
    if not good:
        with pytest.raises(TraceError, match="has no request"):
            read(file, SKIP)
        return
    result = read(file, SKIP)
    assert sorted(rows_of(result)) == sorted(tuple(map(float, row)) for row in good)
    assert result.repairs.get("empty rows skipped", 0) == empty
    assert result.repairs.get("malformed rows skipped", 0) == len(rows) - len(good) - empty


@law(150)
@given(st.binary(max_size=300), st.sampled_from([b"", HEADER.encode(), b'{"timestamp": 1, "input_length": 2']))
def test_arbitrary_bytes_give_a_trace_or_a_trace_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "t"
    file.write_bytes(start + content)
    for options in (ReadOptions(), SKIP):
        try:
            result = read(file, options)
        except TraceError as e:
            message = str(e)
        else:
            message = result.origin
            assert len(result) > 0
        assert str(file) in message


SLOW = """
import sys, threading, time
from pathlib import Path
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import TraceError

def slow(done, total):
    if threading.current_thread() is not threading.main_thread() and done > 3_000_000:
        time.sleep(1)

try:
    read(Path(sys.argv[1]), ReadOptions(progress=slow))
except TraceError:
    sys.exit(2)
"""


@pytest.mark.slow
def test_an_error_during_read_ahead_does_not_abort_the_process(tmp_path: Path) -> None:
    file = text(tmp_path / "t.csv", HEADER + "99999999999999,1,1\n" * 500_000)
    command = [sys.executable, "-c", SLOW, str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[4]
    )
    assert (done.returncode, done.stderr) == (2, "")
