"""An engine's page: increases of counters, and a recorded page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from scaler.clouds.engines.exposition import counter_growth
from scaler.clouds.engines.metrics_page import parse_page
from tests.servers.exporter import vllm


@given(
    st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9)),
    st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9)),
)
def test_counter_growth_is_never_negative(before: dict[str, float], now: dict[str, float]) -> None:
    def series(counts: dict[str, float]) -> dict[frozenset[tuple[str, str]], float]:
        return {frozenset({("x", key)}): value for key, value in counts.items()}

    growth = counter_growth(series(before), series(now))
    assert growth.keys() == series(now).keys()
    assert all(0 <= value <= now[dict(labels)["x"]] for labels, value in growth.items())


def test_recorded_page_is_parsed_completely() -> None:
    page = parse_page(vllm({}), frozenset({"vllm:request_success_total"}), 0)
    assert sum(page.metrics["vllm:request_success_total"].values()) == 2131
    assert "vllm:cache_config_info" in page.names


LABEL_VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)
SERIES = st.dictionaries(
    st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_]{0,4}\Z"), LABEL_VALUES, max_size=4).map(
        lambda labels: frozenset(labels.items())
    ),
    st.floats(allow_nan=False),
    max_size=6,
)


@pytest.mark.slow
@given(SERIES, st.sampled_from(["", " 1700000000000"]))
def test_page_is_parsed_as_by_the_prometheus_client(
    series: dict[frozenset[tuple[str, str]], float], stamp: str
) -> None:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    def line(labels: frozenset[tuple[str, str]], value: float) -> str:
        pairs = ",".join(f'{name}="{quoted(text)}"' for name, text in labels)
        return f"x{{{pairs}}} {value!r}{stamp}"

    lines = [line(labels, value) for labels, value in series.items()]
    text = "\n".join([*lines, ""])
    families = [*text_string_to_metric_families(text)]
    expected = {frozenset(s.labels.items()): s.value for family in families for s in family.samples}
    assert parse_page(text, frozenset("x"), 0).metrics.get("x", {}) == expected == series
