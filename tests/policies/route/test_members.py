"""Workloads of a group: overflow to spare replicas, requests handed over for a shortage or a price, and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.model import Evidence, Fresh, Stale
from policies.model.group import SETTLE_S, MemberStatus
from policies.model.limits import Override
from policies.model.names import PolicyName, WorkloadName
from policies.recommend.peers.static import Static
from policies.route.members import SHIFT_S, MemberOffer, Neighbours, handed_requests, shares_of
from policies.route.preference import Distance
from tests.factories import FREE_DOWN, NOW
from tests.policies.route.group_world import EU, FRONT, GPUS, INTERVAL_S, OTHER, PER_REPLICA, US, Group, group

SETTLE_TICKS = round(SETTLE_S / INTERVAL_S)
SHIFT_TICKS = round(SHIFT_S / INTERVAL_S)


def reason(g: Group) -> str:
    assert g.eu.decision is not None
    return g.eu.decision.routes[FRONT].reason


def demand_reason(g: Group) -> str:
    """Return why the second member has its size."""
    assert g.us.decision is not None
    return g.us.decision.steps[0].reason


def test_steady_load_stays_at_home_without_a_change_of_weights() -> None:
    g = group()
    g.run(20, 8.0, 4.0)
    writes = {id(g.eu.status), id(g.us.status)}
    g.run(120, 8.0, 4.0)
    assert {id(g.eu.status), id(g.us.status)} == writes
    assert (g.eu.share, g.us.share, g.late[-1]) == (0.0, 0.0, 0.0)


def test_a_burst_uses_the_spare_replicas_of_the_other_member_until_its_own_are_ready() -> None:
    g = group(us={"min_replicas": 6})
    g.run(20, 8.0, 4.0)
    g.run(1, 20.0, 4.0)
    assert g.eu.share == 0.4, "8 of 20 requests/s: the other member has 4 spare replicas"
    assert reason(g) == "40% of requests go to other: 4 of 4 replicas are ready, for a demand of 10.0"
    g.run(16, 20.0, 4.0)
    assert (g.eu.ready, g.eu.share, g.us.desired) == (10, 0.0, 6), "back, and no replica was added for the burst"
    assert g.late[-16:-12] == pytest.approx([4.0] * 4), "12 requests/s were too many for 4 replicas before"
    assert sum(g.late[-10:]) == 0.0


def test_a_burst_that_grows_over_two_ticks_uses_the_rest_of_the_spare_replicas_at_once() -> None:
    g = group(us={"min_replicas": 10})
    g.run(20, 8.0, 4.0)
    g.run(1, 12.0, 4.0)
    assert g.eu.share == pytest.approx(4.0 / 12.0, abs=1e-3)
    g.run(1, 24.0, 4.0)
    assert g.eu.share == pytest.approx(16.0 / 24.0, abs=1e-3), "8 replicas were spare, 2 of them were used so far"
    g.run(1, 30.0, 4.0)
    assert g.eu.share * 30.0 <= 20.0 + 1e-6, "no more than it had spare, although its metrics do not show all of it yet"


def test_replicas_that_arrive_after_a_shortage_are_kept() -> None:
    g = group({"scale_down": FREE_DOWN})
    g.eu.stock = 6
    g.run(20, 8.0, 4.0)
    g.run(30, 20.0, 4.0)
    assert g.eu.share == 0.4
    g.eu.stock = 1000
    sizes = []
    while g.eu.share > 0.0:
        g.run(1, 20.0, 4.0)
        sizes.append(g.eu.desired)
        assert len(sizes) < 140
    assert set(sizes[sizes.index(10) :]) == {10}


@pytest.mark.parametrize(
    ("setting", "maximum"),
    [
        ({}, 20.0),
        ({"paused": True}, 3.0),
        ({"override": Override(replicas=2, until="2030-01-01T00:00Z")}, 2.0),
        ({"override": Override(replicas=25, until="2030-01-01T00:00Z", beyond_bounds=True)}, 25.0),
        ({"override": Override(replicas=2, until="2020-01-01T00:00Z")}, 20.0),
    ],
    ids=["bounds", "paused", "override", "override beyond bounds", "override that ended"],
)
def test_a_setting_bounds_what_the_others_may_hand_over(setting: dict[str, Any], maximum: float) -> None:
    g = group()
    g.us.desired = g.us.ready = 3
    g.us.spec = dataclasses.replace(g.us.spec, **setting)
    g.run(1, 8.0, 4.0)
    published = g.board.with_members(EU, g.observation(EU)).members[US]
    assert isinstance(published, Fresh)
    assert published.value.max_supply == maximum


def test_requests_that_the_platform_has_no_replicas_for_are_handed_over_until_it_has() -> None:
    g = group()
    g.eu.stock = 6
    g.run(20, 8.0, 4.0)
    g.run(20, 20.0, 4.0)
    assert (g.eu.ready, g.us.ready, g.eu.share, g.late[-1]) == (6, 6, 0.4, 0.0)
    assert g.eu.decision is not None
    assert g.eu.decision.routes[FRONT].handed == {US: pytest.approx(8.0)}
    assert "8.0 requests/s stay at workload us: the own pools can have 6 replicas" in reason(g)
    late = len(g.late)
    g.run(120, 20.0, 4.0)
    assert (g.eu.share, g.us.ready) == (0.4, 6), "also while the platform is asked again"
    assert sum(g.late[late:]) == 0.0
    g.eu.stock = 1000
    g.run(140, 20.0, 4.0)  # the platform is asked again after at most 30 minutes
    assert (g.eu.ready, g.eu.share, g.us.desired) == (10, 0.0, 2)
    assert sum(g.late[late:]) == 0.0, "the way back makes no request late"


def test_requests_stay_handed_while_the_platform_is_asked_again() -> None:
    g = group({"scale_down": FREE_DOWN})
    g.eu.stock = 6
    g.run(20, 8.0, 4.0)
    g.run(20, 20.0, 4.0)
    handed, asked = set(), 0
    for _ in range(50):
        g.run(1, 20.0, 4.0)
        assert g.eu.decision is not None
        handed.add(round(g.eu.decision.routes[FRONT].handed.get(US, 0.0), 1))
        asked += g.eu.desired > 6
    assert handed == {8.0}
    assert asked, "the platform must be asked again"


def test_what_policies_forecast_beyond_the_own_pools_gets_replicas_and_no_requests_yet() -> None:
    g = group({"policies": {PolicyName("forecast"): Static(replicas=9)}})
    g.eu.stock = 6
    g.run(30, 8.0, 4.0)
    assert (g.eu.ready, g.us.desired, g.eu.share) == (6, 5, 0.0), "3 replicas beyond 6, with 2 for its own users"


def about_to_hand_over() -> Group:
    """Return a group in which the other member has just asked for replicas for requests to come."""
    g = group()
    g.eu.stock = 6
    g.run(20, 8.0, 4.0)
    while g.us.desired < 6:
        g.run(1, 20.0, 4.0)
        assert len(g.late) < 40
    return g


def test_the_other_member_grows_before_the_requests_come() -> None:
    g = about_to_hand_over()
    assert (g.us.ready, g.eu.share) == (2, 0.0)
    assert demand_reason(g) == (
        "group llama recommends 6.00: the own need of 2.0 and 8.0 requests/s of eu to come need 6.0 replicas"
    )


def test_requests_follow_a_lower_price_and_return_with_it() -> None:
    g = group({"pools_price": 10.0, "min_replicas": 2}, {"pools_price": 5.0})
    g.run(10, 12.0, 4.0)
    late = len(g.late)
    g.run(SHIFT_TICKS + 40, 12.0, 4.0)
    assert (g.eu.desired, g.us.desired) == (2, 7)
    assert g.eu.share == pytest.approx(0.7, abs=1e-3), "all but 90 % of what two replicas, its minimum, carry"
    assert "it costs less" in reason(g)
    g.set_price(US, 12.0)
    g.run(SHIFT_TICKS + 40, 12.0, 4.0)
    assert (g.eu.desired, g.us.desired, g.eu.share) == (6, 2, 0.0)
    assert sum(g.late[late:]) == 0.0


@pytest.mark.parametrize("price", [7.0, 10.0, None], ids=["30 % lower", "equal", "unknown"])
def test_requests_follow_no_price_that_is_hardly_lower_or_unknown(price: float | None) -> None:
    g = group({"pools_price": 10.0}, {"pools_price": price})
    g.run(2 * SHIFT_TICKS, 12.0, 4.0)
    assert (g.eu.share, g.us.share) == (0.0, 0.0)


def test_own_users_come_first() -> None:
    g = group(us={"min_replicas": 6})
    g.run(20, 8.0, 4.0)
    g.eu.stock = 4
    g.run(12, 14.0, 4.0)
    assert g.eu.share == pytest.approx(6.0 / 14.0, abs=1e-3)
    g.us.stock = 6
    g.run(SETTLE_TICKS + 8, 14.0, 12.0)
    assert g.eu.share == 0.0, "its replicas are needed by its own users"


def test_a_silent_member_keeps_what_it_has_and_gets_no_more() -> None:
    g = group(us={"min_replicas": 6})
    g.run(20, 8.0, 4.0)
    g.eu.stock = 4
    g.run(12, 12.0, 4.0)
    kept, size = g.eu.share, g.eu.desired
    assert kept > 0.0
    g.us.is_silent = True
    g.run(20, 12.0, 4.0)
    assert g.eu.share == kept
    assert g.eu.desired >= size
    assert g.eu.decision is not None
    assert not g.eu.decision.may_scale_in, "the replicas of a silent member are no evidence"
    g.run(8, 20.0, 4.0)
    assert g.eu.share == kept


def test_a_member_keeps_its_size_while_a_sender_is_silent() -> None:
    g = about_to_hand_over()
    g.eu.is_silent = True
    g.run(30, 20.0, 4.0)
    assert g.us.desired == 6, "the replicas for requests that have not come yet"
    blind = [r for r in g.us.decision.recommendations if r.policy == "group llama"] if g.us.decision else []
    assert [r.evidence for r in blind] == [Evidence.BLIND]


def test_a_member_that_is_stale_gets_no_requests_by_its_last_state() -> None:
    g = group(us={"min_replicas": 6})
    g.run(20, 8.0, 4.0)
    g.us.is_silent = True
    g.run(10, 8.0, 4.0)
    g.run(2, 20.0, 4.0)
    assert g.eu.share == 0.0


# --- the pure functions

OFFER = MemberOffer(OTHER, US, sent=0.0, max_sent=3.0, max_handed=3.0, is_cheaper=False)


def test_members_are_filled_in_order() -> None:
    offers = (OFFER, dataclasses.replace(OFFER, backend=GPUS, workload=EU, max_sent=5.0))
    assert shares_of(offers, 10.0, 0.4) == {OTHER: pytest.approx(0.3), GPUS: pytest.approx(0.1)}
    assert shares_of(offers, 0.0, 0.4) == {}
    assert shares_of(offers, None, 0.4) == {}


def test_a_member_of_which_too_little_is_known_keeps_the_last_amount() -> None:
    unknown = dataclasses.replace(OFFER, max_handed=None)
    assert handed_requests((unknown,), shortage=9.0, movable=0.0, last={US: 2.0}) == {US: 2.0}
    assert handed_requests((unknown,), shortage=1.0, movable=0.0, last={US: 2.0}) == {US: 1.0}
    assert handed_requests((unknown,), shortage=9.0, movable=0.0, last={}) == {}


amounts = st.floats(0.0, 1e6)


@given(st.lists(st.tuples(amounts, amounts, st.none() | amounts, st.booleans()), max_size=4), amounts, amounts, amounts)
@settings(max_examples=100)
def test_no_member_gets_more_than_it_offers(
    members: list[tuple[float, float, float | None, bool]], rate: float, shortage: float, movable: float
) -> None:
    offers = tuple(
        MemberOffer(OTHER.__class__(f"b{k}"), US.__class__(f"w{k}"), *member) for k, member in enumerate(members)
    )
    shares = shares_of(offers, rate, 1.0)
    assert sum(shares.values()) <= 1.0 + 1e-9
    for offer in offers:
        assert 0.0 <= shares.get(offer.backend, 0.0) * rate <= offer.max_sent * (1 + 1e-9) + 1e-9
    handed = handed_requests(offers, shortage, movable, {})
    assert all(rate > 0.0 for rate in handed.values())
    assert sum(handed.values()) <= max(shortage, movable) * (1 + 1e-9)
    for offer in offers:
        assert handed.get(offer.workload, 0.0) <= (offer.max_handed or 0.0)


def test_readings_grade_members_by_age() -> None:
    g = group()
    g.run(2, 8.0, 4.0)
    assert g.eu.decision is not None
    fresh = g.board.with_members(EU, g.observation(EU)).members[US]
    assert isinstance(fresh, Fresh)
    assert isinstance(fresh.value, MemberStatus)
    assert fresh.value.requests_per_replica_per_s == PER_REPLICA
    g.at += 100.0
    assert isinstance(g.board.with_members(EU, g.observation(EU)).members[US], Stale)


STATUS = MemberStatus(ready=10.0, need=4.0, max_supply=20.0, requests_per_replica_per_s=PER_REPLICA)
"""A member with 6 spare replicas, which may have 10 more."""


def offer_of(others: dict[WorkloadName, MemberStatus], factor: float = 1.0, sent: float = 0.0) -> MemberOffer:
    """Return the offer of the second member to the first one, next to other members."""
    members = {name: Fresh(status, NOW) for name, status in {US: STATUS, **others}.items()}
    route = group().eu.spec.routes[FRONT]
    (offer,) = Neighbours(route, members, None, {OTHER: sent}, {OTHER: factor}, {}, INTERVAL_S).offers(
        {OTHER: Distance.NEAR}
    )
    return offer


def test_members_that_name_the_same_one_share_what_it_has() -> None:
    alone = offer_of({})
    assert (alone.max_sent, alone.max_handed) == (12.0, 32.0)
    rival = dataclasses.replace(STATUS, sent={US: 4.0})
    both = offer_of({WorkloadName("asia"): rival})
    assert (both.max_sent, both.max_handed) == (6.0, 16.0)
    elsewhere = offer_of({WorkloadName("asia"): dataclasses.replace(STATUS, sent={EU: 4.0})})
    assert elsewhere == alone


def test_nothing_is_sent_or_handed_to_an_ejected_member() -> None:
    ejected = offer_of({}, factor=0.0, sent=3.0)
    assert (ejected.max_sent, ejected.max_handed) == (0.0, 0.0)
