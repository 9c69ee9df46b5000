"""A blast radius holds removals back, and with them the growth that was to replace what goes."""

from __future__ import annotations

import pytest

from policies.guard.blast import contain
from policies.history import History
from policies.limits import BlastRadius
from policies.model import PoolName
from policies.spec import Pool
from policies.view import Situation
from tests.factories import NOW, seen, spec

DEAR, CHEAP = PoolName("dear"), PoolName("cheap")


@pytest.mark.parametrize(
    ("held", "targets", "expected"),
    [
        pytest.param((10, 10), (8, 10), (8, 10), id="within the radius"),
        pytest.param((10, 10), (2, 10), (8, 10), id="no more goes than it leaves"),
        pytest.param((10, 10), (2, 18), (8, 12), id="a move goes as far as what is removed"),
        pytest.param((10, 10), (2, 30), (8, 24), id="growth of its own stays"),
        pytest.param((10, 10), (12, 2), (10, 8), id="whichever way it goes"),
    ],
)
def test_what_may_go_at_once(held: tuple[int, int], targets: tuple[int, int], expected: tuple[int, int]) -> None:
    pools = {"dear": Pool(price_usd_per_hour=6.0), "cheap": Pool(price_usd_per_hour=2.0)}
    workload = spec(pools=pools, blast_radius=BlastRadius(share=0.1))
    sizes = dict(zip((DEAR, CHEAP), held, strict=True))
    situation = Situation(
        workload, History(), NOW, 20.0, sum(held), True, True, "", seen({}), sizes, sizes, sum(held), ()
    )
    found = contain(dict(zip((DEAR, CHEAP), targets, strict=True)), situation)
    assert (targets if found is None else tuple(found[0].values())) == expected
