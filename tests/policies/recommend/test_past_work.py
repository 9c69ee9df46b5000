"""Token rates of a history become work, by the priors or the learned models, and gaps stay gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.forecast.history_seed import HistorySeed
from policies.forecast.quantile_forecast import QuantileForecast
from policies.recommend.context import LooksFarBack
from policies.recommend.predictive.policy import Predictive
from tests.factories import CHAT_SLO, NOW, spec
from tests.policies.recommend.engines import Day, recommendation_of

DAY_S = 86_400.0
POLICY = Predictive(source="e", quantile=0.5)


def rates(rps: float | list[float]) -> dict[str, NDArray[np.float64]]:
    """Return the readings of the engines of `tests.policies.recommend.engines` at these requests per second."""
    per_s = np.atleast_1d(np.array(rps, float))
    return {"prompt_tokens_per_s": 1000.0 * per_s, "generation_tokens_per_s": 200.0 * per_s}


def work(values: Mapping[str, NDArray[np.float64]], memory: Mapping[str, float] | None = None) -> list[float]:
    result: list[float] = POLICY.past_work(values, spec(slo=CHAT_SLO), memory or {}).tolist()
    return result


def test_predictive_policy_declares_the_quantities_of_its_past() -> None:
    assert isinstance(POLICY, LooksFarBack)
    assert POLICY.past_needs() == ("prompt_tokens_per_s", "generation_tokens_per_s")
    assert set(POLICY.past_needs()) <= set(POLICY.needs())


@pytest.mark.slow
def test_learned_capacity_gives_past_work_in_current_units() -> None:
    day = Day(policy=POLICY)
    last = recommendation_of(day.run([60.0 + 5.0 * math.sin(k / 5) for k in range(200)] + [60.0] * 20)[-1])
    assert work(rates(60.0), last.memory) == pytest.approx([last.work], rel=0.02)
    assert work(rates(60.0)) != pytest.approx([last.work], rel=0.02), "the priors give other units"


def test_past_work_agrees_with_the_first_tick_before_learning() -> None:
    first = recommendation_of(Day(policy=POLICY, ready=60).tick(60.0))  # so idle that the tick itself teaches nothing
    assert work(rates(60.0), {}) == pytest.approx([first.work], rel=0.05)


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, -1.0, 1e300], ids=["nan", "inf", "-inf", "negative", "absurd"]
)
@pytest.mark.parametrize("quantity", POLICY.past_needs())
def test_invalid_token_rate_is_a_gap_in_past_work(bad: float, quantity: str) -> None:
    values = rates([60.0, 60.0, 0.0])
    values[quantity][1] = bad
    work_values = work(values)
    assert work_values[0] > 0
    assert math.isnan(work_values[1])
    assert work_values[2] == 0.0


def day_of(at: float) -> float:
    return 3.0 + 2.0 * math.sin(at / DAY_S * 2 * math.pi)


@pytest.mark.slow
def test_seeded_seasons_improve_forecasts_after_a_change_of_units() -> None:
    """The learned capacity changes and doubles all work: the shape of the days still counts."""
    seeded, cold = QuantileForecast(15.0), QuantileForecast(15.0)
    start_s = NOW + DAY_S / 2 - 15 * DAY_S
    past = HistorySeed.of(start_s, 300.0, np.array([day_of(start_s + 300.0 * (k + 0.5)) for k in range(15 * 288)]))
    past.apply(seeded)
    assert np.isnan(seeded.peaks(600.0, [0.5])).all(), "a seeded past gives no current level"
    errors: dict[str, list[float]] = {"sown": [], "cold": []}
    for k in range(8 * 240):
        t = NOW + DAY_S / 2 + 15.0 * k
        for name, outlook in (("sown", seeded), ("cold", cold)):
            outlook.note(t, 2.0 * day_of(t))
            if k > 4 * 240 and k % 20 == 0:
                errors[name].append(abs(outlook.at([1800.0], [0.5])[0, 0] / (2.0 * day_of(t + 1800.0)) - 1.0))
    assert np.mean(errors["sown"]) < 0.02
    assert np.mean(errors["sown"]) < 0.5 * np.mean(errors["cold"])
