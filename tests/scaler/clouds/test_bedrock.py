"""Bedrock's provisioned throughput: approval, steps that any daemon continues, commitments, failures."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler import adapters
from scaler.clouds.aws.account import AwsAccount
from scaler.config.checks import own_problems
from scaler.config.kinds.bedrock_pools import BedrockProvisioned
from scaler.ports import Conflict, Misconfigured, OutOfQuota, PortError, Unavailable
from simulators.provisioned import offers
from simulators.provisioned.plan import plan
from tests.scaler.clouds.aws_place import AwsEnvironment, aws_environment, read_status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_bedrock import Bedrock, Throughput
from tests.simulators.provisioned import inputs

CREATE, DELETE = "bedrock:CreateProvisionedModelThroughput", "bedrock:DeleteProvisionedModelThroughput"
PARAMETER = "/llm/claude"
IAM = Path(__file__).parents[3] / "config" / "deploy" / "aws-bedrock-iam.json"


def spec(units: int = 2, approve: str | None = "", **changes: Any) -> BedrockProvisioned:
    """Return a pool of an hourly plan. An empty `approve` approves it."""
    settings: dict[str, Any] = {
        "name": "claude",
        "model": "anthropic.claude",
        "parameter": PARAMETER,
        "offer": "claude",
        "term": "hour",
        "term_h": 1.0,
        "price_usd_per_hour": 39.6,
        "drain_s": 0.0,
        **changes,
    }
    made = BedrockProvisioned(min_replicas=units, max_replicas=units, **settings)
    return (
        made
        if approve is None
        else BedrockProvisioned(**{**vars_of(made), "approve": approve or made.plan_id("llm", "claude")})
    )


def vars_of(made: BedrockProvisioned) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AwsEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws_environment() as environment:
        environment.world.bedrock.quota = 10
        await (await environment.cloud.client("ssm")).put_parameter(
            Name=PARAMETER, Value="none", Type="String", Overwrite=True
        )
        yield environment


@pytest.fixture
def bedrock(env: AwsEnvironment) -> Bedrock:
    return env.world.bedrock


async def open_pool(env: AwsEnvironment, units: int = 2, approve: str | None = "", **changes: Any) -> Any:
    pool = spec(units, approve, account=env.account, **changes)
    return await adapters.open_pool(pool, env.context, WorkloadName("llm"), PoolName("claude"))


def throughput_name(env: AwsEnvironment, units: int, **changes: Any) -> str:
    """Return the name of the throughput that a plan buys."""
    return f"claude-{spec(units, None, account=env.account, **changes).plan_id('llm', 'claude')}"


async def tick(pool: Any, units: int) -> tuple[PoolStatus, PortError | None]:
    """Read and write as a tick does: only a size that differs, or an unfinished one."""
    status = await read_status(pool)
    if status.desired == units and not pool.unfinished():
        return status, None
    try:
        await pool.resize(units, status)
    except PortError as e:
        return status, e
    return status, None


async def named(env: AwsEnvironment) -> str:
    """Return the ARN that the applications read."""
    ssm = await env.cloud.client("ssm")
    return str((await ssm.get_parameter(Name=PARAMETER))["Parameter"]["Value"])


async def serving(env: AwsEnvironment, units: int = 2, **settings: Any) -> Throughput:
    """Return a throughput of an earlier plan that the applications call."""
    first = env.world.bedrock.add("claude-0123456789ab", units, created_at=time.time() - 60, **settings)
    first.finish()
    ssm = await env.cloud.client("ssm")
    await ssm.put_parameter(Name=PARAMETER, Value=first.arn, Type="String", Overwrite=True)
    return first


@pytest.mark.slow
async def test_nothing_is_bought_without_approval(env: AwsEnvironment, bedrock: Bedrock) -> None:
    for approve in (None, "0" * 12):
        pool = await open_pool(env, approve=approve)
        status, error = await tick(pool, 2)
        assert (status.desired, status.ready) == (0, 0)
        assert isinstance(error, Misconfigured)
        plan = spec(account=env.account).plan_text("llm", "claude")
        assert "(2 units of anthropic.claude in us-east-1 for the term hour at 39.6 USD per unit and hour" in plan
        assert f"{plan} is not approved" in str(error)
        assert f"run: forescale approve llm/claude {plan.split()[1]} CONFIG" in str(error)
        assert await pool.scale_out_refusals() == [str(error)]
    assert not bedrock.throughputs
    assert env.endpoint.count(CREATE) == 0


@pytest.mark.slow
async def test_a_copied_file_buys_nothing_for_another_pool_or_model(env: AwsEnvironment, bedrock: Bedrock) -> None:
    approved = spec(account=env.account)
    for pool, copy in (("copy", approved), ("claude", replace(approved, model="anthropic.other"))):
        opened: Any = await adapters.open_pool(copy, env.context, WorkloadName("llm"), PoolName(pool))
        assert isinstance((await tick(opened, 2))[1], Misconfigured)
    assert not bedrock.throughputs


def test_each_setting_that_places_or_prices_a_purchase_changes_the_plan() -> None:
    plan = spec(2, None)
    others = [
        replace(plan, name="other"),
        replace(plan, model="other"),
        replace(plan, account=AwsAccount(region="eu-west-1")),
        replace(plan, account=AwsAccount(profile="other")),
        replace(plan, price_usd_per_hour=1.0),
        replace(plan, min_replicas=3, max_replicas=3),
        replace(plan, term_h=730.0),
    ]
    ids = [other.plan_id("llm", "claude") for other in others]
    ids += [plan.plan_id("llm", "claude"), plan.plan_id("chat", "claude"), plan.plan_id("llm", "copy")]
    assert len(set(ids)) == len(ids)
    assert replace(plan, parameter="/llm/other", drain_s=5.0).plan_id("llm", "claude") == plan.plan_id("llm", "claude")


@pytest.mark.slow
async def test_an_approved_plan_is_carried_out_in_steps_that_any_daemon_continues(
    env: AwsEnvironment, bedrock: Bedrock
) -> None:
    first = await serving(env)
    seen = []
    for step in range(6):
        pool = await open_pool(env, 3)  # each tick is another daemon's first one
        status, error = await tick(pool, 3)
        assert error is None
        seen.append((status.desired, status.ready, bedrock.units, (await named(env)) == first.arn))
        if step == 1:
            bedrock.named(throughput_name(env, 3)).finish()
    assert seen == [
        (2, 2, 5, True),  # the second is created: both are paid for
        (3, 2, 5, True),  # it does not serve yet
        (3, 2, 5, False),  # it serves, and the applications are told
        (3, 3, 3, False),  # the first is deleted
        (3, 3, 3, False),
        (3, 3, 3, False),
    ]
    assert env.endpoint.count(CREATE) == env.endpoint.count(DELETE) == 1
    assert not pool.unfinished()


@pytest.mark.slow
async def test_the_first_stays_while_applications_may_still_call_it(env: AwsEnvironment, bedrock: Bedrock) -> None:
    first = await serving(env)
    pool = await open_pool(env, 3, drain_s=3600.0)
    for _ in range(4):
        assert (await tick(pool, 3))[1] is None
        bedrock.named(throughput_name(env, 3)).finish()
    assert await named(env) != first.arn
    assert first.id in bedrock.throughputs
    assert not pool.unfinished(), "it waits without writes"


@pytest.mark.slow
async def test_a_committed_throughput_is_not_deleted_before_its_end(env: AwsEnvironment, bedrock: Bedrock) -> None:
    first = await serving(env, commitment="OneMonth")
    pool = await open_pool(env, 3)
    for _ in range(4):
        await tick(pool, 3)
        bedrock.named(throughput_name(env, 3)).finish()
    assert env.endpoint.count(DELETE) == 0
    first.created_at -= 31 * 86_400
    assert (await read_status(pool)).desired == 3
    assert pool.unfinished()
    await tick(pool, 3)
    assert first.id not in bedrock.throughputs


@pytest.mark.slow
async def test_a_lost_response_buys_nothing_twice(env: AwsEnvironment, bedrock: Bedrock) -> None:
    env.context.deadline_s = 5.0
    pool = await open_pool(env, term_h=730.0)
    bedrock.unlisted.add(throughput_name(env, 2, term_h=730.0))
    env.endpoint.lost = True
    assert isinstance((await tick(pool, 2))[1], Unavailable)
    env.endpoint.lost = False
    assert (await tick(pool, 2))[1] is None
    assert bedrock.units == 2
    assert env.endpoint.given[CREATE][0] == env.endpoint.given[CREATE][-1]
    assert env.endpoint.given[CREATE][0]["commitmentDuration"] == "OneMonth"


@pytest.mark.slow
async def test_a_failed_creation_is_reported_and_not_repeated(env: AwsEnvironment, bedrock: Bedrock) -> None:
    await serving(env)
    pool = await open_pool(env, 3)
    await tick(pool, 3)
    bedrock.named(throughput_name(env, 3)).finish("Insufficient capacity for the requested model")
    status, error = await tick(pool, 3)
    assert (status.desired, status.ready, status.failed) == (3, 2, 1)
    assert status.shortfall is not None
    assert "failed: Insufficient capacity for the requested model" in status.shortfall.reason
    assert isinstance(error, Misconfigured)
    assert f"Delete {throughput_name(env, 3)}, and approve the plan again" in str(error)
    assert env.endpoint.count(CREATE) == 1


@pytest.mark.slow
async def test_units_need_a_quota(env: AwsEnvironment, bedrock: Bedrock) -> None:
    bedrock.quota = 0
    assert isinstance((await tick(await open_pool(env), 2))[1], OutOfQuota)


@pytest.mark.slow
async def test_a_parameter_that_a_person_set_is_left_alone(env: AwsEnvironment, bedrock: Bedrock) -> None:
    first = await serving(env)
    pool = await open_pool(env, 3)
    await tick(pool, 3)
    planned = bedrock.named(throughput_name(env, 3))
    planned.finish()
    planned.created_at -= 30
    error = (await tick(pool, 3))[1]
    assert isinstance(error, Conflict)
    assert f"another writer set the parameter {PARAMETER}" in str(error)
    assert await named(env) == first.arn


@pytest.mark.slow
async def test_a_throughput_that_a_person_bought_serves_and_is_never_deleted(
    env: AwsEnvironment, bedrock: Bedrock
) -> None:
    own = await serving(env)
    own.name = "bought-by-hand"
    pool = await open_pool(env, 3)
    assert (await read_status(pool)).ready == 2
    for _ in range(4):
        await tick(pool, 3)
        bedrock.named(throughput_name(env, 3)).finish()
    assert (await read_status(pool)).ready == 3
    assert own.id in bedrock.throughputs


@pytest.mark.slow
async def test_a_missing_parameter_is_misconfigured(env: AwsEnvironment) -> None:
    pool = await open_pool(env, parameter="/llm/none")
    with pytest.raises(Misconfigured, match="ssm:GetParameter of /llm/none: ParameterNotFound"):
        await read_status(pool)


@pytest.mark.slow
async def test_another_size_than_the_plans_is_refused(env: AwsEnvironment, bedrock: Bedrock) -> None:
    pool = await open_pool(env)
    with pytest.raises(Misconfigured, match="5 units are requested; the plan has 2, and decides"):
        await pool.resize(5, await read_status(pool))
    assert not bedrock.throughputs


@pytest.mark.slow
async def test_the_iam_document_grants_exactly_what_is_called(env: AwsEnvironment, bedrock: Bedrock) -> None:
    statements = json.loads(IAM.read_text(encoding="utf-8"))["Statement"]
    granted = {a for s in statements for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    first = await serving(env)
    first.name = "bought-by-hand"
    pool = await open_pool(env, 3)
    for _ in range(3):
        await tick(pool, 3)
        bedrock.named(throughput_name(env, 3)).finish()
    await tick(await open_pool(env, 4), 4)
    bedrock.named(throughput_name(env, 4)).finish()
    for _ in range(3):
        await tick(await open_pool(env, 4), 4)
    called = {operation for _, operation, _ in env.resources.calls.results}
    assert called == granted - {"iam:SimulatePrincipalPolicy"}
    assert set(pool._actions()) == called


def test_the_purchase_has_the_identifier_that_forescale_plan_reports(tmp_path: Path) -> None:
    file = tmp_path / "offers.yaml"
    file.write_text(
        """
