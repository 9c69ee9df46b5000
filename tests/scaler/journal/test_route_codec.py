"""Routes in a journal: the round trip of each field, and what a tick of an earlier schema lacks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from policies.model.names import BackendName
from policies.model.route import BackendTraffic, RouteStatus
from scaler.journal.route_codec import decode_route_status, encode_route_status

GPUS, OPENAI = BackendName("gpus"), BackendName("openai")
PLAIN = RouteStatus({GPUS: 9000, OPENAI: 1000}, {GPUS: BackendTraffic(90.0, 1.0)}, 15.0, "kubectl", "v7")


@pytest.mark.parametrize(
    "status",
    [
        PLAIN,
        replace(PLAIN, unhealthy=frozenset({OPENAI, GPUS})),
        replace(PLAIN, settle_s=60.0),
        replace(PLAIN, rejects=True, rejected=4.0),
        replace(PLAIN, traffic={GPUS: BackendTraffic(90.0, 1.0, 0.25), OPENAI: BackendTraffic(10.0, 0.0, 0.0)}),
        replace(PLAIN, traffic={OPENAI: BackendTraffic(0.0)}),
    ],
    ids=["plain", "unhealthy", "settle_s", "rejected", "latency_s", "no_latency"],
)
def test_status_survives_a_round_trip_as_json(status: RouteStatus) -> None:
    text = json.dumps(encode_route_status(status))
    assert decode_route_status(json.loads(text)) == status
    assert json.dumps(encode_route_status(decode_route_status(json.loads(text)))) == text


def test_latency_of_zero_is_not_an_unknown_one() -> None:
    zero, unknown = (replace(PLAIN, traffic={GPUS: BackendTraffic(5.0, 0.0, s)}) for s in (0.0, None))
    assert encode_route_status(zero)["traffic"] == {GPUS: [5.0, 0.0, 0.0]}
    assert encode_route_status(unknown)["traffic"] == {GPUS: [5.0, 0.0]}


def test_status_without_the_later_fields_has_their_defaults() -> None:
    early = {
        "weights": {"gpus": 1},
        "traffic": {"gpus": [5.0, 1.0]},
        "over_s": 15.0,
        "other_writer": None,
        "version": "",
    }
    status = decode_route_status(early)
    assert status == RouteStatus({GPUS: 1}, {GPUS: BackendTraffic(5.0, 1.0)}, 15.0)
    assert (status.unhealthy, status.settle_s, status.traffic[GPUS].latency_s) == (frozenset(), 0.0, None)
    assert encode_route_status(status) == early, "fields with their defaults are left out"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("settle_s", -1.0),
        ("settle_s", "60"),
        ("settle_s", float("nan")),
        ("unhealthy", [3]),
        ("unhealthy", [None]),
        ("traffic", {"gpus": [5.0, 0.0, -0.1]}),
        ("traffic", {"gpus": [5.0, 0.0, None]}),
        ("traffic", {"gpus": [5.0, 0.0, 0.1, 0.2]}),
    ],
)
def test_malformed_field_is_refused(field: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        decode_route_status({**encode_route_status(PLAIN), field: value})
