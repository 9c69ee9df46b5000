"""What is made of an engine's page: counters' growth, and the recorded page itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scaler.sources.exposition import growth
from scaler.sources.metrics_page import page
from tests.servers.exporter import vllm


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
