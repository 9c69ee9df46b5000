"""Logs of engines, gateways and tracing: OpenAI responses, LiteLLM, OpenTelemetry spans and vLLM's server log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from simulators.world.rng import streams
from simulators.world.traffic.formats.json_values import numbered_lines
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.stream import Stream
from simulators.world.traffic.lengths import Lengths
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import TraceError
from tests.simulators.world.traffic.makers import gz, json_lines, rows_of, text

SKIP = ReadOptions(skip_bad=True)
FIXED = ReadOptions(
    prompt=Lengths(mean_tokens=800, cv=0, max_tokens=10_000), output=Lengths(mean_tokens=200, cv=0, max_tokens=10_000)
)
TWO = [(0, 100, 20), (1.5, 110, 30)]


def usage(prompt: int, output: int, names: tuple[str, str] = ("prompt_tokens", "completion_tokens")) -> dict[str, int]:
    return {names[0]: prompt, names[1]: output}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# --- OpenAI responses


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            "timestamp,prompt_tokens,completion_tokens\n1.7e9,100,20\n1700000001.5,110,30\n", id="CSV, seconds"
        ),
        pytest.param(
            "timestamp,model,prompt_tokens,completion_tokens\n1700000000000,m,100,20\n1700000001500,m,110,30\n",
            id="CSV, milliseconds",
        ),
        pytest.param(
            "created,input_tokens,output_tokens\n2026-01-01T00:00:00+02:00,100,20\n2025-12-31T22:00:01.5Z,110,30\n",
            id="CSV, dates in two zones",
        ),
        pytest.param(
            "created,usage.prompt_tokens,usage.completion_tokens\n0,100,20\n1.5,110,30\n", id="CSV, flattened usage"
        ),
        pytest.param(
            lines({"timestamp": 1.7e9, **usage(100, 20)}, {"timestamp": 1.7e9 + 1.5, **usage(110, 30)}), id="lines"
        ),
        pytest.param(
            lines(
                {"id": "a", "created": 1700000000000, "usage": None, "error": {"code": 503}, **usage(100, 20)},
                {"id": "b", "created": "1700000001500", **usage(110, 30)},
            ),
            id="lines, milliseconds, one as text",
        ),
        pytest.param(
            lines(
                {"created": 1.7e9, "model": "m", "usage": {**usage(100, 20), "prompt_tokens_details": None}},
                {"created": 1.7e9 + 1.5, "model": "m", "usage": usage(110, 30)},
            ),
            id="chat completions",
        ),
        pytest.param(
            lines(
                {"created_at": 1.7e9, "usage": usage(100, 20, ("input_tokens", "output_tokens"))},
                {"created_at": 1.7e9 + 1.5, "usage": usage(110, 30, ("input_tokens", "output_tokens"))},
            ),
            id="responses",
        ),
        pytest.param(
            json.dumps(
                {
                    "object": "list",
                    "data": [{"created": 5e8 + t, "usage": usage(p, o)} for t, p, o in TWO],
                },
                indent=2,
            ),
            id="the list of an API",
        ),
        pytest.param(
            "\ufeff" + lines({"timestamp": 0, **usage(100, 20)}, {"timestamp": 1.5, **usage(110, 30)}),
            id="a byte order mark",
        ),
    ],
)  # fmt: skip
def test_openai_style_logs_are_read(tmp_path: Path, content: str) -> None:
    for file in (text(tmp_path / "log", content), gz(tmp_path / "log.gz", content)):
        assert rows_of(read(file)) == TWO


def test_failed_requests_are_left_out_and_whole_seconds_spread(tmp_path: Path) -> None:
    rows = [{"created": 1_700_000_000 + i // 4, "usage": usage(10, 5 if i != 3 else 0)} for i in range(40)]
    file = json_lines(tmp_path / "a.jsonl", rows)
    result = read(file, ReadOptions(rng_for=streams(1)))
    assert result.repairs == {
        "failed requests (0 output tokens) skipped": 1,
        "arrivals spread within their bucket of 1 s": 39,
    }
    assert (result.arrival_s // 1).tolist() == pytest.approx([i // 4 for i in range(40) if i != 3], abs=1)
    assert len(set(result.arrival_s.tolist())) == 39
    assert read(file, ReadOptions(rng_for=streams(1))).digest() == result.digest()


def test_a_log_of_several_models_requires_a_choice(tmp_path: Path) -> None:
    rows = [
        {"timestamp": i + 0.5, "model": name, **usage(10, 5)} for i, name in enumerate(("a-8b", "b", "a-8b", "a-70b"))
    ]
    file = json_lines(tmp_path / "m.jsonl", rows)
    with pytest.raises(TraceError, match=r"choose one model with --model-name.*a-8b \(2\), b \(1\), a-70b \(1\)"):
        read(file)
    with pytest.raises(TraceError, match="did you mean 'a-70b'"):
        read(file, ReadOptions(model="a-7b"))
    assert len(read(file, ReadOptions(model="a-8b"))) == 2
    assert len(read(file, ReadOptions(model="a-*"))) == 3
    assert len(read(file, ReadOptions(model="*"))) == 4
    with pytest.raises(TraceError, match="--model-name b: the file does not name the model of a request"):
        read(text(tmp_path / "x.csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n"), ReadOptions(model="b"))


GOOD = {"timestamp": 1.5, **usage(10, 5)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            json.dumps({"timestamp": 1, "usage": None}), "column 'prompt_tokens' = null: must be", id="no usage"
        ),
        pytest.param(json.dumps({**GOOD, "prompt_tokens": -5}), "'prompt_tokens' = \"-5\": must be at", id="negative"),
        pytest.param(json.dumps({**GOOD, "prompt_tokens": float("nan")}), '= "nan": must be a number', id="NaN"),
        pytest.param(json.dumps({**GOOD, "completion_tokens": 10**30}), "must be at most 100000000", id="overflow"),
        pytest.param(json.dumps({**GOOD, "prompt_tokens": True}), '= "true": must be a number', id="true"),
        pytest.param(json.dumps({**GOOD, "timestamp": "\ud800"}), "must be a finite time", id="half a character"),
        pytest.param(json.dumps({**GOOD, "timestamp": 5e9}), "must lie within 1e+08 s", id="in a century"),
        pytest.param("[1]", ', entry 1: "1": must be a JSON object', id="a list"),
        pytest.param("not json", ': "not json": must be a JSON object', id="text"),
        pytest.param('{"timestamp": 1' + "0" * 5000 + "}", ": must be a JSON object", id="a number of 5,000 digits"),
    ],
)
def test_a_bad_record_is_reported_with_its_line_or_skipped_and_counted(tmp_path: Path, line: str, message: str) -> None:
    file = text(tmp_path / "bad.jsonl", f"{lines(GOOD)}\n{line}\n{lines(GOOD)}")
    with pytest.raises(TraceError) as raised:
        read(file)
    assert f"{file}, line 3" in str(raised.value)
    assert message in str(raised.value)
    result = read(file, SKIP)
    assert len(result) == 2
    assert result.repairs["malformed rows skipped"] == 1


def test_missing_token_counts_are_set_on_request_only(tmp_path: Path) -> None:
    rows: list[Any] = [{"timestamp": 0.5, **usage(10, 5)}, {"timestamp": 1, "prompt_tokens": 7}]
    result = read(json_lines(tmp_path / "a.jsonl", rows), FIXED)
    assert rows_of(result) == [(0.5, 10, 5), (1, 7, 200)]
    assert result.repairs == {"output tokens set by --output-tokens": 1}
    file = text(tmp_path / "lb.csv", "when,status\n2026-01-01T00:00:00Z,200\n2026-01-01T00:00:02Z,200\n")
    columns = {"arrival": "when"}
    with pytest.raises(TraceError, match="column of prompt, output, or set --prompt-tokens N and --output-tokens N"):
        read(file, ReadOptions(columns=columns))
    both = ReadOptions(columns=columns, prompt=FIXED.prompt, output=FIXED.output)
    assert rows_of(read(file, both)) == [(0, 800, 200), (2, 800, 200)]
    with pytest.raises(TraceError, match=r"missing columns: 'statuses' \(did you mean 'status'\?\)"):
        read(file, ReadOptions(columns={**columns, "prompt": "statuses"}, prompt=FIXED.prompt, output=FIXED.output))
    prompts = text(tmp_path / "prompts.csv", "timestamp,prompt_tokens,,\n1.5,10,x,\n")
    assert rows_of(read(prompts, ReadOptions(output=FIXED.output))) == [(1.5, 10, 200)]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        pytest.param(
            "ts,input_tokens,output_len\n1,2,3\n",
            "--columns arrival=ts,prompt=input_tokens,output=output_len",
            id="CSV",
        ),
        pytest.param(
            lines({"body": {"created": 1, "usage": {"n_prompt_tokens": 1, "completion_tokens": 2}}}),
            "--columns arrival=body.created,prompt=body.usage.n_prompt_tokens,output=body.usage.completion_tokens",
            id="JSON",
        ),
        pytest.param(
            lines({"timestamp": 1, "usage": {"prompt_tokens": 2}}),
            "arrival=COLUMN,prompt=COLUMN",
            id="no output tokens",
        ),
        pytest.param(
            "when_at,prompt_tokens,completion_tokens\n1,2,3\n",
            "arrival=COLUMN,prompt=COLUMN,output=COLUMN",
            id="no time",
        ),
    ],
)
def test_the_hint_for_an_unknown_log_names_columns_by_role(tmp_path: Path, content: str, hint: str) -> None:
    with pytest.raises(TraceError) as raised:
        read(text(tmp_path / "log", content))
    assert hint in str(raised.value)
    assert not re.search("'output_tokens': did you mean '[a-z_.]*prompt", str(raised.value))


def test_dotted_columns_are_found_below_keys_that_have_dots_themselves(tmp_path: Path) -> None:
    rows = [
        {"start_time": f"2026-01-01T00:00:0{i}Z", "attributes": {"gen_ai.usage": {"in": 5}, "out": 6}} for i in range(2)
    ]
    columns = {"arrival": "start_time", "prompt": "attributes.gen_ai.usage.in", "output": "attributes.out"}
    result = read(json_lines(tmp_path / "a.jsonl", rows), ReadOptions(columns=columns))
    assert rows_of(result) == [(0, 5, 6), (1, 5, 6)]


def test_a_line_above_the_limit_is_rejected(tmp_path: Path) -> None:
    file = text(tmp_path / "long.jsonl", "{}\n" + "x" * 101 + "\n")
    with Stream(file) as stream, pytest.raises(TraceError, match=r"long\.jsonl, line 2: must have at most 100 bytes"):
        list(numbered_lines(stream, file, max_bytes=100))


def test_names_in_a_file_are_shown_printable(tmp_path: Path) -> None:
    rows = [{"timestamp": i, "model": name, **usage(10, 5)} for i, name in enumerate(("a\x1b[2J", "b" * 999))]
    with pytest.raises(TraceError) as raised:
        read(json_lines(tmp_path / "m.jsonl", rows))
    assert "'a\\x1b[2J' (1)" in str(raised.value)
    assert len(str(raised.value)) < 500
    row = {"created; rm": 1, "prompt_tokens\x1b": 2, "prompt_len": 2, "output_len": 3}
    with pytest.raises(TraceError, match="--columns 'arrival=created; rm,prompt=prompt_len,output=output_len'"):
        read(json_lines(tmp_path / "m.jsonl", [row]))


def test_options_for_requests_are_rejected_where_the_format_needs_none(tmp_path: Path) -> None:
    mooncake = json_lines(tmp_path / "m.jsonl", [{"timestamp": 1, "input_length": 1, "output_length": 1}])
    vllm = text(tmp_path / "v.json", json.dumps({"start_times": [0.0], "input_lens": [1], "output_lens": [1]}))
    with pytest.raises(TraceError, match="--model-name: the format mooncake has one model"):
        read(mooncake, ReadOptions(model="m"))
    with pytest.raises(TraceError, match="--prompt-tokens: the format vllm has one model and all token counts"):
        read(vllm, FIXED)


# --- LiteLLM


def spend(start: str, prompt: int, output: int, **more: Any) -> dict[str, Any]:
    return {
        "request_id": start,
        "call_type": "acompletion",
        "total_tokens": prompt + output,
        **usage(prompt, output),
        "startTime": start,
        "endTime": start,
        "model": "llama",
        "metadata": {"usage": {"prompt_tokens": 1}},
        **more,
    }


SPENT = [
    spend("2026-05-10T12:00:00.250000Z", 100, 20),
    spend("2026-05-10T12:00:01.750000Z", 110, 30, cache_hit="False"),
    spend("2026-05-10T12:00:02.000000Z", 90, 10, cache_hit="True"),
    spend("2026-05-10T12:00:03.000000Z", 40, 0, call_type="aembedding"),
]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps(SPENT), id="/spend/logs"),
        pytest.param(json.dumps({"data": SPENT, "total": 4, "page": 1}, indent=1), id="a page of /spend/logs/v2"),
        pytest.param(lines(*SPENT), id="lines"),
        pytest.param(
            "request_id,startTime,endTime,model,prompt_tokens,completion_tokens,total_tokens,cache_hit\n"
            "a,2026-05-10 12:00:00.25,2026-05-10 12:00:09,llama,100,20,120,\n"
            "b,2026-05-10 12:00:01.75,2026-05-10 12:00:09,llama,110,30,140,False\n"
            "c,2026-05-10 12:00:02,2026-05-10 12:00:09,llama,90,10,100,True\n"
            "d,2026-05-10 12:00:03,2026-05-10 12:00:09,llama,40,0,40,None\n",
            id="CSV of the database",
        ),
    ],
)
def test_litellm_spend_logs_are_read_without_failures_and_cached_responses(tmp_path: Path, content: str) -> None:
    result = read(text(tmp_path / "spend", content))
    assert rows_of(result) == TWO
    assert result.repairs == {
        "responses from the proxy's cache skipped": 1,
        "failed requests (0 output tokens) skipped": 1,
    }


# --- OpenTelemetry

START_NS = 1_764_540_000_000_000_000


def span(number: int, start_s: float, parent: int = 0, failed: bool = False, **attributes: Any) -> dict[str, Any]:
    wrapped = [
        {"key": key.replace("__", "."), "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
        for key, v in attributes.items()
    ]
    return {
        "traceId": "1" * 32,
        "spanId": f"{number:016x}",
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
        "startTimeUnixNano": str(START_NS + round(start_s * 1e9)),
        "attributes": wrapped,
        "status": {"code": 2} if failed else {},
    }


def chat(number: int, start_s: float, prompt: int, output: int, parent: int = 0) -> dict[str, Any]:
    return span(
        number,
        start_s,
        parent,
        gen_ai__operation__name="chat",
        gen_ai__request__model="m",
        gen_ai__usage__input_tokens=prompt,
        gen_ai__usage__output_tokens=output,
    )


def otlp(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]}


OLD_NAMES = span(
    9, 1.5, gen_ai__usage__prompt_tokens=110, gen_ai__usage__completion_tokens=30, gen_ai__response__model="m"
)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps(otlp(chat(1, 0, 100, 20), OLD_NAMES), indent=2), id="a document"),
        pytest.param(
            lines(otlp(chat(1, 0, 100, 20)), {"resourceLogs": []}, otlp(OLD_NAMES)), id="lines of a collector"
        ),
    ],
)
def test_opentelemetry_spans_are_read(tmp_path: Path, content: str) -> None:
    assert rows_of(read(text(tmp_path / "spans", content))) == TWO


def test_only_the_innermost_of_nested_requests_counts(tmp_path: Path) -> None:
    agent = span(
        1, 0, gen_ai__operation__name="invoke_agent", gen_ai__usage__input_tokens=999, gen_ai__usage__output_tokens=9
    )
    http = span(3, 0.1, parent=2, http__request__method="POST")
    engine = span(4, 0.25, parent=3, gen_ai__usage__prompt_tokens=100, gen_ai__usage__completion_tokens=20)
    file = json_lines(tmp_path / "nested.jsonl", [otlp(engine), otlp(agent, http, chat(2, 0.05, 100, 20, parent=1))])
    result = read(file)
    assert rows_of(result) == [(0, 100, 20)]
    assert result.repairs == {"spans without tokens skipped": 2, "spans around another request skipped": 1}


def test_failed_spans_are_left_out_and_unknown_tokens_are_no_zeros(tmp_path: Path) -> None:
    unknown = span(2, 1, gen_ai__operation__name="chat")
    failed = span(3, 2, failed=True, gen_ai__operation__name="chat", gen_ai__usage__input_tokens=5)
    file = text(tmp_path / "spans.json", json.dumps(otlp(chat(1, 0, 100, 20), unknown, failed, "no span")))
    with pytest.raises(TraceError) as raised:
        read(file)
    assert "line 1, span 0000000000000002, column 'gen_ai.usage.input_tokens' = null" in str(raised.value)
    assert "a span must be a JSON object" in str(raised.value)
    assert "--prompt-tokens N sets missing prompt tokens: 1" in str(raised.value)
    result = read(file, SKIP)
    assert rows_of(result) == [(0, 100, 20)]
    assert result.repairs == {"failed requests skipped": 1, "malformed rows skipped": 2}
    with pytest.raises(TraceError, match=r"none of its 1 spans has gen_ai\.usage\.input_tokens"):
        read(text(file, json.dumps(otlp(span(1, 0, http__request__method="GET")))))


def test_jaeger_spans_are_read(tmp_path: Path) -> None:
    def jaeger(number: int, start_us: int, prompt: int, output: int, *parents: int) -> dict[str, Any]:
        tags = {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": output}
        return {
            "traceID": "t",
            "spanID": str(number),
            "references": [{"refType": "CHILD_OF", "traceID": "t", "spanID": str(p)} for p in parents],
            "startTime": START_NS // 1000 + start_us,
            "tags": [{"key": key, "type": "int64", "value": value} for key, value in tags.items()],
        }

    spans = [jaeger(1, 0, 100, 20), jaeger(2, 1_400_000, 110, 30), jaeger(3, 1_500_000, 110, 30, 2)]
    file = text(tmp_path / "jaeger.json", json.dumps({"data": [{"traceID": "t", "spans": spans}], "total": 0}))
    assert rows_of(read(file)) == TWO


# --- vLLM's server log

PARAMS = "SamplingParams(n=1, temperature=0.7, max_tokens=512, extra_args=None)"


def received(time: str, request: str, ids: str = "") -> str:
    """Return a request line of a version that logs prompts with it, and so the ids of a list `ids`."""
    prompt = f"prompt: 'say prompt_token_ids: [1], max\\n', params: {PARAMS}, prompt_token_ids: {ids}, " if ids else ""
    return (
        f"INFO {time} [logger.py:39] Received request {request}: {prompt or f'params: {PARAMS}, '}lora_request: None."
    )


def generated(time: str, request: str, ids: str, kind: str = "") -> str:
    response = f"Generated response {request}{kind}: output: 'x', output_token_ids: {ids}, finish_reason: stop"
    return f"INFO {time} [logger.py:70] {response}"


def access(path: str = "/v1/chat/completions", status: int = 200) -> str:
    return f'INFO:     10.0.0.1:4242 - "POST {path} HTTP/1.1" {status} OK'


def log(path: Path, *rows: str) -> Path:
    return text(path, "".join(row + "\n" for row in rows))


def test_a_vllm_log_with_token_ids_gives_both_lengths(tmp_path: Path) -> None:
    file = log(
        tmp_path / "vllm.log",
        "INFO 12-31 23:59:40 [api_server.py:1639] Supported_tasks: ['generate']",
        received("12-31 23:59:58", "cmpl-a-0", "[1, 2, 3]"),
        access("/v1/completions"),
        "\x1b[32mDEBUG\x1b[0m \x1b[90m01-01 00:00:01\x1b[0m [logger.py:40] Request chatcmpl-b details: prompt: 'x', "
        "prompt_token_ids: [7, 8], prompt_embeds shape: None.",
        f"(APIServer pid=7) {received('01-01 00:00:01', 'chatcmpl-b')}",
        generated("01-01 00:00:02", "chatcmpl-b", "[4]", " (streaming delta)"),
        generated("01-01 00:00:02", "chatcmpl-b", "[5, 6]", " (streaming delta)"),
        generated("01-01 00:00:02", "chatcmpl-b", "None", " (streaming complete)"),
        generated("01-01 00:00:03", "cmpl-a", "[9, 9, 9, 9]"),
    )
    assert rows_of(read(file)) == [(0, 3, 4), (3, 2, 3)]


def test_the_prompts_of_one_request_have_their_own_responses(tmp_path: Path) -> None:
    rows = [received("02-28 10:00:00", f"cmpl-a-{i}", f"[{', '.join('1' * (i + 1))}]") for i in range(2)]
    rows += [generated("02-29 10:00:00", "cmpl-a", "[1, 1]"), generated("02-29 10:00:00", "cmpl-a", "[1]")]
    rows.append(received("02-29 10:00:00", "cmpl-b-0", "[1]") + "\n" + generated("03-01 10:00:00", "cmpl-b", "[1]"))
    result = read(log(tmp_path / "vllm.log", *rows), ReadOptions(rng_for=streams(3)))
    assert [r[1:] for r in rows_of(result)] == [(1, 2), (2, 1), (1, 1)]
    assert result.arrival_s[-1] == pytest.approx(86_400, abs=1)


def test_a_vllm_log_without_token_ids_requires_the_counts(tmp_path: Path) -> None:
    rows = [received(f"11-30 22:11:3{i // 2}", f"chatcmpl-{i}") for i in range(8)]
    file = log(tmp_path / "vllm.log", *rows)
    with pytest.raises(TraceError) as raised:
        read(file)
    assert "does not have the prompt and output tokens of its 8 requests" in str(raised.value)
    assert "forescale trace convert --prompt-tokens N --output-tokens N" in str(raised.value)
    assert "VLLM_LOGGING_LEVEL=DEBUG" in str(raised.value)
    result = read(file, FIXED)
    assert {r[1:] for r in rows_of(result)} == {(800, 200)}
    assert result.repairs == {
        "prompt tokens set by --prompt-tokens": 8,
        "output tokens set by --output-tokens": 8,
        "arrivals spread within their bucket of 1 s": 8,
    }
    drawn = read(file, ReadOptions(prompt=Lengths(mean_tokens=500), output=Lengths(p50_tokens=50, p95_tokens=500)))
    assert len(set(drawn.prompt_tokens.tolist())) > 5
    assert (
        drawn.digest()
        == read(
            file, ReadOptions(prompt=Lengths(mean_tokens=500), output=Lengths(p50_tokens=50, p95_tokens=500))
        ).digest()
    )


def test_access_lines_are_read_with_the_times_of_the_log_collector(tmp_path: Path) -> None:
    file = log(
        tmp_path / "access.log",
        f"2026-11-30T22:11:34.123456789Z {access()}",
        f"2026-11-30T22:11:35Z {access('/v1/embeddings')}",
        '2026-11-30T22:11:35Z INFO:     10.0.0.1:1 - "GET /metrics HTTP/1.1" 200 OK',
        f"2026-11-30T22:11:36Z {access('/v1/completions', 503)}",
        f"[pod/vllm-0/vllm] 2026-11-30T23:11:36.623456+01:00 {access('/v1/responses?x=1')}",
    )
    result = read(file, FIXED)
    assert rows_of(result) == [(0, 800, 200), (pytest.approx(2.5, abs=1e-5), 800, 200)]
    assert result.repairs == {
        "arrivals at the time of the response": 2,
        "failed requests skipped": 1,
        "prompt tokens set by --prompt-tokens": 2,
        "output tokens set by --output-tokens": 2,
    }


def test_a_log_without_times_or_requests_is_reported_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        TraceError, match=r"line 1: the request has no time, and neither have the other 1: .*--timestamps"
    ):
        read(log(tmp_path / "vllm.log", access(), access()), FIXED)
    with pytest.raises(TraceError, match="has no request: start vLLM with --enable-log-requests"):
        read(log(tmp_path / "vllm.log", "INFO 11-30 22:11:34 [a.py:1] hello"))
    rows = [received(time, "a", "[1]") for time in ("11-30 22:11:34", "13-40 99:00:00")]
    with pytest.raises(
        TraceError, match=r"vllm\.log, line 2, column 'time' = .*13-40 99:00:00.: must be a finite time"
    ):
        read(log(tmp_path / "vllm.log", *rows), FIXED)


@pytest.mark.parametrize("name", ["openai", "otel", "vllm", "vllm-log", "mooncake"])
def test_a_named_format_that_does_not_fit_is_an_error(tmp_path: Path, name: str) -> None:
    for content in ("a,b\n1,2\n", '{"a": 1}\n{"b": 2}\n'):
        file = text(tmp_path / "x", content)
        with pytest.raises(TraceError, match=str(file)):
            read(file, ReadOptions(format=name))
