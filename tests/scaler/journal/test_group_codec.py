"""Groups in a journal: the round trip of the other members' state, and of the requests handed to them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.model import Absent, Fresh, Stale, Tick, WorkloadName
from policies.model.group import MemberStatus
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.route_codec import decode_member, decode_split, encode_member, encode_split
from tests.factories import NOW, live, seen, spec, tick_of

US, ASIA = WorkloadName("chat-us"), WorkloadName("team-a.chat")
PLAIN = MemberStatus(4.0, None, None, None)
FRONT, HOME = RouteName("front"), BackendName("home")
amounts = st.floats(0.0, 1e6)
names = st.sampled_from([WorkloadName("chat-eu"), US, ASIA])
statuses = st.builds(
    MemberStatus,
    ready=amounts,
    need=st.none() | amounts,
    max_supply=st.none() | amounts,
    requests_per_replica_per_s=st.none() | amounts,
    usd_per_hour=st.none() | amounts,
    region=st.none() | st.sampled_from(["us-east-1", "eu-west-1"]),
    sent=st.dictionaries(names, st.none() | amounts),
    handed=st.dictionaries(names, amounts),
    settle_s=amounts,
)
readings = st.one_of(
    st.builds(Fresh, statuses, st.just(NOW - 5.0)),
    st.builds(Stale, statuses, st.just(NOW - 80.0), st.just(80.0)),
    st.builds(Absent, st.just("it has not run a tick yet")),
)


def tick() -> Tick:
    return tick_of(seen({}), live(spec(), [{}])[0])


@settings(max_examples=60)
@given(st.dictionaries(names, readings), st.dictionaries(names, amounts))
def test_tick_with_members_and_handed_requests_survives_a_round_trip(
    members: dict[WorkloadName, Any], handed: dict[WorkloadName, float]
) -> None:
    plain = tick()
    routes = {FRONT: Fresh(RouteStatus({HOME: 10_000}), NOW)}
    observation = dataclasses.replace(plain.observation, routes=routes, members=members)
    splits = {FRONT: RouteDecision({HOME: 10_000}, "all requests go to pools", handed=handed)}
    original = dataclasses.replace(
        plain, observation=observation, decision=dataclasses.replace(plain.decision, routes=splits)
    )
    text = json.dumps(encode_tick(original), allow_nan=False)
    assert decode_tick(json.loads(text)) == original
    assert json.dumps(encode_tick(decode_tick(json.loads(text)))) == text


def test_tick_without_a_group_has_no_field_for_it() -> None:
    encoded = encode_tick(tick())
    assert "members" not in encoded
    assert "handed" not in encode_split(RouteDecision({HOME: 10_000}, ""))
    assert decode_tick(encoded).observation.members == {}
    assert decode_split(encode_split(RouteDecision({HOME: 10_000}, ""))).handed == {}


def test_unknown_value_of_a_member_is_not_zero() -> None:
    zero = MemberStatus(0.0, 0.0, 0.0, 0.0, 0.0, None, {US: 0.0})
    unknown = MemberStatus(0.0, None, None, None, None, None, {US: None})
    for status in (zero, unknown):
        assert decode_member(json.loads(json.dumps(encode_member(status)))) == status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ready", None),
        ("ready", -1.0),
        ("ready", float("nan")),
        ("need", "3"),
        ("need", -1.0),
        ("max_supply", float("inf")),
        ("requests_per_replica_per_s", True),
        ("usd_per_hour", -0.5),
        ("region", 3),
        ("sent", {"chat-eu": -1.0}),
        ("sent", {"chat-eu": "3"}),
        ("handed", {"chat-eu": None}),
        ("handed", {"chat-eu": -2.0}),
        ("settle_s", None),
        ("settle_s", -1.0),
    ],
)
def test_malformed_state_of_a_member_is_refused(field: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        decode_member({**encode_member(PLAIN), field: value})


@pytest.mark.parametrize("value", [{"chat-us": -1.0}, {"chat-us": None}, {"chat-us": float("nan")}])
def test_malformed_handed_requests_are_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        decode_split({**encode_split(RouteDecision({HOME: 10_000}, "")), "handed": value})
