"""Traffic files: any content gives a valid trace or a `TraceError`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import TraceError
from tests.fuzz.kinds.config import CPU_S
from tests.fuzz.kinds.readings import encoding_problem
from tests.fuzz.mutate import DIGITS, json_text, text
from tests.fuzz.rng import Rng
from tests.fuzz.sequences.guard import bounded

OWN: Final = b"arrival_s,prompt_tokens,output_tokens\n" + b"".join(b"%d.5,%d,%d\n" % (k, 10 + k, 5) for k in range(20))
AZURE: Final = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"".join(
    b"2023-11-16 18:15:%02d.6805900,%d,12\n" % (k, 100 + k) for k in range(20)
)
BURST: Final = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + b"".join(
    b"%d,GPT-4,%d,20,40,API log\n" % (k, 20 + k) for k in range(20)
)
VLLM: Final[dict[str, Any]] = {
    "input_lens": [5, 6, 7],
    "output_lens": [2, 3, 4],
    "ttfts": [0.1, 0.2, 0.3],
    "itls": [[0.01], [0.02], [0.03]],
    "start_times": [0.0, 1.0, 2.0],
    "errors": ["", "", ""],
}
CHAT: Final[dict[str, Any]] = {"created": 1.7e9, "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 5}}
SPEND: Final[dict[str, Any]] = {
    "startTime": "2026-01-01T00:00:00Z", "model": "m", "prompt_tokens": 9, "completion_tokens": 5, "cache_hit": "False",
}  # fmt: skip
SPAN: Final[dict[str, Any]] = {
    "traceId": "1", "spanId": "2", "parentSpanId": "1", "startTimeUnixNano": "1700000000000000000",
    "attributes": [
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "9"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "5"}},
    ],
}  # fmt: skip
OTLP: Final[dict[str, Any]] = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}
RECEIVED: Final = b"Received request cmpl-%d-0: prompt: 'x', params: SamplingParams(), prompt_token_ids: [1, 2, 3], "
GENERATED: Final = b"Generated response cmpl-%d: output: 'y', output_token_ids: [4, 5], finish_reason: stop"
SERVER_LOG: Final = b"".join(
    b"INFO 11-30 22:11:%02d [logger.py:39] %s\n" % (k, message % k)
    for k in range(8)
    for message in (RECEIVED, GENERATED)
)
TOKENS: Final = (
    b"NaN",
    b"inf",
    b"-1",
    b"1e308",
    b"1e999",
    DIGITS.encode(),
    b"0001-01-01 00:00:00",
    b"9999-12-31 23:59:59",
    b"1_000",
    b"",
    b",",
    b",,,,",
    b'"',
    b'"a\nb"',
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"0x10",
    b"2023-13-45",
    b"PAR1",
    b"\x1f\x8b",
    b"None",
)


def _lines(rng: Rng) -> bytes:
    mooncake = [
        {"timestamp": 1000 * k, "input_length": 600, "output_length": 50, "hash_ids": [1, k]} for k in range(12)
    ]
    rows: list[Any] = rng.choice((mooncake, [CHAT] * 12, [SPEND] * 12, [OTLP] * 3))
    k = rng.randrange(len(rows))
    return b"".join((json_text(rng, row) if i == k else json.dumps(row).encode()) + b"\n" for i, row in enumerate(rows))


def mutated(rng: Rng) -> bytes:
    match rng.randint(0, 3):
        case 0:
            return _lines(rng)
        case 1:
            return json_text(rng, rng.choice((VLLM, OTLP, {"data": [SPEND, CHAT]})))
    return text(rng, rng.choice((OWN, AZURE, BURST, SERVER_LOG)), TOKENS, changes=4)


def check(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        path.write_bytes(data)
        for options in (ReadOptions(), ReadOptions(skip_bad=True)):
            try:
                with bounded(cpu_s=CPU_S):
                    trace = read(path, options)
            except TraceError as e:
                if problem := encoding_problem(str(e)):
                    return problem
                continue
            if (
                not np.isfinite(trace.arrival_s).all()
                or (np.diff(trace.arrival_s) < 0).any()
                or (trace.arrival_s < 0).any()
            ):
                return "arrivals are not finite, or out of order"
            if (trace.prompt_tokens < 1).any() or (trace.output_tokens < 1).any():
                return "requests without tokens"
    return ""
