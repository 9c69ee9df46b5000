"""Means and late shares from engines' own pages: exactness, restarts, upgrades and missing pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest

from policies.model import Absent, Fresh
from scaler.config.kinds.engines import Scrape
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.scrape import ScrapeSource, open_scrape
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.exporter import Engine, Exporter, State, exporter, histogram, vllm

TTFT: Final = "vllm:time_to_first_token_seconds"
REQUESTS: Final = "vllm:request_time_per_output_token_seconds"
GAPS: Final = "vllm:inter_token_latency_seconds"
OLD_GAPS: Final = "vllm:time_per_output_token_seconds"
SLO_LIMITS: Final = {"ttft_s": 1.0, "itl_s": 0.05}
MEANS_AND_LATE: Final = ("ttft_mean_s", "ttft_late_share", "itl_mean_s", "itl_late_share")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
async def resources() -> AsyncIterator[Resources]:
    async with Resources() as resources:
        yield resources


async def second_sample(
    resources: Resources,
    clock: ManualClock,
    pages: Exporter,
    now: Mapping[str, str],
    slo_limits_s: Mapping[str, float] = SLO_LIMITS,
    **fields: Any,
) -> Mapping[str, Any]:
    """Return the second sample of engines that show `now`, ten seconds after the first sample."""
    source = await opened(resources, clock, pages, slo_limits_s, **fields)
    await source.sample()
    for name, text in now.items():
        pages.engines[name].page = text
    clock.advance(10)
    return await source.sample()


async def opened(
    resources: Resources, clock: ManualClock, pages: Exporter, slo_limits_s: Mapping[str, float], **fields: Any
) -> ScrapeSource:
    urls = tuple(pages.url(name) for name in pages.engines)
    spec = Scrape(urls=urls, **{"preset": "vllm", "read": ("ttft_mean_s", "ttft_late_share"), **fields})
    return await open_scrape(spec, AdapterContext(resources, clock, DEADLINE_S, slo_limits_s))


def first_tokens(*, total_s: float, counts: Mapping[str, float]) -> str:
    return histogram(TTFT, counts, total_s)


NONE_YET = first_tokens(total_s=0, counts={"0.5": 0, "1.0": 0, "2.5": 0, "+Inf": 0})
TEN = first_tokens(total_s=8, counts={"0.5": 3, "1.0": 8, "2.5": 9, "+Inf": 10})


async def test_recorded_engine_has_means_and_late_shares(resources: Resources, clock: ManualClock) -> None:
    async with exporter({"a": Engine(zeroed(vllm({})))}) as pages:
        read = await second_sample(resources, clock, pages, {"a": vllm({})}, read=MEANS_AND_LATE)
    assert read == {
        "ttft_mean_s": Fresh(pytest.approx(2210.5642309188843 / 2131), 1010),
        "ttft_late_share": Fresh(pytest.approx((2131 - 1448) / 2131), 1010),
        "itl_mean_s": Fresh(pytest.approx(33.779603175732476 / 2131), 1010),
        "itl_late_share": Fresh(pytest.approx((2131 - 2104) / 2131), 1010),
    }, "ITL is a request's mean time per token, not a single gap"


async def test_engine_without_request_means_reports_token_gap_means_only(
    resources: Resources, clock: ManualClock
) -> None:
    text = "".join(line for line in vllm({}).splitlines(keepends=True) if not line.startswith(REQUESTS))
    async with exporter({"a": Engine(zeroed(text))}) as pages:
        read = await second_sample(resources, clock, pages, {"a": text}, read=MEANS_AND_LATE)
    assert read["itl_mean_s"] == Fresh(pytest.approx(4961.558566340948 / 323750), 1010)
    assert read["itl_late_share"] == Absent(f"1 of 1 engines do not export {REQUESTS}_bucket")


@pytest.mark.parametrize(
    ("slo_s", "share"),
    [
        pytest.param(1.0, 0.2, id="a-bound"),
        pytest.param(0.75, 1 - 0.55, id="between-two"),
        pytest.param(0.25, 1 - 0.15, id="below-the-first"),
        pytest.param(60.0, 0.1, id="above-the-last"),
    ],
)
async def test_late_share_is_the_share_above_the_slo(
    resources: Resources, clock: ManualClock, slo_s: float, share: float
) -> None:
    async with exporter({"a": Engine(NONE_YET)}) as pages:
        read = await second_sample(resources, clock, pages, {"a": TEN}, {"ttft_s": slo_s})
    assert read == {"ttft_mean_s": Fresh(0.8, 1010), "ttft_late_share": Fresh(pytest.approx(share), 1010)}


async def test_replicas_are_weighted_by_requests(resources: Resources, clock: ManualClock) -> None:
    busy = first_tokens(total_s=90, counts={"0.5": 0, "1.0": 0, "2.5": 30, "+Inf": 30})
    async with exporter({"a": Engine(NONE_YET), "b": Engine(NONE_YET)}) as pages:
        read = await second_sample(resources, clock, pages, {"a": TEN, "b": busy})
    assert read["ttft_mean_s"] == Fresh(pytest.approx(98 / 40), 1010)
    assert read["ttft_late_share"] == Fresh(pytest.approx(32 / 40), 1010)


async def test_ranks_of_an_engine_are_weighted_by_requests(resources: Resources, clock: ManualClock) -> None:
    ranks = TEN + histogram(TTFT, {"0.5": 0, "1.0": 0, "2.5": 30, "+Inf": 30}, 90, rank=1)
    async with exporter({"a": Engine(zeroed(ranks))}) as pages:
        read = await second_sample(resources, clock, pages, {"a": ranks})
    assert read["ttft_mean_s"] == Fresh(pytest.approx(98 / 40), 1010)
    assert read["ttft_late_share"] == Fresh(pytest.approx(32 / 40), 1010)


async def test_late_share_without_an_slo_is_absent(resources: Resources, clock: ManualClock) -> None:
    async with exporter({"a": Engine(NONE_YET)}) as pages:
        read = await second_sample(resources, clock, pages, {"a": TEN}, {"itl_s": 0.05})
    assert read["ttft_mean_s"] == Fresh(0.8, 1010)
    assert read["ttft_late_share"] == Absent("there is no share of late requests because slo.ttft_s is not set")


async def test_mean_and_late_share_without_observations_are_absent(resources: Resources, clock: ManualClock) -> None:
    async with exporter({"a": Engine(TEN)}) as pages:
        read = await second_sample(resources, clock, pages, {})
    assert set(read.values()) == {Absent("no observations between the last two samples")}


async def test_single_sample_is_absent(resources: Resources, clock: ManualClock) -> None:
    async with exporter({"a": Engine(TEN)}) as pages:
        read = await (await opened(resources, clock, pages, SLO_LIMITS)).sample()
    assert set(read.values()) == {Absent("1 of 1 engines have one sample so far, and this needs two")}


async def test_restarted_engine_resets_its_sum_and_count(resources: Resources, clock: ManualClock) -> None:
    slow = first_tokens(total_s=8, counts={"0.5": 0, "1.0": 0, "2.5": 0, "+Inf": 2})
    restarted = first_tokens(total_s=0.9, counts={"0.5": 3, "1.0": 3, "2.5": 3, "+Inf": 3})
    async with exporter({"a": Engine(slow)}) as pages:
        read = await second_sample(resources, clock, pages, {"a": restarted})
    assert read["ttft_mean_s"] == Fresh(pytest.approx(0.3), 1010), (
        "the growth of the count from 2 to 3 is not an observation"
    )


async def test_a_restarted_engine_counts_from_zero(resources: Resources, clock: ManualClock) -> None:
    async with exporter({"a": Engine(zeroed(vllm({}), 5000))}) as pages:
        read = await second_sample(resources, clock, pages, {"a": TEN})
    assert read == {"ttft_mean_s": Fresh(0.8, 1010), "ttft_late_share": Fresh(pytest.approx(0.2), 1010)}


@pytest.mark.parametrize("state", [State.DOWN, State.GARBAGE])
async def test_mean_and_late_share_with_a_failed_replica_are_absent(
    resources: Resources, clock: ManualClock, state: State
) -> None:
    async with exporter({"a": Engine(NONE_YET), "b": Engine(NONE_YET)}) as pages:
        source = await opened(resources, clock, pages, SLO_LIMITS)
        await source.sample()
        pages.engines["a"].page, pages.engines["b"].state = TEN, state
        clock.advance(10)
        read = await source.sample()
    assert [type(reading) for reading in read.values()] == [Absent, Absent]
    assert all("1 of 2 engines did not respond" in str(reading) for reading in read.values())


async def test_a_replica_counts_under_its_first_available_name(resources: Resources, clock: ManualClock) -> None:
    """During an upgrade, requests' means count first, and gaps only for a replica without them."""
    new = {"0.01": 6, "0.05": 8, "+Inf": 8}
    gaps = {"0.01": 0, "0.02": 300, "0.05": 300, "+Inf": 400}
    old = {"0.01": 0, "0.05": 2, "+Inf": 12}
    upgraded = histogram(REQUESTS, new, 0.08) + histogram(GAPS, gaps, 100)
    async with exporter({"a": Engine(zeroed(upgraded)), "b": Engine(zeroed(histogram(OLD_GAPS, old, 0.6)))}) as pages:
        now = {"a": upgraded, "b": histogram(OLD_GAPS, old, 0.6)}
        read = await second_sample(resources, clock, pages, now, read=("itl_mean_s", "itl_late_share", "itl_p95_s"))
    assert read["itl_mean_s"] == Fresh(pytest.approx(0.68 / 20), 1010)
    assert read["itl_late_share"] == Absent(f"1 of 2 engines do not export {REQUESTS}_bucket"), (
        "of token gaps a larger share is late"
    )
    assert read["itl_p95_s"] == Fresh(0.05, 1010)