throughput:
  claude:
    units: bedrock-model-unit
    input_tokens_per_minute: 6000
    output_tokens_per_minute: 2000
    terms:
      month: {term_h: 730, usd_per_unit: 0.2, per_h: 1}
    pay_as_you_go: {input_usd_per_million: 3.0, output_usd_per_million: 15.0}
""",
        encoding="utf-8",
    )
    (offer,) = offers.load(file, None)
    result = plan(inputs.samples(), offer)
    units = result.purchase.units
    assert units
    assert spec(units, None, term="month", term_h=730, price_usd_per_hour=0.2).purchase_id == result.plan_id


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"max_replicas": 3}, "must equal min_replicas, 2: units follow a plan, not the load"),
        ({"price_usd_per_hour": None}, "is required: set the plan's price of a unit and hour"),
        ({"term_h": 8760}, "must be at most 24"),
        ({"market": "on_demand"}, "must be reserved"),
    ],
)
def test_a_pool_that_is_no_plan_is_refused(changes: dict[str, Any], rule: str) -> None:
    assert list(own_problems(spec(approve=None))) == []
    broken = BedrockProvisioned(**{**vars_of(spec(approve=None)), **changes})
    ((place, found, _),) = own_problems(broken)
    assert place == tuple(changes)
    assert rule in found
