"""Limits of scale-out and scale-in per period, from the first tick of a history on."""

from __future__ import annotations

import pytest

from policies.model.spec import ScaleDown, ScaleUp
from tests.factories import live, queue, spec, targets


@pytest.mark.parametrize(
    ("period_s", "sizes"),
    [
        pytest.param(15.0, [8, 16, 32, 64], id="a period of one turn doubles each turn"),
        pytest.param(60.0, [8, 8, 8, 8, 16], id="a period of four ticks doubles the size at each fourth tick"),
    ],
)
def test_first_period_of_a_history_is_limited_like_any_other(period_s: float, sizes: list[int]) -> None:
    rising = spec(scale_up=ScaleUp(period_s=period_s, max_replicas=1, max_share=1.0))
    assert targets(live(rising, [queue(1000)] * len(sizes), start=4)) == sizes


def test_scale_in_without_a_window_is_limited_from_the_first_tick() -> None:
    falling = spec(scale_down=ScaleDown(window_s=0.0, period_s=60.0, max_replicas=1, max_share=0.5))
    assert targets(live(falling, [queue(0)] * 5, start=16)) == [8, 8, 8, 8, 4]
