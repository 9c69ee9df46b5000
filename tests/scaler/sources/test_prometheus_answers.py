"""The Prometheus source's readings of each kind of response, from a scripted server."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.http_access import Access
from scaler.config.kinds.prometheus import Prometheus
from scaler.config.secret import Secret
from scaler.ports import Misconfigured, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.promql import metric_names
from tests.factories import DEADLINE_S
from tests.servers.certificate import self_signed
from tests.servers.http_fault import Front, http_front


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with http_front("http://127.0.0.1:9") as front:
        yield front


@pytest.fixture
async def opening() -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, SystemClock(), DEADLINE_S)


def answer(rows: dict[str, str], **more: Any) -> bytes:
    """Return a vector with one row for each part of the joint query."""
    result = [{"metric": {"forescale": key}, "value": [1000.0, value]} for key, value in rows.items()]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}, **more}).encode()


RUNNING = answer({"value:running": "7", "time:running": "990.5"})


async def read(opening: AdapterContext, front: Front, **fields: Any) -> Fresh[float] | Absent:
    source = await open_source(Prometheus(url=front.url, preset="vllm", read=("running",), **fields), opening)
    return (await source.sample())["running"]


async def test_value_is_read_with_its_time(opening: AdapterContext, front: Front) -> None:
    front.body = RUNNING
    assert await read(opening, front) == Fresh(7.0, 990.5)


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (
            400,
            b'{"status":"error","errorType":"bad_data","error":"parse error: oops"}',
            Misconfigured,
            "bad_data: parse",
        ),
        (
            422,
            b'{"status":"error","errorType":"execution","error":"too many samples"}',
            Misconfigured,
            "too many samples",
        ),
        (400, b"<html>no</html>", Misconfigured, "HTTP 400: <html>no</html>"),
        (401, b"", Misconfigured, "HTTP 401"),
        (403, b"who are you", Misconfigured, "HTTP 403: who are you"),
        (404, b"", Misconfigured, "HTTP 404"),
        (302, b"", Misconfigured, "redirects to 'https://login.example'"),
        (429, b"", Unavailable, "HTTP 429"),
        (500, b"", Unavailable, "HTTP 500"),
        (503, b'{"status":"error","errorType":"timeout","error":"query timed out"}', Unavailable, "query timed out"),
        (200, b"<html>please log in</html>", Unavailable, "not JSON: '<html>please log in</html>'"),
        (200, b"", Unavailable, "not JSON"),
        (200, b"[]", Unavailable, "malformed response: not a JSON object"),
        (200, b'{"status":"error","error":"later"}', Unavailable, "later"),
        (200, b'{"status":"success"}', Unavailable, "malformed response"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[3]}}', Unavailable, "malformed response"),
        (200, b" " * (2**20 + 1), Unavailable, "exceeds 1 MiB; aggregate the query"),
    ],
)
async def test_error_response_is_misconfigured_or_unavailable(
    opening: AdapterContext, front: Front, status: int, body: bytes, error: type[PortError], message: str
) -> None:
    front.status, front.body, front.headers = status, body, {"Location": "https://login.example"}
    with pytest.raises(error, match=message) as raised:
        await read(opening, front)
    assert isinstance(raised.value, Unavailable) == (error is Unavailable)


@pytest.mark.parametrize(("header", "wait_s"), [("7", 7), ("86400", 300), ("soon", None), ("-1", None)])
async def test_requested_retry_pause_is_kept_within_bounds(
    opening: AdapterContext, front: Front, header: str, wait_s: float | None
) -> None:
    front.status, front.headers = 429, {"Retry-After": header}
    with pytest.raises(Unavailable) as raised:
        await read(opening, front)
    assert raised.value.retry_after_s == wait_s


async def test_partial_response_is_absent(opening: AdapterContext, front: Front) -> None:
    front.body = answer({"value:running": "7", "time:running": "990.5"}, warnings=["store 10.0.0.3 did not answer"])
    assert await read(opening, front) == Absent("partial response: store 10.0.0.3 did not answer")


async def test_promql_info_is_not_a_warning(opening: AdapterContext, front: Front) -> None:
    remark = "PromQL info: metric might not be a counter"
    front.body = answer({"value:running": "7", "time:running": "990.5"}, warnings=[remark], infos=[remark])
    assert await read(opening, front) == Fresh(7.0, 990.5)


@pytest.mark.parametrize("at", ["NaN", "+Inf", "noon"])
async def test_invalid_sample_time_makes_the_reading_absent(opening: AdapterContext, front: Front, at: str) -> None:
    front.body = answer({"value:running": "7", "time:running": at})
    assert isinstance(await read(opening, front), Absent)


@pytest.mark.parametrize("quantity", ["ttft_p95_s", "ttft_mean_s"])
async def test_latency_without_observations_is_absent(opening: AdapterContext, front: Front, quantity: str) -> None:
    front.body = answer({f"value:{quantity}": "NaN", f"time:{quantity}": "990"})
    source = await open_source(Prometheus(url=front.url, preset="vllm", read=(quantity,)), opening)
    assert (await source.sample())[quantity] == Absent("no observations in the last 120 s")


Bucket = tuple[str | None, object]


def buckets(*counts: Bucket, lost: bool = False) -> bytes:
    """Return the response to a late share: one row per bucket."""
    rows: list[Any] = [
        {"metric": {"forescale": "value:ttft_late_share", **({} if le is None else {"le": le})}, "value": [1000.0, n]}
        for le, n in counts
    ]
    parts = {"time:ttft_late_share": "990", **({"lost": "2"} if lost else {})}
    rows += [{"metric": {"forescale": key}, "value": [1000.0, value]} for key, value in parts.items()]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": rows}}).encode()


async def late(front: Front, body: bytes, preset: Any = "vllm", slo_s: float = 1.0) -> Any:
    front.body = body
    async with Resources() as resources:
        opening = AdapterContext(resources, SystemClock(), DEADLINE_S, {"ttft_s": slo_s})
        source = await open_source(Prometheus(url=front.url, preset=preset, read=("ttft_late_share",)), opening)
        return (await source.sample())["ttft_late_share"]


SOUND: tuple[Bucket, ...] = (("+Inf", "10"), ("0.5", "4"), ("1.0", "7"), ("2.5", "9"))


async def test_late_share_is_computed_from_buckets_in_any_order(front: Front) -> None:
    assert await late(front, buckets(*SOUND)) == Fresh(pytest.approx(0.3), 990.0)
    assert await late(front, buckets(*SOUND), slo_s=0.75) == Fresh(pytest.approx(0.45), 990.0)


async def test_two_spellings_of_one_bucket_bound_are_merged(front: Front) -> None:
    body = buckets(("1", "7"), ("1.0", "7"), ("+Inf", "20"))
    assert await late(front, body) == Fresh(pytest.approx(0.3), 990.0)


async def test_slo_is_compared_with_buckets_in_milliseconds(front: Front) -> None:
    body = buckets(("500", "4"), ("1000", "7"), ("+Inf", "10"))
    assert await late(front, body, "triton") == Fresh(pytest.approx(0.3), 990.0)


async def test_late_share_without_observations_is_absent(front: Front) -> None:
    reading = await late(front, buckets(("1.0", "0"), ("+Inf", "0")))
    assert reading == Absent("no observations in the last 120 s")


async def test_late_share_with_a_lost_replica_is_absent(front: Front) -> None:
    reading = await late(front, buckets(*SOUND, lost=True))
    assert reading == Absent("2 targets that were up in the last 300 s cannot be scraped now")


@pytest.mark.parametrize(
    "spoilt",
    [("0.1", "NaN"), ("0.1", "+Inf"), ("0.1", {}), ("0.1", None), (None, "3"), ("fast", "3"), ("NaN", "3")],
)
async def test_invalid_bucket_makes_the_late_share_absent(front: Front, spoilt: Bucket) -> None:
    reading = await late(front, buckets(*SOUND, spoilt))
    assert isinstance(reading, Absent)
    assert reading.reason.startswith("vllm:time_to_first_token_seconds_bucket is not a valid histogram: bucket")


@pytest.mark.parametrize(("text", "value"), [("0.02", 0.02), ("1.004", 1.0), ("2", None)])
async def test_late_share_of_a_configured_query_is_a_share(
    opening: AdapterContext, front: Front, text: str, value: float | None
) -> None:
    front.body = answer({"": text})
    source = await open_source(Prometheus(url=front.url, queries={"ttft_late_share": "late"}), opening)
    refused = Absent("2 is not a share from 0 to 1")
    assert await source.sample() == {"ttft_late_share": refused if value is None else Fresh(value, 1000.0)}


async def test_a_native_histogram_is_not_a_number(opening: AdapterContext, front: Front) -> None:
    row = {"metric": {}, "histogram": [1000.0, {"count": "3", "sum": "1"}]}
    front.body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": [row]}}).encode()
    source = await open_source(Prometheus(url=front.url, queries={"depth": "x"}), opening)
    assert await source.sample() == {"depth": Absent("'a histogram' is not a number")}


async def test_credentials_are_read_for_every_request(opening: AdapterContext, front: Front, tmp_path: Path) -> None:
    front.body = RUNNING
    token = tmp_path / "token"
    token.write_text("first-token\n", encoding="utf-8")
    access = Access(bearer_token=Secret(file=str(token)), headers={"X-Scope-OrgID": "llm"})
    source = await open_source(Prometheus(url=front.url, preset="vllm", read=("running",), access=access), opening)
    await source.sample()
    token.write_text("second-token\n", encoding="utf-8")
    await source.sample()
    assert [headers["Authorization"] for _, headers in front.seen] == ["Bearer first-token", "Bearer second-token"]
    assert front.seen[0][1]["X-Scope-OrgID"] == "llm"


async def test_basic_authentication_with_a_deleted_secret_is_misconfigured(
    opening: AdapterContext, front: Front, tmp_path: Path
) -> None:
    front.body = RUNNING
    password = tmp_path / "password"
    password.write_text("pässword", encoding="utf-8")
    access = Access(username="forescale", password=Secret(file=str(password)))
    assert await read(opening, front, access=access) == Fresh(7.0, 990.5)
    assert base64.b64decode(front.seen[0][1]["Authorization"].split()[1]).decode() == "forescale:pässword"
    password.unlink()
    with pytest.raises(Misconfigured, match="does not exist"):
        await read(opening, front, access=access)


async def test_certificates_are_verified(opening: AdapterContext, tmp_path: Path) -> None:
    context, trusted = self_signed(tmp_path)
    async with http_front("http://127.0.0.1:9", tls=context) as front:
        front.body = RUNNING
        with pytest.raises(Misconfigured, match="certificate verify failed"):
            await read(opening, front)
        assert await read(opening, front, access=Access(ca_file=trusted)) == Fresh(7.0, 990.5)


async def test_unreadable_ca_file_is_misconfigured(opening: AdapterContext) -> None:
    with pytest.raises(Misconfigured, match="nowhere"):
        await open_source(Prometheus(url="https://x", preset="vllm", access=Access(ca_file="/nowhere.pem")), opening)


async def test_a_query_that_becomes_invalid_is_sent_separately_until_it_is_valid(
    opening: AdapterContext, front: Front
) -> None:
    def respond(query: str) -> tuple[int, bytes]:
        if is_bad and "mine" in query:
            return 422, b'{"status":"error","errorType":"execution","error":"duplicate series"}'
        return 200, answer(
            {"value:running": "7", "time:running": "990", "value:own": "3"} if "or" in query else {"": "3"}
        )

    is_bad, front.respond = False, respond
    source = await open_source(
        Prometheus(url=front.url, preset="vllm", read=("running",), queries={"own": "mine"}), opening
    )
    requests = []
    for is_bad in (False, False, True, True, False, False):
        before = len(front.seen)
        readings = await source.sample()
        assert readings["running"] == Fresh(7.0, 990.0)
        assert isinstance(readings["own"], Absent) == is_bad
        requests.append(len(front.seen) - before)
    assert requests == [2, 1, 3, 2, 2, 1]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ('sum by (pod) (rate(vllm:x_total{pod=~"a or b"}[5m] offset 1h))', ("vllm:x_total",)),
        ("a / on (job, instance) group_left (x) b or vector(0) # c", ("a", "b")),
        ('label_replace(up, "dst", "$1", "src", "(.*)") > bool 1e3', ("up",)),
        ("histogram_quantile(0.9, sum by (le) (rate(x_bucket[1m:10s])))", ("x_bucket",)),
        ("1 + 1", ()),
        ('{__name__="x"}', ()),
    ],
)
def test_metric_names_are_parsed_from_a_query(query: str, names: tuple[str, ...]) -> None:
    assert metric_names(query) == names
