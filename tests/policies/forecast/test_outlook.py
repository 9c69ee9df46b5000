"""What an outlook promises, whatever it is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policies.forecast.outlook import Outlook

START = 1_700_000_000.0
STEP_S = 15.0


def watched(values: list[float | None], step_s: float = STEP_S) -> Outlook:
    outlook = Outlook(step_s)
    for i, value in enumerate(values):
        outlook.note(START + step_s * i, value)
    return outlook


def test_before_the_first_observation_nothing_is_claimed() -> None:
    said = Outlook(STEP_S).peak(300, 0.9)
    assert math.isnan(said.value)
    assert said.sure == 0.0
    assert said.leader == "reactive"


def test_a_cold_start_is_reactive_and_says_so() -> None:
    said = watched([2.0, 2.0]).peak(300, 0.9)
    assert said.leader == "reactive"
    assert "too little was seen" in said.reason
    assert said.value >= 2.0
    assert said.sure < 0.5


@pytest.mark.parametrize("bad", [-1.0, math.inf, -math.inf])
def test_impossible_values_are_refused_at_the_door(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        Outlook(STEP_S).note(START, bad)


def test_asking_changes_nothing() -> None:
    values = list(np.random.default_rng(1).poisson(20, 300) / 10.0)
    quiet, asked = Outlook(STEP_S), Outlook(STEP_S)
    for i, value in enumerate(values):
        for outlook in (quiet, asked):
            outlook.note(START + STEP_S * i, value)
        first = asked.peak(90, 0.9)
        assert asked.peak(90, 0.9) == first
        asked.at([60, 300], [0.5, 0.9])
    assert asked.peak(300, 0.95) == quiet.peak(300, 0.95)
