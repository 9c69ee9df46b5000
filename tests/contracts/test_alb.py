"""Contract of a route by a listener rule: moto's load balancer and CloudWatch behind a recording endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policies.model.route import RouteDecision
from policies.model.route_spec import Backend
from scaler.config.kinds.aws_routes import Alb
from scaler.ports import Conflict, Misconfigured, Unavailable
from tests.contracts.aws_rig import THROTTLE
from tests.contracts.aws_route_rig import (
    GPUS,
    OPENAI,
    PROVIDER,
    AwsRouteRig,
    apply,
    aws_route_rig,
    granted,
    pools,
    read,
)
from tests.fakes import ManualClock
from tests.servers.aws import KEYS, isolate
from tests.servers.daemon import until

pytestmark = pytest.mark.slow
MODIFY = "elasticloadbalancing:ModifyRule"
OIDC = {
    "Issuer": "https://login.example",
    "AuthorizationEndpoint": "https://login.example/authorize",
    "TokenEndpoint": "https://login.example/token",
    "UserInfoEndpoint": "https://login.example/user",
    "ClientId": "chat",
    "ClientSecret": "hidden",
    "SessionTimeout": 3600,
}
STICKY = {"Enabled": True, "DurationSeconds": 300}


@dataclass
class Balancer:
    """A listener with one rule: after a login, `vllm` and `provider` share the requests."""

    rig: AwsRouteRig
    clock: ManualClock
    client: Any
    listener: str
    groups: dict[str, str]
    rule: str = ""

    def spec(self, **changes: Any) -> Alb:
        settings: dict[str, Any] = {
            "account": self.rig.account,
            "rule": self.rule,
            "backends": {**pools(GPUS), OPENAI: Backend(provider=PROVIDER)},
            "target_groups": {GPUS: "vllm", OPENAI: "provider"},
        }
        return Alb(**{**settings, **changes})

    def forward(self, **weights: int) -> dict[str, Any]:
        groups = [{"TargetGroupArn": self.groups[name], "Weight": weight} for name, weight in weights.items()]
        config = {"TargetGroups": groups, "TargetGroupStickinessConfig": STICKY}
        return {"Type": "forward", "Order": 2, "ForwardConfig": config}

    async def actions(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.client.describe_rules(RuleArns=[self.rule]))["Rules"][0]["Actions"]
        return listed

    async def edit(self, *actions: dict[str, Any]) -> None:
        await self.client.modify_rule(RuleArn=self.rule, Actions=list(actions))

    def count(self, group: str, minute: float, **values: float) -> None:
        """Write the metrics of a minute that the load balancer sends."""
        balancer = "/".join(self.rule.split("/")[1:4])
        dimensions = {"LoadBalancer": balancer, "TargetGroup": self.groups[group].rpartition(":")[2]}
        for name, value in values.items():
            self.rig.cloud.service_metric("AWS/ApplicationELB", dimensions, name, value, minute)


def split(gpus: int, openai: int) -> RouteDecision:
    return RouteDecision({GPUS: gpus, OPENAI: openai}, "")


@pytest.fixture
async def balancer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Balancer]:
    isolate(monkeypatch, tmp_path, **KEYS)
    clock = ManualClock()
    async with aws_route_rig(clock) as rig:
        client, ec2 = await rig.cloud.client("elbv2"), await rig.cloud.client("ec2")
        subnets = (await ec2.describe_subnets())["Subnets"][:2]
        created = await client.create_load_balancer(Name="llm", Subnets=[s["SubnetId"] for s in subnets])
        arn, groups = created["LoadBalancers"][0]["LoadBalancerArn"], {}
        for name in ("vllm", "provider", "canary"):
            network = {"Protocol": "HTTP", "Port": 8000, "VpcId": subnets[0]["VpcId"]}
            made = await client.create_target_group(Name=name, **network)
            groups[name] = made["TargetGroups"][0]["TargetGroupArn"]
        default = [{"Type": "forward", "TargetGroupArn": groups["vllm"]}]
        listener = await client.create_listener(LoadBalancerArn=arn, Protocol="HTTP", Port=80, DefaultActions=default)
        it = Balancer(rig, clock, client, listener["Listeners"][0]["ListenerArn"], groups)
        made = await client.create_rule(
            ListenerArn=it.listener,
            Priority=10,
            Conditions=[{"Field": "path-pattern", "Values": ["/v1/*"]}],
            Actions=[
                {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": OIDC},
                it.forward(vllm=1, provider=0),
            ],
        )
        it.rule = made["Rules"][0]["RuleArn"]
        yield it


async def test_only_the_weights_of_the_rule_change(balancer: Balancer) -> None:
    route = await balancer.rig.open(balancer.spec())
    assert (await read(route)).weights == {GPUS: 1}
    login = (await balancer.actions())[0]
    await apply(route, gpus=720, openai=279)
    status = await read(route)
    assert (status.weights, status.other_writer) == ({GPUS: 720, OPENAI: 279}, None)
    kept, forward = await balancer.actions()
    assert kept.pop("AuthenticateOidcConfig") == {
        **login.pop("AuthenticateOidcConfig"),
        "UseExistingClientSecret": True,
    }
    assert kept == login, "AWS does not return the secret, so the request keeps the existing one"
    assert forward == balancer.forward(vllm=720, provider=279), "stickiness and order stay"
    assert balancer.rig.front.given[MODIFY][-1].keys() == {"RuleArn", "Actions"}, "conditions are not written"
    await apply(route, gpus=999, openai=0)
    assert (await read(route)).weights == {GPUS: 999}
    with pytest.raises(Misconfigured, match="set zero_replicas to hold"):
        await apply(route)


async def test_rule_with_one_target_group_gets_no_second_form_of_it(balancer: Balancer) -> None:
    await balancer.edit({"Type": "forward", "TargetGroupArn": balancer.groups["vllm"]})
    route = await balancer.rig.open(balancer.spec(backends=pools(GPUS)))
    assert (await read(route)).weights == {GPUS: 1}
    await apply(route, gpus=999)
    (forward,) = await balancer.actions()
    assert "TargetGroupArn" not in forward
    assert (await read(route)).weights == {GPUS: 999}


async def test_traffic_is_that_of_the_last_settled_minute(balancer: Balancer) -> None:
    route = await balancer.rig.open(balancer.spec())
    clock, front = balancer.clock, balancer.rig.front
    clock.advance(60 - clock.now() % 60 + 30)  # half past a minute, of which the one two before has settled
    minute = clock.now() - 30 - 120
    assert (await read(route)).requests_per_s is None, "no metric has arrived: not zero"
    balancer.count("vllm", minute, RequestCount=540, HealthyHostCount=3, HTTPCode_Target_5XX_Count=6)
    balancer.count("vllm", minute + 60, RequestCount=100)
    for latency_s in range(1, 102):
        balancer.count("vllm", minute, TargetResponseTime=latency_s / 100)
    balancer.count("provider", minute, HealthyHostCount=1)
    status = await read(route)
    assert status.requests_per_s == 9.0
    assert status.traffic[GPUS].latency_s == pytest.approx(0.81), "a fifth of the responses may be late"
    assert status.traffic[OPENAI].latency_s is None, "no response is no latency of zero"
    assert (status.traffic[GPUS].errors, status.traffic[OPENAI].requests) == (6.0, 0.0)
    calls = front.requests.count("cloudwatch:GetMetricData")
    assert (await read(route)).traffic == status.traffic
    assert front.requests.count("cloudwatch:GetMetricData") == calls, "a minute is read once"
    clock.advance(60)
    assert (await read(route)).requests == 100
    clock.advance(60)
    assert (await read(route)).requests_per_s is None, "the next minute has not arrived"
    balancer.count("vllm", minute + 120, HealthyHostCount=3)
    quiet = await read(route)
    assert (quiet.requests, quiet.requests_per_s) == (0.0, 0.0), "the hosts show that nothing was requested"
    balancer.count("provider", minute + 180, RequestCount=10, TargetConnectionErrorCount=25)
    clock.advance(60)
    assert (await read(route)).traffic[OPENAI].errors == 10.0


async def test_another_writer_is_yielded_to(balancer: Balancer) -> None:
    route = await balancer.rig.open(balancer.spec())
    observed = await read(route)
    await balancer.edit(balancer.forward(vllm=90, provider=10))
    changed = "changed from gpus 1 to gpus 90, openai 10: another writer set it"
    with pytest.raises(Conflict, match=changed):
        await route.apply(split(720, 279), observed)
    assert (await balancer.actions())[0] == balancer.forward(vllm=90, provider=10)
    assert str((await read(route)).other_writer).startswith("another writer set listener rule")
    await apply(route, gpus=500, openai=499)
    balancer.clock.advance(601)
    assert (await read(route)).other_writer is None


async def test_write_with_a_lost_response_is_not_another_writer(balancer: Balancer) -> None:
    route = await balancer.rig.open(balancer.spec())
    observed = await read(route)
    balancer.rig.front.lost = True
    writing = asyncio.create_task(route.apply(split(720, 279), observed))

    async def written() -> bool:
        return (await balancer.actions())[1] == balancer.forward(vllm=720, provider=279)

    await until(written)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    balancer.rig.front.lost = False
    status = await read(route)
    assert (status.weights, status.other_writer) == ({GPUS: 720, OPENAI: 279}, None)


async def test_rule_that_does_not_fit_is_named(balancer: Balancer) -> None:
    mismatches: list[tuple[dict[str, Any], str]] = [
        (
            {"target_groups": {GPUS: "vlm", OPENAI: "provider"}},
            "has no target group 'vlm' (target groups: vllm, provider)",
        ),
        ({"backends": pools(GPUS)}, "sends requests to 'provider' (weight 2), which is no backend; add it to backends"),
        ({"rule": balancer.rule + "0"}, "RuleNotFound"),
    ]
    await balancer.edit(balancer.forward(vllm=1, provider=2))
    for changes, message in mismatches:
        route = await balancer.rig.open(balancer.spec(**changes))
        with pytest.raises(Misconfigured) as caught:
            await route.status()
        assert message in str(caught.value)
    await balancer.edit({"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}})
    with pytest.raises(Misconfigured, match=r"no forward action \(actions: fixed-response\); add one"):
        await (await balancer.rig.open(balancer.spec())).status()
    rules = (await balancer.client.describe_rules(ListenerArn=balancer.listener))["Rules"]
    default = next(rule["RuleArn"] for rule in rules if rule["IsDefault"])
    with pytest.raises(Misconfigured, match="default rule, which belongs to the listener; add a rule"):
        await (await balancer.rig.open(balancer.spec(rule=default))).status()


async def test_policy_grants_what_is_called_and_nothing_else(balancer: Balancer) -> None:
    rig, everything = balancer.rig, granted("aws-routes-iam.json")
    rig.world.granted = everything
    route = await rig.open(balancer.spec())
    await apply(route, gpus=720, openai=279)
    assert all(permit.granted for permit in await route.permits())
    called = {action for action in everything if not action.startswith("route53:")}
    assert rig.called() - {"sts:GetCallerIdentity"} == called
    rig.world.granted = everything - {MODIFY}
    assert [permit.action for permit in await route.permits() if not permit.granted] == [MODIFY]
    with pytest.raises(Misconfigured, match="not authorized"):
        await apply(route, gpus=999, openai=0)


async def test_refusals_of_aws_are_port_errors(balancer: Balancer) -> None:
    route = await balancer.rig.open(balancer.spec())
    observed = await read(route)
    balancer.rig.front.faults["write"] = THROTTLE
    with pytest.raises(Unavailable, match="ModifyRule"):
        await route.apply(split(720, 279), observed)
    balancer.rig.front.clear()
    balancer.rig.front.faults["elasticloadbalancing"] = THROTTLE
    with pytest.raises(Unavailable, match="DescribeRules"):
        await route.status()
