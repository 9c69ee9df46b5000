"""Contract of a route by weighted records: moto's Route 53 behind a recording endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policies.model.route import RouteDecision
from scaler.config.kinds.aws_routes import Dns
from scaler.ports import Conflict, Misconfigured, Unavailable
from tests.contracts.aws_rig import THROTTLE
from tests.contracts.aws_route_rig import GPUS, SPARE, AwsRouteRig, apply, aws_route_rig, granted, pools, read
from tests.fakes import ManualClock
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_health_checks import FAILED, PASSED
from tests.servers.daemon import until

pytestmark = pytest.mark.slow
CHANGE = "route53:ChangeResourceRecordSets"
NAME = "chat.example.com."


def record(identifier: str, weight: int, **changes: Any) -> dict[str, Any]:
    address = {"us-east-1": "192.0.2.1", "eu-west-1": "192.0.2.2"}.get(identifier, "192.0.2.3")
    named = {"Name": NAME, "Type": "A", "SetIdentifier": identifier, "Weight": weight}
    return {**named, "TTL": 30, "ResourceRecords": [{"Value": address}], **changes}


@dataclass
class Zone:
    """A hosted zone in which two regions' records share one name."""

    rig: AwsRouteRig
    clock: ManualClock
    client: Any
    id: str
    check: str

    def spec(self, **changes: Any) -> Dns:
        settings: dict[str, Any] = {
            "account": self.rig.account,
            "zone": self.id,
            "name": "Chat.example.com",
            "backends": pools(GPUS, SPARE),
            "records": {GPUS: "us-east-1", SPARE: "eu-west-1"},
        }
        return Dns(**{**settings, **changes})

    async def records(self) -> dict[str, dict[str, Any]]:
        listed = (await self.client.list_resource_record_sets(HostedZoneId=self.id))["ResourceRecordSets"]
        return {body["SetIdentifier"]: body for body in listed if "SetIdentifier" in body}

    async def edit(self, *bodies: dict[str, Any], action: str = "UPSERT") -> None:
        changes = [{"Action": action, "ResourceRecordSet": body} for body in bodies]
        await self.client.change_resource_record_sets(HostedZoneId=self.id, ChangeBatch={"Changes": changes})

    async def health_check(self, **config: Any) -> str:
        settings = {"Type": "HTTPS", "FullyQualifiedDomainName": "us.example.com", "Port": 443, **config}
        made = await self.client.create_health_check(CallerReference=str(config), HealthCheckConfig=settings)
        return str(made["HealthCheck"]["Id"])


@pytest.fixture
async def zone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Zone]:
    isolate(monkeypatch, tmp_path, **KEYS)
    clock = ManualClock()
    async with aws_route_rig(clock) as rig:
        client = await rig.cloud.client("route53")
        made = await client.create_hosted_zone(Name="example.com.", CallerReference="zone")
        it = Zone(rig, clock, client, made["HostedZone"]["Id"].rpartition("/")[2], "")
        it.check = await it.health_check()
        await it.edit(record("us-east-1", 255, HealthCheckId=it.check), record("eu-west-1", 0))
        yield it


async def test_only_the_weights_of_the_records_change(zone: Zone) -> None:
    target = {"HostedZoneId": "Z35SXDOTRQ7X7K", "DNSName": "eu.example.net.", "EvaluateTargetHealth": True}
    await zone.edit(record("eu-west-1", 0), action="DELETE")
    alias = record("eu-west-1", 0, AliasTarget=target)
    del alias["TTL"], alias["ResourceRecords"]
    other = {"Name": "docs.example.com.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.9"}]}
    await zone.edit(alias, other, record("us-east-1", 7, Name="other.example.com.", SetIdentifier="other"))
    before = await zone.records()
    route = await zone.rig.open(zone.spec())
    status = await read(route)
    assert (status.weights, status.settle_s, status.requests_per_s) == ({GPUS: 255}, 60.0, None)
    await apply(route, gpus=180, spare=75)
    after = await zone.records()
    assert (await read(route)).weights == {GPUS: 180, SPARE: 75}
    expected = {"us-east-1": 180, "eu-west-1": 75, "other": 7}
    assert after == {name: {**body, "Weight": expected[name]} for name, body in before.items()}
    await apply(route, gpus=180, spare=75)
    assert zone.rig.front.count(CHANGE) == 1, "the same weights are not written again"
    with pytest.raises(Misconfigured, match="set zero_replicas to hold"):
        await apply(route)


async def test_ttl_is_the_time_until_clients_follow(zone: Zone) -> None:
    assert (await read(await zone.rig.open(zone.spec()))).settle_s == 30.0


