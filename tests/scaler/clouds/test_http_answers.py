"""Validation of HTTP responses: accepted JSON, and malformed responses of metrics servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.aws.http import check_encodable
from scaler.clouds.http_answers import MAX_DEPTH, MAX_NUMBER_CHARS, decode_json, message_of
from scaler.clouds.kubernetes.objects import is_newer
from scaler.config.kinds.engines import Scrape
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import MAX_MESSAGE, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.prometheus import open_prometheus
from tests.factories import DEADLINE_S
from tests.servers.exporter import Engine, exporter, gauges
from tests.servers.http_fault import Front, http_front
from tests.servers.spoiling import STRANGE, spoiled, spots, unwritable

RUNNING: Final = "vllm:num_requests_running"
HUGE: Final = "1.7e308"
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS: Final = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
JSON: Final = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


@pytest.fixture
async def opening() -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, SystemClock(), DEADLINE_S)


@pytest.mark.slow
@given(JSON, st.booleans())
def test_valid_json_is_decoded_like_the_standard_library(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert decode_json("it", text.encode()) == json.loads(text)


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b'"]}[{"' + b"]}" * (depth // 2)


def test_nesting_limit_ignores_brackets_in_strings() -> None:
    assert decode_json("it", nested(MAX_DEPTH))
    assert decode_json("it", json.dumps(["[" * 1000, '\\"[[{{' * 1000, "{" * 1000]).encode())
    assert len(decode_json("it", json.dumps([[]] * 10_000).encode())) == 10_000


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (nested(MAX_DEPTH + 2), "nested deeper than 64 levels"),
        (b"[" * 100_000, "nested deeper than 64 levels"),
        (b"9" * (MAX_NUMBER_CHARS + 1), "a number of 65 characters"),
        (b"9" * 5000, "a number of 5000 characters"),
        (b"-1e400", "exceeds a float"),
        (b"0." + b"1" * 100, "exceeds a float"),
        (b"NaN", "NaN is not a number"),
        (b"-Infinity", "-Infinity is not a number"),
        (b'"\\ud800"', "unpaired surrogate"),
        (b'{"\\uDFFF": 1}', "unpaired surrogate"),
        (b'"\\udc00\\ud800"', "unpaired surrogate"),
        (b"\xff", "not JSON"),
        ("[1]".encode("utf-16"), "not JSON"),
        (b"", "not JSON"),
        (b"[1", "truncated or not JSON"),
    ],
)
def test_malformed_json_is_unavailable(content: bytes, why: str) -> None:
    with pytest.raises(Unavailable, match=why) as raised:
        decode_json("it", content)
    assert not unwritable(str(raised.value))
    assert message_of(content) == {}


def test_surrogate_pair_is_decoded_as_one_character() -> None:
    assert decode_json("it", b'"\\ud83d\\ude00 \\\\ud800"') == "\U0001f600 \\ud800"


def test_error_message_is_truncated_and_encodable() -> None:
    assert str(PortError("\ud800" + "x" * 10_000)) == "?" + "x" * (MAX_MESSAGE - 1)


@pytest.mark.parametrize("value", ["\ud800", 10**309])
def test_response_decoded_by_an_sdk_is_checked_recursively(value: object) -> None:
    assert check_encodable("it", {"a": [{"b": "ü"}, 10**300]})
    for answer in ({"a": [{"b": value}]}, {"a": {value: 1}}):
        with pytest.raises(Unavailable):
            check_encodable("it", answer)


def test_resource_versions_of_any_length_are_compared() -> None:
    assert is_newer("9" * 5000, "1")
    assert is_newer("10", "9")
    assert not is_newer("9", "10")


# Prometheus's API with every part of a response spoiled.


def vector(*rows: tuple[Any, Any]) -> dict[str, Any]:
    result = [{"metric": metric, "value": value} for metric, value in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}, "warnings": []}


def matrix() -> dict[str, Any]:
    values = [[60.0, "1"], [120.0, "2"]]
    result = [{"metric": {"forescale": "value:running"}, "values": values}]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}, "warnings": []}


async def test_malformed_instant_query_response_raises_only_port_errors(opening: AdapterContext) -> None:
    whole = vector(({"forescale": "value:running"}, [1000.0, "7"]), ({"forescale": "time:running"}, [1000.0, "990"]))
    async with http_front("http://127.0.0.1:9") as front:
        source = await open_prometheus(Prometheus(url=front.url, preset="vllm", read=("running",)), opening)
        assert await _reads_with_spoiled_parts(front, whole, source.sample) > 100


async def test_malformed_range_query_response_raises_only_port_errors(opening: AdapterContext) -> None:
    async with http_front("http://127.0.0.1:9") as front:
        source = await open_prometheus(Prometheus(url=front.url, preset="vllm", read=("running",)), opening)
        assert (
            await _reads_with_spoiled_parts(front, matrix(), lambda: source.past(["running"], 0.0, 600.0, 60.0)) > 100
        )


async def _reads_with_spoiled_parts(front: Front, whole: Any, ask: Any) -> int:
    """Read with each part of a response spoiled; allow only port errors. Return the number of reads."""
    count = 0
    for path in spots(whole):
        for strange in STRANGE:
            count += 1
            front.body = json.dumps(spoiled(whole, path, strange)).encode()
            try:
                result = await ask()
            except PortError as e:
                result = str(e)
            assert not unwritable(result), (path, strange)
    return count


# Metrics pages with values or sums beyond a float.


@pytest.mark.parametrize("value", ["9" * 310, "9" * 400, "9" * 5000, "1_0", "0x10", "\u0661", ""])
async def test_page_with_an_invalid_number_is_unavailable(opening: AdapterContext, value: str) -> None:
    async with exporter({"a": Engine(f"{RUNNING}{{}} {value}\n")}) as pages:
        source = await open_source(Scrape(urls=(pages.url("a"),), preset="vllm"), opening)
        with pytest.raises(Unavailable):
            await source.sample()


async def test_a_sum_beyond_a_float_is_absent(opening: AdapterContext) -> None:
    counters = "".join(f'vllm:generation_tokens_total{{engine="{i}"}} {HUGE}\n' for i in range(3))
    bounds = "".join(f'vllm:time_to_first_token_seconds_bucket{{engine="{i}",le="+Inf"}} {HUGE}\n' for i in range(3))
    text = gauges(RUNNING, {'engine="0"': HUGE, 'engine="1"': HUGE}) + counters + bounds
    read = ("running", "generation_tokens_per_s", "ttft_p95_s", "ttft_late_share")
    engine = Engine(text.replace(HUGE, "0"))
    async with exporter({"a": engine}) as pages:
        source = await open_source(Scrape(urls=(pages.url("a"),), preset="vllm", read=read), opening)
        await source.sample()
        engine.page = text
        readings = await source.sample()
    assert all(isinstance(reading, Absent) for reading in readings.values()), readings


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (f"{RUNNING}{{" + ",".join(f'l{i}="1"' for i in range(65)) + "} 1\n", "more than 64 labels"),
        (f'{RUNNING}{{l="{"x" * 20_000}"}} 1\n', "characters; the limit is 16384"),
        ("".join(f'{RUNNING}{{n="{i}"}} 1\n' for i in range(20_001)), "more than 20000 series"),
        (f'{RUNNING}{{a="1",a="2"}} 1\n', "malformed labels"),
        (" " * (16 * 2**20 + 1), "exceeds 16 MiB; reduce the metrics that the engine exports"),
    ],
)
async def test_page_beyond_a_limit_is_unavailable_and_names_the_limit(
    opening: AdapterContext, page: str, why: str
) -> None:
    async with exporter({"a": Engine(page)}) as pages:
        source = await open_source(Scrape(urls=(pages.url("a"),), preset="vllm"), opening)
        with pytest.raises(Unavailable, match=why):
            await source.sample()


async def test_large_page_with_many_ranks_is_read_completely(opening: AdapterContext) -> None:
    ranks = "".join(f'{RUNNING}{{engine="{i}",model_name="m"}} 2 1700000000000\n' for i in range(64))
    unread = "".join(f'other_bucket{{le="{i}",model_name="m",adapter="{"x" * 60}"}} {i}\n' for i in range(60_000))
    async with exporter({"a": Engine(ranks + unread)}) as pages:
        source = await open_source(Scrape(urls=(pages.url("a"),), preset="vllm", read=("running",)), opening)
        running = (await source.sample())["running"]
    assert isinstance(running, Fresh)
    assert running.value == 128