async def test_milliseconds_are_read_in_seconds(resources: Resources, clock: ManualClock) -> None:
    name = "nv_inference_first_response_histogram_ms"
    text = histogram(name, {"100": 1, "500": 5, "2000": 9, "5000": 10, "+Inf": 10}, 6500)
    fields: dict[str, Any] = {"preset": "triton", "read": ("ttft_mean_s", "ttft_late_share", "ttft_p95_s")}
    async with exporter({"a": Engine(zeroed(text))}) as pages:
        exact = await second_sample(resources, clock, pages, {"a": text}, {"ttft_s": 2.0}, **fields)
        pages.engines["a"].page = zeroed(text)
        between = await second_sample(resources, clock, pages, {"a": text}, {"ttft_s": 1.25}, **fields)
    assert exact["ttft_mean_s"] == Fresh(pytest.approx(0.65), 1010)
    assert exact["ttft_late_share"] == Fresh(pytest.approx(0.1), 1010)
    assert exact["ttft_p95_s"] == Fresh(pytest.approx(3.5), 1010)
    assert between["ttft_late_share"] == Fresh(pytest.approx(0.3), 1020)


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("vllm", "vllm:e2e_request_latency_seconds"),
        ("sglang", "sglang:e2e_request_latency_seconds"),
        ("tgi", "tgi_request_duration"),
    ],
)
async def test_end_to_end_latency_is_read(resources: Resources, clock: ManualClock, preset: str, name: str) -> None:
    """Of ten requests, two took longer than 30 s, which is a bound of the histogram."""
    text = histogram(name, {"10": 5, "30": 8, "60": 10, "+Inf": 10}, 150)
    fields: dict[str, Any] = {"preset": preset, "read": ("e2e_mean_s", "e2e_late_share", "e2e_p95_s")}
    async with exporter({"a": Engine(zeroed(text))}) as pages:
        read = await second_sample(resources, clock, pages, {"a": text}, {"e2e_s": 30.0}, **fields)
    assert read["e2e_mean_s"] == Fresh(pytest.approx(15.0), 1010)
    assert read["e2e_late_share"] == Fresh(pytest.approx(0.2), 1010)
    assert read["e2e_p95_s"] == Fresh(pytest.approx(52.5), 1010)


