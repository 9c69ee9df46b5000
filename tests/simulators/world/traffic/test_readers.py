"""Readers of all traffic formats: detection by content, and the values read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from simulators.world.rng import streams
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import FORMATS, read
from simulators.world.traffic.trace import TraceError
from tests.simulators.world.traffic.makers import gz, json_lines, rows_of, shared, text, trace

OURS = "arrival_s,prompt_tokens,output_tokens\n0.5,100,10\n1.25,200,20\n"
AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00.017335+00:00,2399,6\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n60,GPT-4,417,0,417,API log\n"
)
SERVEGEN = "request_id,timestamp,input_tokens,output_tokens\n0,0.5,10,20\n1,1.2,15,25\n"
RUNS = (
    "run,id,arrival_unix,prompt_tokens,max_tokens,output_tokens\n"
    "warm,0,1795469026.5,128,8,8\nmain,0,1795469100.25,10,5,4\nmain,1,1795469101.0,20,5,5\n"
)
VLLM = {
    "duration": 3.0,
    "start_times": [9000.5, 9000.25, 9001.0],
    "input_lens": [10, 20, 30],
    "output_lens": [1, 2, 0],
    "errors": ["", "", "connection reset"],
}


def guidellm(start: Callable[[float], dict[str, Any]]) -> dict[str, Any]:
    requests = [{"prompt_tokens": 10 * i, "output_tokens": i, **start(1.8e9 + i)} for i in (1, 2)]
    return {"benchmarks": [{"requests": {"successful": requests, "incomplete": [{}], "errored": []}}]}


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        pytest.param(OURS, [(0.5, 100, 10), (1.25, 200, 20)], id="ours"),
        pytest.param(AZURE_2023, [(0, 374, 44), (4.314579, 396, 109)], id="Azure 2023"),
        pytest.param(AZURE_2024, [(0, 2162, 5), (0.007405, 2399, 6)], id="Azure 2024"),
        pytest.param(BURSTGPT, [(5, 472, 18), (45, 1087, 230)], id="BurstGPT, a failure left out"),
        pytest.param(SERVEGEN, [(0.5, 10, 20), (1.2, 15, 25)], id="ServeGen"),
        pytest.param(json.dumps(VLLM), [(0, 20, 2), (0.25, 10, 1)], id="vLLM, a failure left out"),
        pytest.param(
            json.dumps(guidellm(lambda t: {"request_start_time": t})), [(0, 10, 1), (1, 20, 2)], id="GuideLLM"
        ),
        pytest.param(
            json.dumps(guidellm(lambda t: {"scheduler_info": {"request_timings": {"request_start": t}}})),
            [(0, 10, 1), (1, 20, 2)],
            id="GuideLLM 0.3",
        ),
    ],
)
def test_every_format_is_detected_by_its_content(
    tmp_path: Path, content: str, rows: list[tuple[float, int, int]]
) -> None:
    for file in (text(tmp_path / "it.txt", content), gz(tmp_path / "it.csv", content)):
        result = rows_of(read(file))
        assert [r[1:] for r in result] == [r[1:] for r in rows]
        assert [r[0] for r in result] == pytest.approx([r[0] for r in rows], abs=1e-9)


def test_skipped_requests_are_counted(tmp_path: Path) -> None:
    assert read(text(tmp_path / "b.csv", BURSTGPT)).repairs == {"failed requests (0 output tokens) skipped": 1}
    assert read(text(tmp_path / "v.json", json.dumps(VLLM))).repairs == {
        "failed requests skipped": 1,
        "unordered rows sorted": 1,
    }


def test_one_run_of_several_is_selected_by_name(tmp_path: Path) -> None:
    file = text(tmp_path / "requests.csv", RUNS)
    chosen = read(file, ReadOptions(run="main"))
    assert rows_of(chosen) == [(0, 10, 4), (0.75, 20, 5)]
    assert chosen.name == "requests:main"
    with pytest.raises(TraceError, match=r"choose one run with --run .*warm \(1\), main \(2\)"):
        read(file)
    with pytest.raises(TraceError, match="did you mean 'main'"):
        read(file, ReadOptions(run="mian"))
    with pytest.raises(TraceError, match="this format has no runs"):
        read(text(tmp_path / "ours.csv", OURS), ReadOptions(run="main"))


def test_one_benchmark_of_a_sweep_is_selected_by_number(tmp_path: Path) -> None:
    sweep = guidellm(lambda t: {"start_time": t})
    sweep["benchmarks"] *= 2
    file = text(tmp_path / "benchmarks.json", json.dumps(sweep))
    assert len(read(file, ReadOptions(run="1"))) == 2
    for run in (None, "2", "x"):
        with pytest.raises(TraceError, match="choose one with --run 0 to 1"):
            read(file, ReadOptions(run=run))


def test_optional_columns_are_read_and_client_names_are_numbered(tmp_path: Path) -> None:
    header = "arrival_s,prompt_tokens,output_tokens,cached_tokens,client\n"
    result = read(text(tmp_path / "a.csv", header + "0,10,1,9,bob\n1,10,1,0,ann\n2,10,1,5,bob\n"))
    assert result.cached_tokens is not None
    assert result.client is not None
    assert result.cached_tokens.tolist() == [9, 0, 5]
    assert result.client.tolist() == [0, 1, 0]
    numbered = read(text(tmp_path / "b.csv", header + "0,10,1,9,7\n1,10,1,0,3\n"))
    assert numbered.client is not None
    assert numbered.client.tolist() == [7, 3]


def test_a_custom_table_is_read_by_a_mapping_of_its_columns(tmp_path: Path) -> None:
    columns = {"arrival": "ts", "prompt": "in", "output": "out"}
    file = text(tmp_path / "log.csv", "ts,user,in,out\n1700000000500,u,10,1\n1700000002000,v,20,2\n")
    options = ReadOptions(columns=columns, unit="ms")
    assert rows_of(read(file, options)) == [(0, 10, 1), (1.5, 20, 2)]
    assert rows_of(read(file, ReadOptions(columns=columns))) == [(0, 10, 1), (1.5, 20, 2)]  # the unit is detected
    with pytest.raises(TraceError, match=r"after the year 2286.*set --unit ms"):
        read(text(tmp_path / "far.csv", "ts,in,out\n20000000000,10,1\n"), ReadOptions(columns=columns))
    with pytest.raises(TraceError, match=r"missing columns: 'inn' \(did you mean 'in'\?\)"):
        read(file, ReadOptions(columns={**columns, "prompt": "inn"}))
    with pytest.raises(TraceError, match="'propmt' is not a column role; did you mean 'prompt'"):
        read(file, ReadOptions(columns={"propmt": "in"}))
    with pytest.raises(TraceError, match="must also name the column of output"):
        read(file, ReadOptions(columns={"arrival": "ts", "prompt": "in"}))


def test_parquet_preserves_numbers_and_times(tmp_path: Path) -> None:
    ours = {"arrival_s": [0.0, 2.5], "prompt_tokens": [1, 2], "output_tokens": [3, 4]}
    pa.parquet.write_table(pa.table(ours), tmp_path / "ours")
    assert rows_of(read(tmp_path / "ours")) == [(0, 1, 3), (2.5, 2, 4)]
    stamps = pa.array([1_700_000_000_000, 1_700_000_000_250], pa.timestamp("ms", "UTC"))
    azure = {"TIMESTAMP": stamps, "ContextTokens": [1, 2], "GeneratedTokens": [3, 4]}
    pa.parquet.write_table(pa.table(azure), tmp_path / "azure")
    assert rows_of(read(tmp_path / "azure")) == [(0, 1, 3), (0.25, 2, 4)]
    whole = (tmp_path / "azure").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match="is not a complete Parquet file"):
        read(tmp_path / "half")


# --- Mooncake


def mooncake(timestamp: float, prompt: int, blocks: list[int]) -> dict[str, Any]:
    return {"timestamp": timestamp, "input_length": prompt, "output_length": 5, "hash_ids": blocks}


def test_a_repeated_prefix_is_cached_up_to_its_first_new_block(tmp_path: Path) -> None:
    rows = [
        mooncake(0, 1300, [0, 1, 2]),
        mooncake(10, 1500, [0, 1, 7]),
        mooncake(20, 1024, [0, 1]),
        mooncake(35, 600, [9, 0]),
    ]
    result = read(json_lines(tmp_path / "m.jsonl", rows))
    assert result.cached_tokens is not None
    assert result.cached_tokens.tolist() == [0, 1024, 1023, 0]  # at least one token is left to compute
    assert result.arrival_s.tolist() == [0, 0.01, 0.02, 0.035]  # not quantized: unchanged


def test_arrivals_in_buckets_of_three_seconds_are_spread_within_them(tmp_path: Path) -> None:
    rows = [mooncake(t, 100 + i, [i]) for i, t in enumerate([0, 0, 0, 3000, 3000, 5999, 5999, 9000])]
    file = json_lines(tmp_path / "m.jsonl", rows)
    result = read(file, ReadOptions(rng_for=streams(1)))
    assert result.prompt_tokens.tolist() == list(range(100, 108))
    assert (result.arrival_s // 3).tolist() == pytest.approx([0, 0, 0, 1, 1, 2, 2, 3], abs=1)
    starts = np.array([0, 0, 0, 3, 3, 5.999, 5.999, 9])
    assert ((result.arrival_s >= starts) & (result.arrival_s <= starts + 3)).all()
    assert len(set(result.arrival_s.tolist())) == 8
    assert result.repairs == {"arrivals spread within their bucket of 3 s": 8}
    assert read(file, ReadOptions(rng_for=streams(1))).digest() == result.digest()
    assert read(file, ReadOptions(rng_for=streams(2))).digest() != result.digest()


def test_bailian_traces_use_seconds_and_blocks_of_16_tokens(tmp_path: Path) -> None:
    rows = [{"chat_id": i, **mooncake(i * 1.5, 40, [1, 2, 3])} for i in range(2)]
    result = read(json_lines(tmp_path / "q.jsonl", rows))
    assert result.cached_tokens is not None
    assert result.arrival_s.tolist() == [0, 1.5]
    assert result.cached_tokens.tolist() == [0, 39]


def test_the_calibration_measurements_are_read_by_run() -> None:
    result = read(shared("calibration/requests.csv.gz"), ReadOptions(run="conv_b2"))
    assert len(result) == 1049
    assert result.arrival_s[0] == 0


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_documented(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).parents[4] / "docs/how-to/traffic.md").read_text()


def test_a_named_format_overrides_detection(tmp_path: Path) -> None:
    file = text(tmp_path / "a.csv", OURS)
    assert read(file, ReadOptions(format="forescale")).digest() == trace((0.5, 100, 10), (1.25, 200, 20)).digest()
    with pytest.raises(TraceError, match="unknown format; did you mean 'azure'"):
        read(file, ReadOptions(format="azur"))
    with pytest.raises(TraceError, match="missing columns: 'TIMESTAMP'"):
        read(file, ReadOptions(format="azure"))
