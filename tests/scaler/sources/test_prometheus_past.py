"""Past readings of a Prometheus source: steps, gaps, parts and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray

from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import Misconfigured, PastSource, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.prometheus_past import MAX_POINTS
from tests.factories import DEADLINE_S
from tests.servers.prometheus_ranges import Formula, Ranges, prometheus_ranges

TOKENS = ("prompt_tokens_per_s", "generation_tokens_per_s")
START = 1_799_999_700.0
STEP_S = 300.0


@pytest.fixture
async def server() -> AsyncIterator[Ranges]:
    async with prometheus_ranges() as server:
        yield server


@pytest.fixture
async def opening() -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, SystemClock(), DEADLINE_S)


async def past(
    opening: AdapterContext, server: Ranges, steps: float, quantities: tuple[str, ...] = TOKENS, **fields: Any
) -> dict[str, NDArray[np.float64]]:
    spec = Prometheus(url=server.url, **{"preset": "vllm", "read": quantities, **fields})
    source = await open_source(spec, opening)
    assert isinstance(source, PastSource)
    return dict(await source.past(quantities, START, START + steps * STEP_S, STEP_S))


def place(at: float) -> str:
    return repr((at - START) / STEP_S)


async def test_each_step_has_the_value_at_its_end_and_a_partial_step_is_omitted(
    opening: AdapterContext, server: Ranges
) -> None:
    server.parts = {TOKENS[0]: place, TOKENS[1]: lambda at: place(at) if at > START + 700 else None}
    means = await past(opening, server, 4.9)
    assert means[TOKENS[0]].tolist() == [1, 2, 3, 4]
    assert means[TOKENS[1]].tolist() == pytest.approx([np.nan, np.nan, 3, 4], nan_ok=True)


async def test_one_request_reads_all_recipes_with_the_step_as_window(opening: AdapterContext, server: Ranges) -> None:
    await past(opening, server, 4320, match={"namespace": "llm"})
    (request,) = server.requests
    assert 'sum(rate(vllm:prompt_tokens_total{namespace="llm"}[300000ms]))' in request["query"]
    assert "up == 0" in request["query"]
    assert (request["start"], request["end"], request["step"]) == (
        f"{START + 300:.3f}",
        f"{START + 4320 * 300:.3f}",
        "300.000",
    )


async def test_past_steps_have_means_but_no_late_shares(opening: AdapterContext, server: Ranges) -> None:
    quantities = ("ttft_mean_s", "ttft_late_share")
    server.parts = {quantities[0]: lambda at: "NaN" if at < START + 350 else "0.4"}
    means = await past(opening, server, 3, quantities)
    assert means["ttft_mean_s"].tolist() == pytest.approx([np.nan, 0.4, 0.4], nan_ok=True), (
        "a step without requests has no mean"
    )
    assert np.isnan(means["ttft_late_share"]).all()
    assert "time_to_first_token_seconds_sum{}[300000ms]" in server.requests[0]["query"]
    assert "_bucket" not in server.requests[0]["query"]
    server.requests.clear()
    assert np.isnan((await past(opening, server, 3, quantities[1:]))["ttft_late_share"]).all()
    assert not server.requests


async def test_range_beyond_the_server_s_point_limit_is_read_in_parts(opening: AdapterContext, server: Ranges) -> None:
    server.parts = {TOKENS[0]: place}
    means = await past(opening, server, 2 * MAX_POINTS + 5)
    assert len(server.requests) == 3
    assert means[TOKENS[0]].tolist() == list(range(1, 2 * MAX_POINTS + 6))


HOSTILE: dict[str, object] = {
    "nan": "NaN",
    "infinite": "+Inf",
    "negative": "-1",
    "no number": "seven",
    "beyond any float": "1e999",
    "null": {},
    "true": True,
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_an_invalid_measurement_is_a_gap(opening: AdapterContext, server: Ranges, value: object) -> None:
    formula: Formula = lambda at: value if at < START + 350 else "5"  # noqa: E731 - a formula
    server.parts = {TOKENS[0]: formula}
    assert (await past(opening, server, 3))[TOKENS[0]].tolist() == pytest.approx([np.nan, 5, 5], nan_ok=True)


async def test_step_with_a_lost_target_is_a_gap_and_not_a_smaller_sum(opening: AdapterContext, server: Ranges) -> None:
    server.parts = {TOKENS[0]: lambda _: "7", "lost": lambda at: "1" if at < START + 650 else None}
    assert (await past(opening, server, 4))[TOKENS[0]].tolist() == pytest.approx([np.nan, np.nan, 7, 7], nan_ok=True)


async def test_past_without_samples_is_all_gaps(opening: AdapterContext, server: Ranges) -> None:
    means = await past(opening, server, 3)
    assert all(np.isnan(values).all() and len(values) == 3 for values in means.values())
    assert (await past(opening, server, 0.5))[TOKENS[0]].size == 0


async def test_a_configured_query_is_sent_unchanged(opening: AdapterContext, server: Ranges) -> None:
    server.whole = {"tokens:rate1m": [({}, lambda _: "3")], "4": [({}, lambda _: "4")]}
    queries = {TOKENS[0]: "tokens:rate1m", TOKENS[1]: "4"}
    means = await past(opening, server, 2, preset=None, read=None, queries=queries)
    assert [values.tolist() for values in means.values()] == [[3, 3], [4, 4]]


async def test_two_series_where_one_is_expected_are_misconfigured(opening: AdapterContext, server: Ranges) -> None:
    server.whole = {"up": [({"job": "a"}, lambda _: "1"), ({"job": "b"}, lambda _: "1")]}
    with pytest.raises(Misconfigured, match="the query returns 2 series"):
        await past(opening, server, 2, preset=None, read=None, queries={TOKENS[0]: "up"})


def answer(status: int, document: object) -> web.Response:
    return web.json_response(document, status=status)


def error(kind: str, text: str) -> dict[str, str]:
    return {"status": "error", "errorType": kind, "error": text}


VECTOR = {"status": "success", "data": {"resultType": "vector", "result": []}}
NO_TIME = {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [["NaN", "1"]]}]}}
HALF = {"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1]]}]}}
FAULTS: dict[str, tuple[int, object, type[PortError], str]] = {
    "too many samples": (422, error("execution", "query processing would load too many samples"), Misconfigured, "too"),
    "refused": (400, error("bad_data", "invalid parameter"), Misconfigured, "bad_data: invalid parameter"),
    "forbidden": (403, "no", Misconfigured, "HTTP 403"),
    "timed out": (503, error("timeout", "query timed out in expression evaluation"), Unavailable, "timed out"),
    "busy": (429, "", Unavailable, "HTTP 429"),
    "another kind": (200, VECTOR, Unavailable, "malformed response"),
    "no times": (200, NO_TIME, Unavailable, "malformed response"),
    "half a pair": (200, HALF, Unavailable, "malformed response"),
    "no object": (200, [], Unavailable, "malformed response: not a JSON object"),
}


@pytest.mark.parametrize(("status", "document", "kind", "why"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("number", [0, 1], ids=["at once", "in the second part"])
async def test_error_response_is_misconfigured_or_unavailable(
    opening: AdapterContext, server: Ranges, status: int, document: object, kind: type[PortError], why: str, number: int
) -> None:
    server.fail = lambda request: answer(status, document) if request == number else None
    with pytest.raises(kind, match=why):
        await past(opening, server, MAX_POINTS + 1)


async def test_partial_response_is_unavailable(opening: AdapterContext, server: Ranges) -> None:
    server.parts = {TOKENS[0]: lambda _: "7"}
    server.more = {"warnings": ["store 10.0.0.3 did not answer"]}
    with pytest.raises(Unavailable, match=r"partial response: store 10\.0\.0\.3"):
        await past(opening, server, 3)
    server.more = {"warnings": ["PromQL info: metric might not be a counter"], "infos": ["the same"]}
    assert (await past(opening, server, 3))[TOKENS[0]].tolist() == [7, 7, 7]