@pytest.mark.parametrize("line", ['le="fast"} 3', 'le="NaN"} 3', 'le="1.0"} NaN', 'engine="0"} 3'])
async def test_invalid_buckets_are_absent(resources: Resources, clock: ManualClock, line: str) -> None:
    async with exporter({"a": Engine(NONE_YET)}) as pages:
        read = await second_sample(resources, clock, pages, {"a": TEN + f"{TTFT}_bucket{{{line}\n"})
    late = read["ttft_late_share"]
    assert isinstance(late, Absent)
    assert late.reason.startswith(f"{TTFT}_bucket is not a valid histogram: bucket")


async def test_mean_without_a_count_is_absent(resources: Resources, clock: ManualClock) -> None:
    def bare(text: str) -> str:
        return "".join(line for line in text.splitlines(keepends=True) if "_count" not in line)

    async with exporter({"a": Engine(bare(NONE_YET))}) as pages:
        read = await second_sample(resources, clock, pages, {"a": bare(TEN)})
    assert read["ttft_mean_s"] == Absent(f"1 of 1 engines do not export {TTFT}_sum or {TTFT}_count")
    assert read["ttft_late_share"] == Fresh(pytest.approx(0.2), 1010)


def zeroed(text: str, value: float = 0) -> str:
    """Return a page whose series all have this value."""
    lines = (line if line.startswith("#") else f"{line.rpartition(' ')[0]} {value}" for line in text.splitlines())
    return "\n".join([*lines, ""])
