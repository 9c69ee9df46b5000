"""The Prometheus source on a real server: renamed and missing metrics, times, labels, configured queries."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.config.kinds.engines import Scrape
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import Misconfigured, PastSource, Source
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.prometheus import open_prometheus
from tests.factories import DEADLINE_S
from tests.servers.exporter import State
from tests.servers.fleet import WEIRD, Fleet, scraped
from tests.servers.http_fault import http_front
from tests.servers.in_thread import run_in_thread
from tests.servers.prometheus import PrometheusServer, needs_prometheus, prometheus

pytestmark = [pytest.mark.slow, needs_prometheus]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_in_thread(scraped()) as fleet_server:
        yield fleet_server


@pytest.fixture
def server(fleet: Fleet) -> PrometheusServer:
    return fleet.server


@pytest.fixture
async def opening() -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, SystemClock(), DEADLINE_S)


SLO_LIMITS_S = {"ttft_s": 1.0, "itl_s": 0.05}
MEANS_AND_LATE = ("ttft_mean_s", "ttft_late_share", "itl_mean_s", "itl_late_share")


@pytest.fixture
async def opening_with_slo() -> AsyncIterator[AdapterContext]:
    """The context of a workload with a latency SLO."""
    async with Resources() as resources:
        yield AdapterContext(resources, SystemClock(), DEADLINE_S, SLO_LIMITS_S)


async def read(opening: AdapterContext, server: PrometheusServer, case: str | None, **fields: Any) -> Mapping[str, Any]:
    match = {} if case is None else {"case": case}
    source: Source = await open_prometheus(Prometheus(url=server.url, match=match, **fields), opening)
    return await source.sample()


def values(readings: Mapping[str, Any]) -> dict[str, float]:
    return {q: reading.value for q, reading in readings.items() if isinstance(reading, Fresh)}


async def test_recorded_engine_reads_the_same_from_prometheus_and_by_scrape(
    opening: AdapterContext, fleet: Fleet
) -> None:
    direct = await open_source(Scrape(preset="vllm", urls=(fleet.pages.url("recorded"),)), opening)
    readings = values(await read(opening, fleet.server, "recorded", preset="vllm"))
    assert readings == {"running": 12, "waiting": 5, "kv_cache_usage": 0.4}
    assert readings == values(await direct.sample())


@pytest.mark.parametrize(
    ("case", "usage"),
    [
        pytest.param("old", 0.3, id="the-old-name-only"),
        pytest.param("mixed", 0.6, id="one-replica-under-each-name"),
        pytest.param("both", 0.4, id="both-names-at-once-count-once"),
    ],
)
async def test_renamed_metrics_are_found(
    opening: AdapterContext, server: PrometheusServer, case: str, usage: float
) -> None:
    readings = await read(opening, server, case, preset="vllm")
    assert readings["kv_cache_usage"].value == pytest.approx(usage)


async def test_gpu_utilization_in_percent_is_read_as_a_share(opening: AdapterContext, server: PrometheusServer) -> None:
    readings = values(await read(opening, server, "dcgm", preset="dcgm", read=("utilization", "tensor_active")))
    assert readings == {"utilization": pytest.approx(0.4), "tensor_active": pytest.approx(0.1)}


async def test_tensorrt_llm_is_read_by_its_labels(opening: AdapterContext, server: PrometheusServer) -> None:
    quantities = ("running", "waiting", "kv_cache_usage")
    readings = values(await read(opening, server, "trtllm", preset="triton_trtllm", read=quantities))
    assert readings == {"running": 9, "waiting": 4, "kv_cache_usage": 0.25}


async def test_sglang_priorities_are_not_added_to_their_total(opening: AdapterContext, fleet: Fleet) -> None:
    direct = await open_source(Scrape(preset="sglang", urls=(fleet.pages.url("sglang"),)), opening)
    readings = values(await read(opening, fleet.server, "sglang", preset="sglang"))
    assert readings == {"running": 8, "waiting": 7, "kv_cache_usage": 0.28}
    assert readings == values(await direct.sample())


async def test_rates_and_latencies_cover_the_window(opening: AdapterContext, server: PrometheusServer) -> None:
    quantities = ("generation_tokens_per_s", "ttft_p95_s")
    readings = values(await read(opening, server, "counting", preset="vllm", read=quantities, window_s=3))
    assert readings["generation_tokens_per_s"] == pytest.approx(1000, rel=0.2)
    assert readings["ttft_p95_s"] == pytest.approx(2.5 + 2.5 * 0.5 / 0.6, rel=0.01)


async def test_means_and_late_shares_equal_those_of_the_recorded_engine(
    opening_with_slo: AdapterContext, server: PrometheusServer
) -> None:
    readings = await read(opening_with_slo, server, "growing", preset="vllm", read=MEANS_AND_LATE, window_s=3)
    assert values(readings) == {
        "ttft_mean_s": pytest.approx(2210.5642309188843 / 2131),
        "ttft_late_share": pytest.approx((2131 - 1448) / 2131),
        "itl_mean_s": pytest.approx(33.779603175732476 / 2131),
        "itl_late_share": pytest.approx((2131 - 2104) / 2131),
    }
    assert readings["ttft_late_share"].measured_at == pytest.approx(time.time(), abs=5)


async def test_a_replica_counts_under_its_first_available_name(
    opening_with_slo: AdapterContext, server: PrometheusServer
) -> None:
    quantities = ("itl_mean_s", "itl_late_share", "itl_p95_s")
    readings = values(await read(opening_with_slo, server, "upgrade", preset="vllm", read=quantities, window_s=3))
    assert readings["itl_mean_s"] == pytest.approx(0.68 / 20, rel=0.2)
    assert readings["itl_late_share"] == 0.0, (
        "only replicas with request means count: of token gaps a larger share is late"
    )
    assert readings["itl_p95_s"] == pytest.approx(0.05)


@pytest.mark.parametrize(("slo_s", "late"), [(2.0, 0.1), (1.25, 0.3)], ids=["on-a-bound", "between-two"])
async def test_milliseconds_are_read_in_seconds(server: PrometheusServer, slo_s: float, late: float) -> None:
    quantities = ("ttft_mean_s", "ttft_late_share", "ttft_p95_s")
    async with Resources() as resources:
        opening = AdapterContext(resources, SystemClock(), DEADLINE_S, {"ttft_s": slo_s})
        readings = values(await read(opening, server, "triton", preset="triton", read=quantities, window_s=3))
    assert readings == {
        "ttft_mean_s": pytest.approx(0.65),
        "ttft_late_share": pytest.approx(late),
        "ttft_p95_s": pytest.approx(3.5),
    }


async def test_mean_and_late_share_without_observations_are_absent(
    opening_with_slo: AdapterContext, server: PrometheusServer
) -> None:
    readings = await read(opening_with_slo, server, "recorded", preset="vllm", read=MEANS_AND_LATE, window_s=3)
    assert readings == dict.fromkeys(MEANS_AND_LATE, Absent("no observations in the last 3 s"))


async def test_late_share_without_an_slo_is_absent(opening: AdapterContext, server: PrometheusServer) -> None:
    readings = await read(opening, server, "growing", preset="vllm", read=MEANS_AND_LATE, window_s=3)
    assert values(readings).keys() == {"ttft_mean_s", "itl_mean_s"}
    assert readings["itl_late_share"] == Absent("there is no share of late requests because slo.itl_s is not set")


async def test_mean_and_late_share_with_a_lost_replica_are_absent(
    opening_with_slo: AdapterContext, fleet: Fleet
) -> None:
    fields: dict[str, Any] = {"preset": "vllm", "read": MEANS_AND_LATE, "window_s": 3}
    assert values(await read(opening_with_slo, fleet.server, "parted", **fields)).keys() == {*MEANS_AND_LATE}
    fleet.engines["parted-2"].state = State.DOWN
    await fleet.server.until('up{case="parted"} == 0', lambda found: len(found) == 1)
    why = "1 targets that were up in the last 300 s cannot be scraped now"
    readings = await read(opening_with_slo, fleet.server, "parted", **fields)
    assert readings == dict.fromkeys(MEANS_AND_LATE, Absent(why))


async def test_reading_has_the_time_of_its_oldest_sample(opening: AdapterContext, fleet: Fleet) -> None:
    readings = await read(opening, fleet.server, "held", preset="vllm", read=("running",))
    assert readings["running"].value == 2
    assert readings["running"].measured_at == pytest.approx(fleet.began - 40, abs=0.01)


async def test_query_has_the_time_of_its_timestamp_query(opening: AdapterContext, fleet: Fleet) -> None:
    series = 'vllm:num_requests_running{case="held"}'
    queries = {"timed": f"sum({series})", "untimed": f"sum({series})"}
    times = {"timed": f"max(timestamp({series}))"}
    for _ in range(2):  # sent separately, then jointly
        readings = await read(opening, fleet.server, None, queries=queries, timestamp_queries=times)
        assert readings["timed"].measured_at == pytest.approx(fleet.began - 20, abs=0.01)
        assert readings["untimed"].measured_at > fleet.began


async def test_removed_replicas_are_absent_and_not_zero(opening: AdapterContext, fleet: Fleet) -> None:
    fleet.engines["gone"].state = State.DOWN
    await fleet.server.until('vllm:num_requests_running{case="gone"}', lambda found: not found)
    readings = await read(opening, fleet.server, "gone", preset="vllm")
    assert all("but there were some in the last 24 h" in reading.reason for reading in readings.values())


async def test_unknown_metric_is_reported_and_does_not_hide_the_others(
    opening: AdapterContext, server: PrometheusServer
) -> None:
    readings = await read(opening, server, "partly", preset="vllm")
    assert values(readings) == {"running": 3}
    reason = readings["kv_cache_usage"].reason
    assert reason.startswith("misconfigured: no series of vllm:kv_cache_usage_perc or vllm:gpu_cache_usage_perc")
    assert readings["waiting"].reason.endswith(
        "vllm:num_requests_waiting has series, but none with these labels; check match"
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"preset": "tgi"}, "no metric begins with 'tgi_'", id="no-such-engine"),
        pytest.param({"preset": "vllm", "match": {"case": "recroded"}}, "none with these labels", id="wrong-label"),
        pytest.param(
            {"queries": {"depth": "sum(vllm:num_requests_wating)"}},
            "did you mean 'vllm:num_requests_waiting'",
            id="typo",
        ),
        pytest.param({"queries": {"depth": "sum("}}, "unclosed left parenthesis", id="no-promql"),
        pytest.param({"queries": {"depth": "up[1m]"}}, "returns a matrix, not a number", id="many-times"),
        pytest.param({"queries": {"depth": "'seven'"}}, "returns a string, not a number", id="text"),
    ],
)
async def test_source_without_any_readable_quantity_is_misconfigured(
    opening: AdapterContext, server: PrometheusServer, fields: dict[str, Any], why: str
) -> None:
    source = await open_prometheus(Prometheus(url=server.url, **fields), opening)
    with pytest.raises(Misconfigured, match=why):
        await source.sample()


async def test_the_lookup_of_a_missing_metric_is_not_repeated_each_tick(
    opening: AdapterContext, server: PrometheusServer
) -> None:
    async with http_front(server.url) as front:
        source = await open_prometheus(Prometheus(url=front.url, preset="vllm", match={"case": "partly"}), opening)
        first = await source.sample()
        requests = len(front.seen)
        second = await source.sample()
        assert values(second) == {"running": 3}
        assert (second["waiting"], second["kv_cache_usage"]) == (first["waiting"], first["kv_cache_usage"])
        assert len(front.seen) == requests + 1


async def test_all_quantities_take_one_request_per_tick(opening: AdapterContext, server: PrometheusServer) -> None:
    async with http_front(server.url, prefix="/prefix") as front:
        queries = {"two": "1 + 1 # a number", "gpus": 'count(DCGM_FI_DEV_GPU_UTIL{case="dcgm"})'}
        source = await open_prometheus(
            Prometheus(url=front.url + "/", preset="vllm", match={"case": "recorded"}, queries=queries, read=None),
            opening,
        )
        expected = {"running": 12, "waiting": 5, "kv_cache_usage": 0.4, "two": 2, "gpus": 3}
        assert values(await source.sample()) == expected  # the configured queries are sent separately
        front.seen.clear()
        assert values(await source.sample()) == expected
        assert [path for path, _ in front.seen] == ["/prefix/api/v1/query"]


@pytest.mark.parametrize(
    "broken", ["sum(", "up + on(job) up{case='mixed'} * on() up", "vllm:num_requests_running", "up) or (up"]
)
async def test_invalid_query_does_not_hide_other_quantities(
    opening: AdapterContext, server: PrometheusServer, broken: str
) -> None:
    queries = {"broken": broken, "sound": 'sum(vllm:num_requests_waiting{case="old"})'}
    source = await open_prometheus(
        Prometheus(url=server.url, preset="vllm", match={"case": "recorded"}, queries=queries), opening
    )
    for _ in range(3):
        readings = await source.sample()
        assert isinstance(readings["broken"], Absent)
        assert values(readings) == {"running": 12, "waiting": 5, "kv_cache_usage": 0.4, "sound": 5}


async def test_query_with_two_series_is_absent(opening: AdapterContext, server: PrometheusServer) -> None:
    readings = await read(opening, server, None, queries={"two": 'vllm:num_requests_running{case="mixed"}'})
    assert readings["two"] == Absent("the query returns 2 series; aggregate it to one, as in sum(...)")


@pytest.mark.parametrize(
    ("case", "quantity", "why"),
    [
        ("nan", "running", "nan is not finite"),
        ("nan", "waiting", "inf is not finite"),
        ("negative", "running", "-1 is negative"),
        ("negative", "kv_cache_usage", "40 is not a share from 0 to 1"),
    ],
)
async def test_an_invalid_measurement_is_absent(
    opening: AdapterContext, server: PrometheusServer, case: str, quantity: str, why: str
) -> None:
    readings = await read(opening, server, case, preset="vllm", read=(quantity,))
    assert readings[quantity] == Absent(why)


async def test_label_value_with_special_characters_is_matched_literally(
    opening: AdapterContext, server: PrometheusServer
) -> None:
    assert values(await read(opening, server, WEIRD, preset="vllm", read=("running",))) == {"running": 6}


@pytest.mark.parametrize("value", ['x"} or vector(99) or up{case="', "x\\", ".*", "x\n#", "`"])
async def test_label_value_cannot_inject_promql(opening: AdapterContext, server: PrometheusServer, value: str) -> None:
    with pytest.raises(Misconfigured, match="none with these labels"):
        await read(opening, server, value, preset="vllm")


async def test_lost_replica_makes_a_sum_a_lower_bound_and_a_mean_absent(opening: AdapterContext, fleet: Fleet) -> None:
    assert values(await read(opening, fleet.server, "lost", preset="vllm"))["running"] == 24
    fleet.engines["lost-2"].state = State.HANGING
    await fleet.server.until('vllm:num_requests_running{case="lost"}', lambda found: len(found) == 1)
    readings = await read(opening, fleet.server, "lost", preset="vllm")
    running, why = readings["running"], "1 targets that were up in the last 300 s cannot be scraped now"
    assert isinstance(running, Fresh)
    assert (running.value, running.missing) == (12, why)
    assert readings["kv_cache_usage"] == Absent(why)


async def test_starting_replica_without_samples_is_not_a_lost_target(
    opening: AdapterContext, server: PrometheusServer
) -> None:
    assert await server.query('up{case="starting"} == 0')
    assert values(await read(opening, server, "starting", preset="vllm"))["running"] == 12


async def test_past_readings_have_one_value_per_step(opening: AdapterContext, fleet: Fleet) -> None:
    quantities = ("generation_tokens_per_s", "running")
    source = await open_prometheus(
        Prometheus(url=fleet.server.url, preset="vllm", match={"case": "counting"}, read=quantities), opening
    )
    assert isinstance(source, PastSource)
    now = time.time()
    means = await source.past(quantities, now - 600, now, 4.0)
    rates = means["generation_tokens_per_s"]
    assert (len(rates), np.isnan(rates[0])) == (150, True), "no reading is known from before the server started"
    assert rates[~np.isnan(rates)][-1] == pytest.approx(1000, rel=0.2)
    assert np.isnan(means["running"]).all(), "a missing metric is not zero"
    broken = await open_prometheus(Prometheus(url=fleet.server.url, queries={"running": "sum("}), opening)
    with pytest.raises(Misconfigured, match="parse error"):
        await broken.past(("running",), now - 600, now, 4.0)


async def test_range_beyond_the_server_s_point_limit_is_read_in_parts(opening: AdapterContext, fleet: Fleet) -> None:
    async with http_front(fleet.server.url) as front:
        source = await open_prometheus(Prometheus(url=front.url, queries={"running": "time()"}), opening)
        start = float(round(time.time()) - 30_000)
        means = await source.past(("running",), start, start + 25_000, 1.0)
        assert (means["running"] == start + 1 + np.arange(25_000)).all()
        assert [path for path, _ in front.seen] == ["/api/v1/query_range"] * 3


def samples(metric: str, interval_s: int, span_s: int) -> str:
    """Return the past samples of a gauge until now, in OpenMetrics format."""
    now = int(time.time())
    times = range(now - span_s, now, interval_s)
    return "\n".join([f"# TYPE {metric} gauge", *(f"{metric} 1 {at}" for at in times), "# EOF\n"])


@pytest.mark.parametrize(
    ("interval_s", "span_s", "window_s"),
    [
        pytest.param(15, 900, 60.0, id="every 15 s"),
        pytest.param(30, 900, 120.0, id="every 30 s"),
        pytest.param(60, 900, 240.0, id="every minute"),
        pytest.param(1, 900, 60.0, id="every second: the shortest window"),
        pytest.param(15, 200, 120.0, id="scraped for less than five minutes"),
    ],
)
async def test_rate_window_follows_the_scrapes(
    opening: AdapterContext, interval_s: int, span_s: int, window_s: float
) -> None:
    past = samples("vllm:num_requests_running", interval_s, span_s)
    async with prometheus((), past=past) as server:
        spec = Prometheus(url=server.url, preset="vllm", read=("running", "requests_per_s"))
        source = await open_prometheus(spec, opening)
        windows = [values(await source.sample())["rate_window_s"] for _ in range(2)]
    assert windows == [120.0, window_s]


async def test_configured_rate_window_is_not_reported(opening: AdapterContext, server: PrometheusServer) -> None:
    readings = await read(opening, server, "recorded", preset="vllm", read=("running", "requests_per_s"), window_s=6)
    assert set(readings) == {"running", "requests_per_s"}
