"""Capacity over time: valid and invalid traces, steps, and outages with the availability of the renewal theorem."""

from __future__ import annotations

import json
import math
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulators.world.infrastructure.node_lifecycle import Phase
from simulators.world.infrastructure.supply import (
    Outages,
    SupplyStep,
    SupplyTrace,
    read,
    replayed,
    stepped,
    with_outages,
)
from simulators.world.infrastructure.units import to_ps
from simulators.world.rng import stream


def write_supply(folder: Path, content: Any) -> Path:
    (folder / "zone.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def seconds(supply: Any, count: int = 100) -> list[tuple[float, int | None]]:
    return [(at_ps / 1e12, n) for at_ps, n in islice(supply, count)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"repeat": False}, [(0, 2), (600, 0), (900, 4)]),
        ({"repeat": False, "start_s": 300}, [(0, 2), (300, 0), (600, 4)]),
        ({"repeat": False, "start_s": 450.5}, [(0, 2), (149.5, 0), (449.5, 4)]),
        ({"repeat": False, "start_s": 900}, [(0, 4)]),
        ({"repeat": False, "scale": 0.5}, [(0, 1), (600, 0), (900, 2)]),
        ({"repeat": False, "scale": 0.3}, [(0, 0), (900, 1)]),
        ({}, [(0, 2), (600, 0), (900, 4), (1200, 2), (1800, 0)]),
        ({"start_s": 1200}, [(0, 2), (600, 0), (900, 4), (1200, 2), (1800, 0)]),
    ],
    ids=["whole", "offset", "within a gap", "last value", "scaled", "parts dropped", "repeats", "starts in a repeat"],
)
def test_a_supply_trace_yields_its_capacity_changes(
    tmp_path: Path, settings: dict[str, Any], expected: list[tuple[float, int]]
) -> None:
    folder = write_supply(tmp_path, {"metadata": {"gap_seconds": 300}, "data": [2, 2, 0, 4]})
    assert seconds(replayed(SupplyTrace(file="zone.json", **settings), folder), len(expected)) == expected


def test_a_constant_trace_yields_one_change_even_if_it_repeats(tmp_path: Path) -> None:
    folder = write_supply(tmp_path, {"metadata": {"gap_seconds": 300}, "data": [3, 3]})
    assert seconds(replayed(SupplyTrace(file="zone.json"), folder)) == [(0, 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ([1, 2], "metadata is missing"),
        ({"data": [1]}, "metadata is missing"),
        ({"metadata": {}, "data": [1]}, "metadata.gap_seconds is missing"),
        ({"metadata": {"gap_seconds": 0}, "data": [1]}, "metadata.gap_seconds is 0: must be"),
        ({"metadata": {"gap_seconds": "5"}, "data": [1]}, "metadata.gap_seconds is '5': must be"),
        ({"metadata": {"gap_seconds": 300}}, "data is missing"),
        ({"metadata": {"gap_seconds": 300}, "data": []}, "data must be a non-empty list"),
        ({"metadata": {"gap_seconds": 300}, "data": [1, -1]}, r"data\[1\] is -1: must be"),
        ({"metadata": {"gap_seconds": 300}, "data": [1, None]}, r"data\[1\] is None: must be"),
        ({"metadata": {"gap_seconds": 300}, "data": [1.5]}, r"data\[0\] is 1.5: must be"),
        ({"metadata": {"gap_seconds": 300}, "data": [True]}, r"data\[0\] is True: must be"),
    ],
)
def test_an_invalid_supply_trace_is_rejected_with_file_key_and_value(
    tmp_path: Path, content: Any, message: str
) -> None:
    folder = write_supply(tmp_path, content)
    with pytest.raises(ValueError, match=rf"zone\.json: .*{message}"):
        read(folder / "zone.json")


def test_a_missing_supply_trace_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json: cannot be read"):
        replayed(SupplyTrace(file="none.json"), tmp_path)


def test_a_start_after_the_end_is_rejected_unless_the_trace_repeats(tmp_path: Path) -> None:
    folder = write_supply(tmp_path, {"metadata": {"gap_seconds": 300}, "data": [1, 2]})
    with pytest.raises(ValueError, match="start_s 600 is after the end of the trace at 600 s"):
        replayed(SupplyTrace(file="zone.json", start_s=600, repeat=False), folder)


def test_steps_follow_the_capacity_at_the_start() -> None:
    assert seconds(stepped(5, [SupplyStep(at_s=10, nodes=2)])) == [(0, 5), (10, 2)]
    assert seconds(stepped(None, [SupplyStep(at_s=0, nodes=2)])) == [(0, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "outages",
    [Outages(), Outages(up=Phase(median_s=600, sigma=0.5), down=Phase(median_s=1800, sigma=1.0))],
    ids=["the default", "mostly down"],
)
def test_zone_availability_matches_the_renewal_theorem(outages: Outages) -> None:
    """E[up] / (E[up] + E[down]), inside the 99.9 % interval of the ratio estimator over 40,000 cycles."""
    cycles = 40_000
    times = [at for at, _ in islice(with_outages(4, outages, stream(5, "outages", "z")), 2 * cycles + 1)]
    lengths = np.array([b - a for a, b in pairwise(times)]).reshape(cycles, 2) / 1e12
    up, whole = lengths[:, 0], lengths.sum(axis=1)
    share = up.sum() / whole.sum()
    half_width = 3.29 * (up - share * whole).std() / whole.mean() / math.sqrt(cycles)
    assert half_width < 0.02
    assert share == pytest.approx(outages.availability, abs=half_width)


def test_the_default_outages_have_the_measured_availability() -> None:
    assert Outages().availability == pytest.approx(0.64)


def test_an_outage_removes_all_nodes_and_restores_them() -> None:
    changes = list(islice(with_outages(4, Outages(), stream(5, "outages", "z")), 6))
    assert [n for _, n in changes] == [4, 0, 4, 0, 4, 0]
    assert all(a < b and b % to_ps(0.001) == 0 for (a, _), (b, _) in pairwise(changes))