async def test_health_checks_are_read_as_route_53_defines_them(zone: Zone) -> None:
    route = await zone.rig.open(zone.spec())
    assert (await read(route)).unhealthy == frozenset()
    zone.rig.world.checkers[zone.check] = [PASSED] * 2 + [FAILED] * 14
    assert (await read(route)).unhealthy == {GPUS}, "12 % of the checkers report success"
    zone.rig.world.checkers[zone.check] = [PASSED] * 3 + [FAILED] * 13
    assert (await read(route)).unhealthy == frozenset(), "19 % do, and 18 % suffice"
    zone.rig.world.checkers[zone.check] = []
    with pytest.raises(Unavailable, match="no checker has reported yet"):
        await route.status()


async def test_health_check_whose_result_cannot_be_read_is_refused(zone: Zone) -> None:
    inverted = await zone.health_check(Inverted=True)
    await zone.edit(record("eu-west-1", 0, HealthCheckId=inverted))
    route = await zone.rig.open(zone.spec())
    with pytest.raises(Misconfigured, match=f"health check {inverted} is inverted.*give the record one"):
        await route.status()
    disabled = await zone.health_check(Disabled=True)
    zone.rig.world.checkers[disabled] = [FAILED] * 16
    await zone.edit(record("eu-west-1", 0, HealthCheckId=disabled))
    assert (await read(route)).unhealthy == frozenset(), "a disabled check passes"


async def test_another_writer_is_yielded_to(zone: Zone) -> None:
    route = await zone.rig.open(zone.spec())
    observed = await read(route)
    await zone.edit(record("us-east-1", 90), record("eu-west-1", 10))
    with pytest.raises(Conflict, match="changed from gpus 255 to gpus 90, spare 10: another writer set it"):
        await route.apply(RouteDecision({GPUS: 180, SPARE: 75}, ""), observed)
    assert {name: body["Weight"] for name, body in (await zone.records()).items()} == {"us-east-1": 90, "eu-west-1": 10}
    assert str((await read(route)).other_writer).startswith("another writer set records chat.example.com.")


async def test_write_with_a_lost_response_is_not_another_writer(zone: Zone) -> None:
    route = await zone.rig.open(zone.spec())
    observed = await read(route)
    zone.rig.front.lost = True
    writing = asyncio.create_task(route.apply(RouteDecision({GPUS: 180, SPARE: 75}, ""), observed))

    async def written() -> bool:
        return bool((await zone.records())["us-east-1"]["Weight"] == 180)

    await until(written)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    zone.rig.front.lost = False
    status = await read(route)
    assert (status.weights, status.other_writer) == ({GPUS: 180, SPARE: 75}, None)


async def test_records_that_do_not_fit_are_named(zone: Zone) -> None:
    mismatches: list[tuple[dict[str, Any], str]] = [
        ({"records": {GPUS: "us-east-2", SPARE: "eu-west-1"}}, "has no record 'us-east-2' (records: "),
        ({"backends": pools(SPARE), "records": {SPARE: "eu-west-1"}}, "sends requests to 'us-east-1' (weight 255)"),
        ({"name": "chats.example.com"}, "there is none of type A; check zone, name and record_type"),
        ({"zone": "Z00000000000000000000"}, "NoSuchHostedZone"),
    ]
    for changes, message in mismatches:
        route = await zone.rig.open(zone.spec(**changes))
        with pytest.raises(Misconfigured) as caught:
            await route.status()
        assert message in str(caught.value)
    plain = {"Name": "plain.example.com.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.9"}]}
    await zone.edit(plain)
    with pytest.raises(Misconfigured, match="a record is not weighted; give each one a SetIdentifier"):
        await (await zone.rig.open(zone.spec(name="plain.example.com"))).status()


async def test_policy_grants_what_is_called_and_nothing_else(zone: Zone) -> None:
    rig, everything = zone.rig, granted("aws-routes-iam.json")
    rig.world.granted = everything
    route = await rig.open(zone.spec())
    await apply(route, gpus=180, spare=75)
    assert all(permit.granted for permit in await route.permits())
    own = {action for action in everything if action.startswith(("route53:", "iam:"))}
    assert rig.called() - {"sts:GetCallerIdentity"} == own
    rig.world.granted = everything - {CHANGE}
    assert [permit.action for permit in await route.permits() if not permit.granted] == [CHANGE]
    with pytest.raises(Misconfigured, match="not authorized"):
        await apply(route, gpus=255, spare=0)


async def test_refusals_of_aws_are_port_errors(zone: Zone) -> None:
    route = await zone.rig.open(zone.spec())
    observed = await read(route)
    zone.rig.front.faults["write"] = THROTTLE
    with pytest.raises(Unavailable, match="ChangeResourceRecordSets"):
        await route.apply(RouteDecision({GPUS: 180, SPARE: 75}, ""), observed)
    zone.rig.front.clear()
    zone.rig.front.faults["read"] = THROTTLE
    with pytest.raises(Unavailable, match="ListResourceRecordSets"):
        await route.status()
