"""Statistics of traces, compared with published and with hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.world.traffic.describe import describe, lines, rate_bins, sparkline, whole_bins
from simulators.world.traffic.plot import page
from simulators.world.traffic.readers import read
from tests.simulators.world.traffic.makers import shared, trace

TABLE = {
    # requests, span (min), rate, peak/mean 1 min, 1 s, CV of gaps, dispersion 1 min,
    # prompt mean, p50, p95, p99, max, output mean, p50, p95, p99, max
    "azure2023_code": (
        (8_819, 57, 2.57, 4.18, 26, 13.2, 164),
        (2048, 1469, 7303, 7436, 7437),
        (28, 13, 90, 251, 1899),
    ),
    "azure2023_conv": (
        (19_366, 58, 5.53, 1.52, 2.9, 1.09, 16),
        (1155, 1020, 4083, 4142, 14050),
        (211, 129, 451, 601, 1000),
    ),
    "mooncake_conversation": (
        (12_031, 59, 3.40, 1.21, 8.2, 3.0, 2.9),
        (12035, 6909, 39550, 85400, 126195),
        (343, 350, 698, 1118, 2000),
    ),
    "servegen_m-small_14d": (
        (1_262_130, 14 * 1440, 1.04, 7.0, 88, 6.9, 15),
        (107, 45, 413, 1448, 90559),
        (12, 3, 58, 125, 8192),
    ),
}
"""Published values for these files, with their rounding."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_statistics_of_recorded_traffic_match_published_ones(name: str) -> None:
    (count, span_min, rate, peak_min, peak_s, gap_cv, dispersion), prompt, output = TABLE[name]
    d = describe(read(shared(f"data/requests/{name}.csv.gz")))
    assert d.requests == count
    assert d.span_s / 60 == pytest.approx(span_min, abs=0.5)
    assert d.mean_rps == pytest.approx(rate, abs=0.005)
    assert d.peak_to_mean_1min == pytest.approx(peak_min, abs=0.05 if peak_min == 7.0 else 0.005)
    assert d.peak_to_mean_1s == pytest.approx(peak_s, abs=0.5 if peak_s > 20 else 0.05)
    assert d.gap_cv == pytest.approx(gap_cv, abs=0.005 if gap_cv == 1.09 else 0.05)
    assert d.dispersion_1min == pytest.approx(dispersion, abs=0.05 if dispersion == 2.9 else 0.5)
    assert list(d.prompt_tokens.values()) == pytest.approx(prompt, abs=0.501)
    assert list(d.output_tokens.values()) == pytest.approx(output, abs=0.501)


def test_statistics_match_hand_computed_values() -> None:
    result = trace((0, 10, 1), (30, 20, 1), (60, 30, 1), (130, 40, 1), cached_tokens=np.array([5, 0, 5, 0]))
    d = describe(result)
    assert (d.requests, d.span_s, d.mean_rps) == (4, 130.0, 4 / 130)
    assert d.peak_to_mean_1min == pytest.approx(2 / 1.5)  # 2 and 1 in the whole minutes
    assert d.dispersion_1min == pytest.approx(0.25 / 1.5)
    assert d.gap_cv == pytest.approx(np.std([30, 30, 70]) / (130 / 3))
    assert d.cached_share == 0.1
    assert d.hourly_rps is None
    assert d.clients is None


def test_statistics_of_a_trace_too_short_are_none() -> None:
    for result in (trace(), trace((5, 1, 1)), trace((5, 1, 1), (5, 1, 1))):
        d = describe(result)
        assert (d.mean_rps, d.gap_cv, d.dispersion_1min, d.hourly_rps) == (None, None, None, None)
        assert "gaps            CV -" in "\n".join(lines(d, result))


def test_hourly_rates_are_the_mean_of_whole_days() -> None:
    hours = [3.5, 24 + 3.5, 24 + 4.5, 48 + 5.5]  # the third day is not whole
    d = describe(trace(*((h * 3600, 1, 1) for h in hours)))
    assert d.hourly_rps is not None
    assert d.hourly_rps[3:6] == pytest.approx((2 / 7200, 1 / 7200, 0))


def test_clients_are_counted() -> None:
    result = trace((0, 1, 1), (1, 1, 1), (2, 1, 1), client=np.array([4, 9, 4]))
    d = describe(result)
    assert d.clients == 2
    assert d.top_client_share == pytest.approx(2 / 3)
    assert "2, the largest sends 66.7% of the requests" in "\n".join(lines(d, result))


def test_rate_bins_sum_to_the_number_of_requests() -> None:
    result = trace((0, 1, 1), (0.5, 1, 1), (2.0, 1, 1), (2.9, 1, 1))
    assert whole_bins(result.arrival_s, 1.0) == (2, 1.0, 1.0)
    far = trace((0, 1, 1), (0.2, 1, 1), (1e8 - 2, 1, 1), (1e8, 1, 1))  # 10^8 bins, all but two of them empty
    assert whole_bins(far.arrival_s, 1.0) == pytest.approx((2, 3e-8, 5e-8))
    edges, rates = rate_bins(result, 7)
    assert (rates * np.diff(edges)).sum() == pytest.approx(len(result))


def test_a_sparkline_shows_low_values_as_low_and_zero_as_blank() -> None:
    assert sparkline(np.array([0.0, 0.01, 4, 8])) == " ▁▄█"
    assert sparkline(np.zeros(3)) == "   "
    assert sparkline(np.zeros(0)) == ""


@pytest.mark.slow
def test_the_page_needs_no_network_and_does_not_grow_with_the_trace() -> None:
    small = page(trace((0, 5, 5), (1, 9, 9), name="<script>alert(1)</script>"))
    large = page(trace(*((i / 10, 1 + i % 999, 5) for i in range(20_000))))
    assert "<script>alert" not in small
    assert "&lt;script" in small or "\\u0026lt;script" in small
    assert 'src="http' not in small
    assert abs(len(large) - len(small)) < 100_000
    assert page(trace())
    assert page(trace((0, 5, 5), (1, 9, 9))) == page(trace((0, 5, 5), (1, 9, 9)))
