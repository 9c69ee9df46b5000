"""Figures in tables."""

from __future__ import annotations

import math

import pytest

from simulators.reporting.table import share


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "100.00%"),
        (0.999997, "99.99970%"),
        (0.9847, "98.47%"),
        (0.000064, "0.0064%"),
        (0.0, "0.00%"),
        (math.nan, "-"),
    ],
)
def test_only_a_whole_share_is_100_percent_and_only_none_is_0(value: float, text: str) -> None:
    assert share(value) == text
