"""Grants of shared limits: minimums, priorities, equal workloads, and free amounts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from policies.history.ticks import History
from policies.model import PoolName, WorkloadName
from policies.model.limits import BlastRadius, Budget, Override
from policies.model.names import RouteName
from policies.model.pool import Pool
from policies.model.route_spec import Overflow
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.quota.fleet_quota import FleetLimits, fair_share, grant
from policies.quota.resource_claims import ResourceClaim, ResourceClaims, claim, need
from policies.recommend.peers.static import Static
from policies.recommend.threshold import QueueDepth
from tests.factories import queue, seen, spec
from tests.policies.route.builders import route

ME = WorkloadName("me")


def claim_of(n: int, needs: float | None = None, priority: int = 0, minimum: int = 0, gpus: int = 1) -> ResourceClaim:
    """Return the claim of a workload that holds `n` replicas and needs as many by default."""
    workload = spec(pools={"main": Pool(gpus_per_replica=gpus)}, priority=priority, min_replicas=minimum)
    return claim(workload, {PoolName("main"): n}, needs)


def partly_read_claim(known: int, maximum: int) -> ResourceClaim:
    """Return the claim of a workload with `known` replicas in one pool, and another that was never read."""
    pools = {"main": Pool(), "unread": Pool()}
    return claim(spec(pools=pools, max_replicas=maximum), None, None, {PoolName("main"): known})


def max_gpus(limit: int, me: ResourceClaim, *others: ResourceClaim) -> float:
    claims = {WorkloadName(f"other-{i}"): c for i, c in enumerate(others)}
    quota = grant(FleetLimits(max_gpus=limit), ME, ResourceClaims({ME: me, **claims})).gpus
    assert quota is not None
    return quota.most


@pytest.mark.parametrize(
    ("limit", "me", "others", "expected"),
    [
        pytest.param(10, claim_of(2), [], 10, id="alone, all of it"),
        pytest.param(10, claim_of(2), [claim_of(5)], 5, id="what others hold is taken"),
        pytest.param(10, claim_of(2), [claim_of(5, minimum=6)], 4, id="another's minimum is kept for it"),
        pytest.param(10, claim_of(2), [claim_of(5, needs=7, priority=1)], 3, id="a higher one's need is kept for it"),
        pytest.param(10, claim_of(2), [claim_of(5, needs=7, priority=-1)], 5, id="a lower one's need is not"),
        pytest.param(10, claim_of(6), [claim_of(4, needs=9, priority=1)], 1, id="a lower one gives way to it"),
        pytest.param(10, claim_of(6, minimum=3), [claim_of(4, needs=9, priority=1)], 3, id="but for its minimum"),
        pytest.param(
            10, claim_of(4, priority=1), [claim_of(6, needs=6)], 4, id="the higher one waits for what is free"
        ),
        pytest.param(10, claim_of(6), [claim_of(4, needs=9)], 6, id="nobody gives way to an equal"),
        pytest.param(10, claim_of(2), [claim_of(2, needs=9)], 5, id="equals share what is free"),
        pytest.param(10, claim_of(2), [claim_of(2, needs=3)], 7, id="and one who needs less leaves the rest"),
        pytest.param(16, claim_of(0, gpus=8), [claim_of(0, needs=2, gpus=8)], 8, id="a replica each"),
        pytest.param(
            8, claim_of(0, gpus=8), [claim_of(0, needs=1, gpus=8)], 8, id="one that cannot be halved: who comes first"
        ),
        pytest.param(4, claim_of(6), [claim_of(6)], 2, id="over the limit, equals give way alike"),
        pytest.param(4, claim_of(6, priority=1), [claim_of(6)], 4, id="over the limit, the lower one gives way"),
        pytest.param(4, claim_of(6), [claim_of(6, priority=1)], 0, id="to the last"),
        pytest.param(3, claim_of(0, minimum=1), [claim_of(2, needs=9, priority=1)], 1, id="minimums come before needs"),
        pytest.param(1, claim_of(0, minimum=1), [claim_of(0, minimum=1)], 1, id="of two minimums, who comes first"),
        pytest.param(22, partly_read_claim(5, 20), [], 7, id="an unread pool may hold the rest of what counts"),
        pytest.param(20, partly_read_claim(5, 20), [claim_of(6)], 5, id="which leaves no room, and lowers nothing"),
        pytest.param(4, partly_read_claim(5, 20), [], 4, id="but by what is too much without it"),
    ],
)
def test_fleet_quota_follows_minimums_priorities_and_equal_shares(
    limit: int, me: ResourceClaim, others: list[ResourceClaim], expected: float
) -> None:
    assert max_gpus(limit, me, *others) == expected


def test_unread_workload_counts_in_full_and_is_named_in_the_reason() -> None:
    unread = claim(spec(max_replicas=7), None, None)
    quota = grant(FleetLimits(max_gpus=10), ME, ResourceClaims({ME: claim_of(1), WorkloadName("dark"): unread})).gpus
    assert quota is not None
    assert quota.most == 3
    assert quota.reason.endswith("never read, counted at their maximum: dark")
    assert "daemon.fleet.max_gpus is 10, the fleet uses 8, this workload (priority 0) may use 3" in quota.reason


@pytest.mark.parametrize(
    ("share", "removed", "left"),
    [(0.25, 0, 2), (0.25, 1, 1), (0.25, 2, 0), (0.01, 0, 1), (0.01, 1, 0)],
    ids=["a quarter of 8", "one went", "all went", "one always may", "but one only"],
)
def test_fleet_blast_radius_limits_removals(share: float, removed: int, left: int) -> None:
    fleet = FleetLimits(blast_radius=BlastRadius(share=share))
    claims = {ME: claim_of(4), WorkloadName("other"): claim_of(4 - removed)}
    quota = grant(fleet, ME, ResourceClaims(claims), removed, 8).removable
    assert quota is not None
    assert quota.most == left
    assert f"{removed} of the fleet's 8 replicas were removed" in quota.reason


def test_fleet_without_limits_grants_no_quota() -> None:
    granted = grant(FleetLimits(), ME, ResourceClaims({ME: claim_of(4)}), 3, 7)
    assert (granted.gpus, granted.usd_per_hour, granted.removable) == (None, None, None)
    assert not FleetLimits().limits


@pytest.mark.parametrize(
    ("left", "others", "replica", "part"),
    [
        pytest.param(9, [], 1, 9, id="nobody else"),
        pytest.param(9, [9, 9], 1, 3, id="a third"),
        pytest.param(9, [1, 9], 1, 4, id="half of the rest"),
        pytest.param(9, [1, 1], 1, 7, id="all of the rest"),
        pytest.param(9, [0, 0], 1, 9, id="nobody in need"),
        pytest.param(8, [9], 3, 6, id="rounded up to a replica"),
        pytest.param(2, [9], 3, 2, id="and never more than there is"),
    ],
)
def test_fair_share_redistributes_what_others_do_not_need(
    left: float, others: list[float], replica: float, part: float
) -> None:
    assert fair_share(left, np.array(others, dtype=float), replica) == part


def needed(workload: WorkloadSpec, messages: float, current: int) -> float | None:
    return need(workload, decide(workload, History(), seen(queue(messages), desired=current)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, 9.0, id="what policies want"),
        pytest.param({"budget": Budget(gpus=4)}, 9.0, id="whatever a budget leaves of it"),
        pytest.param({"override": Override(replicas=12, until="2027-01-15T09:00Z")}, 12.0, id="what is set by hand"),
        pytest.param({"paused": True}, None, id="paused, what it holds"),
    ],
)
def test_need_ignores_the_budget_and_follows_override_and_pause(
    settings: dict[str, Any], expected: float | None
) -> None:
    assert needed(spec(**settings), 90, 2) == expected


def test_workload_at_zero_needs_nothing_below_activation() -> None:
    idle = spec({"queue": QueueDepth(source="queue", activation=5.0)}, min_replicas=0)
    assert needed(idle, 2, 0) == 0.0
    assert needed(idle, 6, 0) == 0.6
    assert needed(idle, 2, 1) == 0.2, "it still holds one"


def test_need_of_a_claim_is_capped_by_budget_and_bounds() -> None:
    tight = spec(budget=Budget(gpus=4), max_replicas=20)
    assert claim(tight, {PoolName("main"): 2}, 90.0).gpus.need == 4
    assert claim(spec(max_replicas=20), {PoolName("main"): 2}, 90.0).gpus.need == 20


def test_cost_of_a_claim_excludes_reserved_pools() -> None:
    pools = {
        "owned": Pool(market="reserved", price_usd_per_hour=5.0),
        "spot": Pool(market="spot", price_usd_per_hour=2.0, gpus_per_replica=4),
    }
    result = claim(spec(pools=pools), {PoolName("owned"): 3, PoolName("spot"): 2}, None)
    assert (result.usd_per_hour.held, result.gpus.held, result.replicas) == (4.0, 11.0, 5)


def test_fleet_limit_reserves_what_routes_may_spend_on_providers() -> None:
    pools = {"main": Pool(price_usd_per_hour=2.0)}
    routes = {RouteName("chat"): route(overflow=Overflow(max_usd_per_hour=20.0))}
    chat = spec({"size": Static(replicas=12)}, pools, routes=routes, max_replicas=20)
    mine, fleet = claim(chat, {PoolName("main"): 4}, 12.0), FleetLimits(max_usd_per_hour=50.0)
    assert mine.usd_per_hour[:3] == (28.0, 22.0, 44.0)

    other = claim(spec(pools=pools), {PoolName("main"): 5}, 5.0)
    granted = grant(fleet, ME, ResourceClaims({ME: mine, WorkloadName("other"): other}))
    decision = decide(chat, History(), dataclasses.replace(seen({}, desired=4), grant=granted))

    assert decision.target == 10, "50 USD/h less 10 of the other and 20 of the route"
    assert any("20 of it by its routes" in step.reason for step in decision.steps)


def test_a_route_that_may_use_no_provider_reserves_nothing() -> None:
    closed = spec(routes={RouteName("chat"): route(allow_external=False)})
    assert claim(closed, {PoolName("main"): 2}, None).usd_per_hour.held == 0.0
