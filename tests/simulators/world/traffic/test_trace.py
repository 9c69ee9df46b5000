"""Traces: rejected values, and the laws of windows, speed, thinning and joining."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.world.traffic.trace import MAX_TOKENS, RequestTrace, TraceError, joined
from tests.laws import law
from tests.simulators.world.traffic.makers import rows_of, trace

LAW = law(60)
FIVE = trace((0, 10, 1), (1, 20, 2), (1, 30, 3), (4, 40, 4), (9, 50, 5))


@st.composite
def traces(draw: st.DrawFn) -> RequestTrace:
    gaps = draw(st.lists(st.floats(0, 100), max_size=30))
    count = len(gaps)
    tokens = st.lists(st.integers(1, MAX_TOKENS), min_size=count, max_size=count)
    return RequestTrace(np.cumsum(np.array(gaps)), np.array(draw(tokens), int), np.array(draw(tokens), int))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"arrival_s": [1.0, 0.0]}, "not sorted", id="out of order"),
        pytest.param({"arrival_s": [-1.0, 0.0]}, "within 0 to", id="before the start"),
        pytest.param({"arrival_s": [0.0, np.nan]}, "not finite", id="no number"),
        pytest.param({"arrival_s": [0.0, 1e9]}, "within 0 to", id="a time of day"),
        pytest.param({"arrival_s": [[0.0, 1.0]]}, "2 dimensions", id="a table"),
        pytest.param({"prompt_tokens": [0, 1]}, "prompt_tokens must lie within 1", id="an empty prompt"),
        pytest.param({"output_tokens": [1, 2**32 + 1]}, "output_tokens must lie within", id="more than 32 bits hold"),
        pytest.param({"output_tokens": [1]}, "1 values for 2 requests", id="a short column"),
        pytest.param({"cached_tokens": [0, 20]}, "below prompt_tokens", id="nothing left to compute"),
        pytest.param({"client": [0, -1]}, "client must lie within 0", id="a negative client"),
    ],
)
def test_invalid_trace_columns_are_rejected(columns: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"arrival_s": [0.0, 1.0], "prompt_tokens": [10, 20], "output_tokens": [1, 2]}
    assert len(RequestTrace(**good)) == 2
    with pytest.raises(TraceError, match=message):
        RequestTrace(**{**good, **{k: np.array(v) for k, v in columns.items()}})


def test_a_trace_is_read_only_and_leaves_the_callers_array_writeable() -> None:
    array = np.array([0.0, 1.0])
    result = RequestTrace(array, np.array([1, 1]), np.array([1, 1]))
    with pytest.raises(ValueError, match="read-only"):
        result.arrival_s[0] = 5.0
    array[0] = 0.5
    assert array.flags.writeable


def test_a_request_takes_24_bytes() -> None:
    count = 120_000
    ones = np.ones(count, np.int32)
    result = RequestTrace(np.zeros(count), ones * 2, ones, ones, ones)
    columns = (result.arrival_s, result.prompt_tokens, result.output_tokens, result.cached_tokens, result.client)
    assert sum(c.nbytes for c in columns if c is not None) == 24 * count


def test_a_trace_can_be_pickled() -> None:
    sent = pickle.loads(pickle.dumps(trace((0, 9, 1), cached_tokens=np.array([5]), repairs={"sorted": 1})))  # noqa: S301
    assert sent.digest() == trace((0, 9, 1), cached_tokens=np.array([5])).digest()
    assert sent.repairs == {"sorted": 1}


def test_a_window_starts_at_zero_and_excludes_its_end() -> None:
    assert rows_of(FIVE.window(1, 9)) == [(0, 20, 2), (0, 30, 3), (3, 40, 4)]
    assert rows_of(FIVE.between(1, 9)) == [(1, 20, 2), (1, 30, 3), (4, 40, 4)]
    with pytest.raises(TraceError, match="window 5 to 5"):
        FIVE.window(5, 5)


@LAW
@given(traces(), st.floats(0, 3000), st.floats(0, 3000))
def test_adjacent_windows_contain_each_request_once(result: RequestTrace, first_cut: float, second_cut: float) -> None:
    first, second = sorted((first_cut, second_cut))
    parts = [result.between(0, first), result.between(first, second), result.between(second, 1e9)]
    assert joined(parts, "parts").digest() == result.digest()


@LAW
@given(traces(), st.floats(0.01, 100))
def test_speed_keeps_requests_and_divides_time(result: RequestTrace, factor: float) -> None:
    faster = result.speed(factor)
    assert faster.prompt_tokens.tolist() == result.prompt_tokens.tolist()
    np.testing.assert_allclose(faster.arrival_s * factor, result.arrival_s, atol=1e-9)


@LAW
@given(traces(), st.integers(1, 5), st.integers(0, 9))
def test_an_integer_scale_multiplies_every_request(result: RequestTrace, factor: int, seed: int) -> None:
    scaled = result.scale(factor, np.random.default_rng(seed))
    assert sorted(scaled.prompt_tokens.tolist()) == sorted(result.prompt_tokens.tolist() * factor)
    assert scaled.duration_s <= result.duration_s + 1


def test_scale_and_thin_keep_their_share_on_average() -> None:
    count = 20_000
    many = RequestTrace(np.arange(count) / 10, np.full(count, 5), np.full(count, 5))
    for factor in (0.25, 1.6, 2.5):
        rng = np.random.default_rng(4)
        kept_share = len(many.scale(factor, rng)) / count
        assert kept_share == pytest.approx(factor, abs=5 * (factor % 1 * (1 - factor % 1) / count) ** 0.5)
    assert len(many.thin(0.0, np.random.default_rng(1))) == 0
    assert len(many.thin(1.0, np.random.default_rng(1))) == count


def test_the_digest_depends_on_the_traffic_and_not_on_names() -> None:
    assert FIVE.digest() == trace(*rows_of(FIVE), name="other", origin="elsewhere").digest()
    digests = {FIVE.digest(), FIVE.speed(2).digest(), FIVE.sent_by(0).digest(), FIVE.window(0, 9).digest()}
    assert len(digests) == 4
    assert trace((0.5, 7, 3)).digest() == "3a20dd48024f7600977dc322f7878e03042629990cd773f39ae911175ee5b359"


def test_joined_traces_keep_common_columns_and_sum_their_repairs() -> None:
    first = trace((0, 1, 1), (5, 2, 2), repairs={"sorted": 2, "none": 0}).sent_by(3)
    second = trace((1, 3, 3), repairs={"sorted": 1})
    assert joined([first, second], "both").client is None
    both = joined([first, second.sent_by(4), trace()], "both")
    assert both.client is not None
    assert both.client.tolist() == [3, 4, 3]
    assert both.repairs == {"sorted": 3}
    assert len(joined([], "nothing")) == 0


def test_a_joined_trace_without_cached_tokens_counts_zero_hits() -> None:
    hits = joined([trace((0, 9, 1), cached_tokens=np.array([5])), trace((1, 9, 1))], "both").cached_tokens
    assert hits is not None
    assert hits.tolist() == [5, 0]
