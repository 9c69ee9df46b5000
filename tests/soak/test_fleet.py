"""A few faults of a fleet of daemons in turn, and logs that violate its laws."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.control_plane import why_not
from tests.servers.daemons import DURATION_S, Write
from tests.soak.fleet import fleet, soak_fleet
from tests.soak.fleet_faults import QUICK
from tests.soak.fleet_laws import EVIDENCE_S, Renewal, blind_writes, not_held, overlaps, scale_ins, wrong_epochs


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not())
async def test_fleet_obeys_the_laws_under_faults(tmp_path: Path) -> None:
    async with fleet(tmp_path, seed=1) as target:
        report = await soak_fleet(target, QUICK, len(QUICK), lambda _: None)
    assert not report.problems, str(report)
    assert report.faults.total() == len(QUICK)
    assert report.writes > 0


def test_writes_of_two_writers_and_of_older_epochs_are_found() -> None:
    first = Write("a", "llm", 3, 100.0, 5)
    assert not list(wrong_epochs([first, Write("b", "llm", 4, 101.0, 6)]))
    assert "two writers" in next(wrong_epochs([first, Write("b", "llm", 3, 101.0, 6)]))
    assert "older epoch" in next(wrong_epochs([first, Write("b", "llm", 2, 101.0, 6)]))


def test_a_lease_taken_too_early_is_found() -> None:
    first = Renewal("a", 0, 3, True, 100.0, 100.1)
    early, late = (Renewal("b", 0, 4, True, at, at) for at in (99.9 + DURATION_S, 100.2 + DURATION_S))
    released = Renewal("a", 0, 3, False, 101.0, 101.1)
    assert list(overlaps([first, early]))
    assert not list(overlaps([first, late]))
    assert not list(overlaps([first, released, early]))


def test_a_write_without_the_lease_of_its_epoch_is_found() -> None:
    taken = [Renewal("a", 0, 3, True, 100.0, 100.1)]
    assert not list(not_held([Write("a", "llm", 3, 100.5, 5)], taken, {"llm": 0}))
    for wrong in (Write("b", "llm", 3, 100.5, 5), Write("a", "llm", 4, 100.5, 5), Write("a", "llm", 3, 99.0, 5)):
        assert list(not_held([wrong], taken, {"llm": 0}))


def test_a_scale_in_without_an_answer_of_the_source_is_found() -> None:
    out, into = Write("a", "llm", 3, 100.0, 5), Write("a", "llm", 3, 120.0, 4)
    assert not list(blind_writes([out, into], {"llm": [99.0, 119.0]}))
    assert list(blind_writes([out, into], {"llm": [99.0, 119.9 - EVIDENCE_S]}))
    assert not list(blind_writes([out, Write("a", "llm", 3, 120.0, 6)], {"llm": [99.0]}))
    assert list(scale_ins([out, into, Write("a", "other", 3, 121.0, 4)])) == [into]
    assert list(blind_writes([out, into], {}))
