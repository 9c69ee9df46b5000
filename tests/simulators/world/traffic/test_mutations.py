"""Traffic files with arbitrary values anywhere give a trace or an error that names the file, and no other exception."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import DEFAULT, read
from simulators.world.traffic.trace import TraceError
from tests.laws import law
from tests.simulators.world.traffic.makers import text

HUGE = 10**400
DEEP = "[" * 100_000
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(HUGE), st.just(-HUGE),
    st.sampled_from(["0001-01-01 00:00:00", "9999-12-31T23:59:59.999999+00:00", "0001-01-01T00:00:00+14:00"]),
    st.sampled_from(["1e400", "\x00"]),
    st.just([]), st.just({}), st.just([{"a": 1}]), st.just([[1]]), st.just({"a": [1]}),
)  # fmt: skip
LINE = {"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [1, 2]}
VLLM = {"start_times": [1.0, 2.0], "input_lens": [3, 4], "output_lens": [5, 6], "errors": ["", ""]}
REQUEST = {"request_start_time": 1.0, "prompt_tokens": 3, "output_tokens": 4}
GUIDELLM = {"benchmarks": [{"requests": {"successful": [REQUEST], "incomplete": [], "errored": []}}]}

CHAT = {"timestamp": 1.5, "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
SPEND = {
    "startTime": "2026-01-01T00:00:00Z",
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "model": "m",
    "cache_hit": None,
}
SPAN = {
    "traceId": "1", "spanId": "2", "parentSpanId": "3", "startTimeUnixNano": "1764540000000000000",
    "status": {"code": 1},
    "attributes": [
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": 4}},
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
    ],
}  # fmt: skip
OTLP = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}
JAEGER_SPAN = {
    "traceID": "1", "spanID": "2", "references": [{"spanID": "3"}], "startTime": 1764540000000000,
    "tags": [{"key": "gen_ai.usage.input_tokens", "value": 3}, {"key": "gen_ai.usage.output_tokens", "value": 4}],
}  # fmt: skip
JAEGER = {"data": [{"traceID": "1", "spans": [JAEGER_SPAN]}]}


def places(data: Any, target: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [p for key, value in below for p in [(*target, key), *places(value, (*target, key))]]


def changed(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    mutated = copy.deepcopy(data)
    target = mutated
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return mutated


@st.composite
def mutations(draw: Callable[..., Any], data: Any) -> Any:
    """Return the document with one to three changed values."""
    mutated = data
    for _ in range(draw(st.integers(1, 3))):
        paths = places(mutated)
        if paths:
            mutated = changed(mutated, draw(st.sampled_from(paths)), draw(VALUES))
    return mutated


def assert_reads_or_names_the_file(file: Path, options: ReadOptions = DEFAULT) -> None:
    message = file.name
    try:
        read(file, options)
    except TraceError as e:
        message = str(e)
    assert file.name in message


@law(examples=300)
@given(data=st.one_of(*map(mutations, (VLLM, GUIDELLM, OTLP, JAEGER, {"data": [CHAT, SPEND]}))))
def test_a_json_document_with_arbitrary_values_is_read_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    assert_reads_or_names_the_file(text(tmp_path_factory.getbasetemp() / "document.json", json.dumps(data)))


@law(examples=600)
@given(data=st.data(), first=st.sampled_from([LINE, CHAT, SPEND, OTLP]), skip_bad=st.booleans())
def test_json_lines_with_arbitrary_values_are_read_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, first: dict[str, Any], skip_bad: bool
) -> None:
    rows = data.draw(st.lists(mutations(first), min_size=1, max_size=3))
    content = "".join(json.dumps(row) + "\n" for row in [first, *rows])
    assert_reads_or_names_the_file(
        text(tmp_path_factory.getbasetemp() / "lines.jsonl", content), ReadOptions(skip_bad=skip_bad)
    )


@law(examples=300)
@given(
    cells=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4),
    names=st.sampled_from(
        [
            ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
            ("arrival_s", "prompt_tokens", "output_tokens"),
            ("startTime", "prompt_tokens", "completion_tokens"),
        ]
    ),
)
def test_csv_with_arbitrary_values_is_read_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[Any, ...]], names: tuple[str, ...]
) -> None:
    rows = [",".join("" if c is None else str(c) for c in row) for row in cells]
    file = tmp_path_factory.getbasetemp() / "table.csv"
    file.write_text("\n".join([",".join(names), *rows, ""]), encoding="utf-8", errors="replace")
    assert_reads_or_names_the_file(file)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 2**62], pa.timestamp("us")),
        pa.array([-(2**62), 2**62], pa.timestamp("us")),
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([b"\xff", b"1"]),
        pa.array([None, None]),
        pa.array([2**63, 1], pa.uint64()),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_parquet_with_any_type_in_any_column_is_read_or_rejected(column: pa.Array, place: int, tmp_path: Path) -> None:
    columns = [pa.array([0.0, 1.0]), pa.array([1, 2]), pa.array([3, 4])]
    columns[place] = column
    file = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pa.table(columns, ["arrival_s", "prompt_tokens", "output_tokens"]), file)
    assert_reads_or_names_the_file(file)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n0001-01-01 00:00:00,1,1\n", "line 2"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01,1,1\n9999-12-31 23:59:59,1,1\n", "line 3"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n1700-01-01,1,1\n2261-12-31 23:59:59,1,1\n", "line 3"),
        ("a.csv", f"arrival_s,prompt_tokens,output_tokens\n0,{HUGE},1\n", "line 2"),
        ("a.jsonl", json.dumps({**LINE, "input_length": HUGE}), "line 1"),
        ("a.jsonl", json.dumps(LINE) + "\n" + json.dumps({**LINE, "timestamp": HUGE}), "line 2"),
        ("a.jsonl", json.dumps(LINE) + "\n" + json.dumps({**LINE, "hash_ids": [{"a": 1}]}), "line 2"),
        ("a.jsonl", json.dumps(LINE) + '\n{"timestamp": 1, "input_length": ' + DEEP, "line 2"),
        ("a.jsonl", '{"input_length": ' + DEEP, "not a complete JSON document"),
        ("a.json", DEEP, "not a complete JSON document"),
        ("a.json", json.dumps({**VLLM, "errors": 7}), "errors = 7: must be a list"),
    ],
)
def test_an_error_names_the_file_and_the_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    file = text(tmp_path / name, content)
    with pytest.raises(TraceError) as raised:
        read(file)
    assert str(file) in str(raised.value)
    assert message in str(raised.value)
