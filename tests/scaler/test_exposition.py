"""What is made of an engine's page: counters' growth, quantiles, and the recorded page itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.sources.exposition import growth, page, quantile
from tests.servers.exporter import vllm


@pytest.mark.parametrize(
    ("share", "buckets", "value"),
    [
        (0.95, {1.0: 9, 2.5: 10, math.inf: 10}, 1.75),
        (0.95, {1.0: 10, math.inf: 10}, 0.95),
        (0.95, {1.0: 1, math.inf: 10}, 1.0),
        (0.5, {-1.0: 5, 1.0: 10, math.inf: 10}, -1.0),
        (0.95, {1.0: 0, math.inf: 0}, None),
        (0.95, {math.inf: 10}, None),
        (0.95, {}, None),
    ],
)
def test_quantiles_are_promqls(share: float, buckets: Mapping[float, float], value: float | None) -> None:
    assert quantile(share, buckets) == (None if value is None else pytest.approx(value))


@given(
    st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9)),
    st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9)),
)
def test_counters_never_grow_backwards(before: dict[str, float], now: dict[str, float]) -> None:
    def series(counts: dict[str, float]) -> dict[frozenset[tuple[str, str]], float]:
        return {frozenset({("x", key)}): value for key, value in counts.items()}

    grown = growth(series(before), series(now))
    assert grown.keys() == series(now).keys()
    assert all(0 <= value <= now[dict(labels)["x"]] for labels, value in grown.items())


def test_the_recorded_page_is_read_whole() -> None:
    shown = page(vllm({}), frozenset({"vllm:request_success_total"}), 0)
    assert sum(shown.metrics["vllm:request_success_total"].values()) == 2131
    assert "vllm:cache_config_info" in shown.names
