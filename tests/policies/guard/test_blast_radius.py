"""A blast radius cancels removals, and the growth that would replace them."""

from __future__ import annotations

import dataclasses

import pytest

from policies.guard.blast_radius import limit_blast_radius, removable
from policies.history.ticks import History
from policies.model import Grant, PoolName, Quota
from policies.model.limits import BlastRadius
from policies.model.pool import Pool
from policies.recommend.context import RuleContext
from tests.factories import NOW, seen, spec
from tests.policies.guard.states import history_of

EXPENSIVE, CHEAP = PoolName("dear"), PoolName("cheap")
Sizes = tuple[int, int]


@pytest.mark.parametrize(
    ("desired", "targets", "expected"),
    [
        pytest.param((10, 10), (8, 10), (8, 10), id="within the radius"),
        pytest.param((10, 10), (2, 10), (8, 10), id="no more goes than it leaves"),
        pytest.param((10, 10), (2, 18), (8, 12), id="a move goes as far as what is removed"),
        pytest.param((10, 10), (2, 30), (8, 24), id="growth of its own stays"),
        pytest.param((10, 10), (12, 2), (10, 8), id="whichever way it goes"),
    ],
)
def test_blast_radius_limits_removals_and_their_replacements(
    desired: tuple[int, int], targets: tuple[int, int], expected: tuple[int, int]
) -> None:
    pools = {"dear": Pool(price_usd_per_hour=6.0), "cheap": Pool(price_usd_per_hour=2.0)}
    workload = spec(pools=pools, blast_radius=BlastRadius(share=0.1))
    sizes = dict(zip((EXPENSIVE, CHEAP), desired, strict=True))
    context = RuleContext(
        workload, History(), NOW, 20.0, sum(desired), True, True, "", seen({}), sizes, sizes, sum(desired), ()
    )
    result = limit_blast_radius(dict(zip((EXPENSIVE, CHEAP), targets, strict=True)), context)
    assert (targets if result is None else tuple(result[0].values())) == expected


@pytest.mark.parametrize(
    ("quanta", "desired", "targets", "removed", "expected"),
    [
        pytest.param((1, 4), (10, 12), (7, 8), 0, (8, 12), id="another pool's quantum is not granted to one with less"),
        pytest.param((1, 4), (10, 12), (7, 12), 0, (8, 12), id="nor where the other does not shrink"),
        pytest.param((4, 4), (12, 12), (4, 4), 0, (8, 12), id="a quantum of one pool where the share is less"),
        pytest.param((4, 4), (12, 12), (4, 4), 1, (12, 12), id="and none where something went already"),
        pytest.param((8, 4), (8, 12), (0, 4), 0, (0, 12), id="the most expensive pool's, however large"),
        pytest.param((4, 1), (11, 10), (5, 10), 0, (8, 10), id="a size between two multiples goes to the next one"),
        pytest.param((4, 1), (10, 10), (5, 10), 0, (8, 10), id="a part of a quantum found goes where it fits"),
    ],
)
@pytest.mark.parametrize("of_the_fleet", [False, True], ids=["the workload's", "the fleet's"])
def test_blast_radius_below_a_quantum_allows_one_quantum_of_one_pool(
    quanta: Sizes, desired: Sizes, targets: Sizes, removed: int, expected: Sizes, of_the_fleet: bool
) -> None:
    pools = {
        "dear": Pool(price_usd_per_hour=6.0, quantum=quanta[0]),
        "cheap": Pool(price_usd_per_hour=2.0, quantum=quanta[1]),
    }
    radius, total = BlastRadius(share=0.1), sum(desired)
    workload = spec(pools=pools, blast_radius=BlastRadius() if of_the_fleet else radius)
    left = removable(radius, total + removed, removed)
    grant = Grant(removable=Quota(left, "the fleet's"), removed=removed) if of_the_fleet else None
    observation = dataclasses.replace(seen({}), grant=grant)
    sizes = dict(zip((EXPENSIVE, CHEAP), desired, strict=True))
    history = history_of([total + removed, total])
    context = RuleContext(workload, history, NOW, 20.0, total, True, True, "", observation, sizes, sizes, total, ())
    result = limit_blast_radius(dict(zip((EXPENSIVE, CHEAP), targets, strict=True)), context)
    assert (targets if result is None else tuple(result[0].values())) == expected
