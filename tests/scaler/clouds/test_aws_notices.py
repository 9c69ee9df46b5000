"""Interruption notices on AWS: EventBridge's events through a queue, and an instance's own metadata server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolStatus
from scaler.clouds.aws.account import AwsNotices
from scaler.clouds.aws.events import INTERRUPTED_AFTER_S, parse_event
from scaler.clouds.aws.notices import open_notices
from scaler.clouds.interruptions import NoticeBoard
from scaler.config.kinds.aws_pools import Asg
from tests.contracts.actuator import settled
from tests.patience import patience, requested
from tests.scaler.clouds.aws_place import A, AwsEnvironment, aws_environment, read_status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_events import REBALANCE, WARNING, event_queue, put_event, warn
from tests.servers.aws_metadata import MetadataServer, metadata_server
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Group

NOTICE_S = 2.0


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AwsEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws_environment() as environment:
        group = environment.world.groups["llm"] = Group("llm", (A,), desired=2, market="spot")
        environment.world.ready(group, 2)
        yield environment


@pytest.fixture
async def queue(env: AwsEnvironment) -> str:
    return await event_queue(env.cloud)


async def pool_of(env: AwsEnvironment, queue: str) -> Any:
    return await env.open(Asg, group="llm", market="spot", notices=env.notices(queue))


async def wait_until(seconds: float, condition: Callable[[], object]) -> None:
    async with patience(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.02)


async def board_of(env: AwsEnvironment, queue: str) -> NoticeBoard:
    return (await open_notices(env.context, env.account, env.notices(queue))).board


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected_kind"),
    [
        (WARNING, "interruption"),
        ("EC2 Capacity Reservation Instance Interruption Warning", "interruption"),
        (REBALANCE, "rebalance"),
    ],
)
async def test_interruption_warning_is_recorded_and_requests_a_tick(
    env: AwsEnvironment, queue: str, kind: str, expected_kind: str
) -> None:
    board = await board_of(env, queue)
    wakeup = asyncio.create_task(requested(env.context.wakeup))
    await warn(env.cloud, "i-1", kind)
    async with patience(NOTICE_S):
        await wakeup
    notice = board.notices_for({"i-1"})["i-1"]
    assert notice.kind == expected_kind
    if expected_kind == "interruption":
        assert notice.interrupts_at is not None
        assert abs(notice.interrupts_at - notice.received_at - INTERRUPTED_AFTER_S) < 5
    else:
        assert notice.interrupts_at is None


async def test_rebalanced_instance_does_not_count_as_interrupted(env: AwsEnvironment, queue: str) -> None:
    pool = await pool_of(env, queue)
    first = env.world.groups["llm"].instances[0].id
    await read_status(pool)
    await warn(env.cloud, first, REBALANCE)
    await settled(pool, lambda s: s.interruption_pending == 1)
    env.world.remove([first])
    status = await read_status(pool)
    assert (status.interruption_pending, status.interrupted) == (0, 0)


@pytest.mark.slow
async def test_noticed_instance_gone_before_the_next_read_is_interrupted(env: AwsEnvironment, queue: str) -> None:
    pool = await pool_of(env, queue)
    first = env.world.groups["llm"].instances[0].id
    await read_status(pool)
    wakeup = asyncio.create_task(requested(env.context.wakeup))
    await warn(env.cloud, first)
    async with patience(NOTICE_S):
        await wakeup
    env.world.remove([first])
    assert (await read_status(pool)).interrupted == 1


async def test_notice_for_an_instance_of_another_pool_is_ignored(env: AwsEnvironment, queue: str) -> None:
    pool = await pool_of(env, queue)
    board = await board_of(env, queue)
    await warn(env.cloud, "i-of-somebody-else")
    await wait_until(NOTICE_S, lambda: board.notices_for({"i-of-somebody-else"}))
    assert (await read_status(pool)).interruption_pending == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["EC2 Instance Launch Unsuccessful", "EC2 Instance-terminate Lifecycle Action"])
async def test_scaling_group_event_requests_a_tick_and_is_not_a_notice(
    env: AwsEnvironment, queue: str, kind: str
) -> None:
    board = await board_of(env, queue)
    wakeup = asyncio.create_task(requested(env.context.wakeup))
    await put_event(env.cloud, "aws.autoscaling", kind, {"EC2InstanceId": "i-1", "AutoScalingGroupName": "llm"})
    async with patience(NOTICE_S):
        await wakeup
    assert not board.notices_for({"i-1"})


async def remaining_messages(env: AwsEnvironment, queue: str) -> int:
    sqs = await env.cloud.client("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = (await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names))["Attributes"]
    return sum(int(attributes[name]) for name in names)


@pytest.mark.slow
async def test_invalid_event_is_deleted_and_the_next_is_read(env: AwsEnvironment, queue: str) -> None:
    board = await board_of(env, queue)
    sqs = await env.cloud.client("sqs")
    for text in ("", "{", "[]", '{"detail-type": 7}', json.dumps({"detail-type": WARNING, "detail": "i-1"})):
        await sqs.send_message(QueueUrl=queue, MessageBody=text or " ")
    await warn(env.cloud, "i-1")
    await wait_until(2 * NOTICE_S, lambda: board.notices_for({"i-1"}))
    async with patience(NOTICE_S):
        while await remaining_messages(env, queue):  # noqa: ASYNC110 - a queue has no event
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_pools_share_one_notice_queue_reader(env: AwsEnvironment, queue: str) -> None:
    for name in ("a", "b", "c"):
        env.world.groups[name] = Group(name, (A,))
        await env.open(Asg, group=name, notices=env.notices(queue))
    await wait_until(NOTICE_S, lambda: env.endpoint.count("sqs:ReceiveMessage"))
    await asyncio.sleep(0.1)
    assert env.endpoint.count("sqs:ReceiveMessage") == 1


async def test_missing_notice_queue_does_not_fail_the_pool(env: AwsEnvironment) -> None:
    pool = await pool_of(env, f"{env.cloud.url}/123456789012/nowhere")
    assert (await read_status(pool)).ready == 2
    (listener,) = (await open_notices(env.context, env.account, pool._pool.notices)).listeners
    await wait_until(NOTICE_S, listener.failed_permit)
    assert (await read_status(pool)).ready == 2
    (denied,) = [p for p in await pool.permits() if p.granted is False]
    assert (denied.action, "nowhere" in denied.detail) == ("sqs:ReceiveMessage", True)


def test_event_in_an_sns_notification_is_unwrapped() -> None:
    event = {"detail-type": WARNING, "detail": {"instance-id": "i-1"}}
    assert parse_event(json.dumps({"Type": "Notification", "Message": json.dumps(event)})) == event
    assert parse_event(json.dumps({"Type": "Notification", "Message": "hello"})) == {}


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        ("eu-central-1", "arn:aws:sqs:eu-central-1:123456789012:events"),
        ("cn-north-1", "arn:aws-cn:sqs:cn-north-1:123456789012:events"),
        ("us-gov-west-1", "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:events"),
        (None, "arn:aws:sqs:*:123456789012:events"),
    ],
)
def test_notice_queue_permissions_are_checked_on_its_arn(region: str | None, arn: str) -> None:
    notices = AwsNotices(queue_url="https://sqs.example/123456789012/events")
    assert notices.actions(region) == {"sqs:DeleteMessage": arn, "sqs:ReceiveMessage": arn}
    assert AwsNotices().actions(region) == {}


# --- the metadata server


@pytest.fixture
async def own(env: AwsEnvironment) -> AsyncIterator[tuple[MetadataServer, NoticeBoard]]:
    async with metadata_server() as server:
        sources = await open_notices(env.context, env.account, AwsNotices(metadata=True, metadata_url=server.url))
        yield server, sources.board


@pytest.mark.slow
async def test_an_instance_reads_its_own_interruption_notice(own: tuple[MetadataServer, NoticeBoard]) -> None:
    server, board = own
    await wait_until(NOTICE_S, lambda: server.given)
    assert not board.notices_for({"i-0123456789abcdef0"})
    server.values["events/recommendations/rebalance"] = json.dumps({"noticeTime": "2026-11-27T12:00:00Z"})
    await wait_until(NOTICE_S, lambda: board.notices_for({"i-0123456789abcdef0"}))
    assert board.notices_for({"i-0123456789abcdef0"})["i-0123456789abcdef0"].kind == "rebalance"
    server.values["spot/instance-action"] = json.dumps({"action": "terminate", "time": "2026-11-27T12:02:00Z"})

    def interrupted() -> bool:
        return board.notices_for({"i-0123456789abcdef0"})["i-0123456789abcdef0"].kind == "interruption"

    await wait_until(NOTICE_S, interrupted)
    notice = board.notices_for({"i-0123456789abcdef0"})["i-0123456789abcdef0"]
    assert notice.interrupts_at == 1795780920.0


@pytest.mark.slow
async def test_rejected_metadata_token_is_replaced(own: tuple[MetadataServer, NoticeBoard]) -> None:
    server, board = own
    await wait_until(NOTICE_S, lambda: server.given)
    server.tokens.clear()
    server.values["spot/instance-action"] = json.dumps({"action": "stop", "time": "2026-11-27T12:02:00Z"})
    await wait_until(2 * NOTICE_S, lambda: board.notices_for({"i-0123456789abcdef0"}))
    assert server.given == 2


@pytest.mark.slow
async def test_busy_metadata_server_is_polled_again(env: AwsEnvironment) -> None:
    async with metadata_server() as server:
        server.busy = 2
        server.values["spot/instance-action"] = json.dumps({"action": "stop", "time": "2026-11-27T12:02:00Z"})
        sources = await open_notices(env.context, env.account, AwsNotices(metadata=True, metadata_url=server.url))
        await wait_until(3 * NOTICE_S, lambda: sources.board.notices_for({"i-0123456789abcdef0"}))


@pytest.mark.slow
async def test_notice_of_the_metadata_server_is_pending_in_the_pool(
    env: AwsEnvironment, own: tuple[MetadataServer, NoticeBoard]
) -> None:
    server, _ = own
    pool = await env.open(Asg, group="llm", notices=AwsNotices(metadata=True, metadata_url=server.url))
    env.world.groups["llm"].instances[0].id = "i-0123456789abcdef0"
    await read_status(pool)
    server.values["spot/instance-action"] = json.dumps({"action": "terminate", "time": "2026-11-27T12:02:00Z"})
    async with patience(NOTICE_S):
        status: PoolStatus = await settled(pool, lambda s: s.interruption_pending == 1)
    assert status.ready == 2


@pytest.mark.slow
async def test_notice_polling_continues_after_a_throttle(env: AwsEnvironment, queue: str) -> None:
    env.endpoint.faults["sqs"] = Refusal("RequestThrottled", "Slow down.", 403, retry_after_s=0.2)
    board = await board_of(env, queue)
    await wait_until(NOTICE_S, lambda: env.endpoint.count("sqs:ReceiveMessage") > 1)
    env.endpoint.faults.clear()
    await warn(env.cloud, "i-1")
    await wait_until(2 * NOTICE_S, lambda: board.notices_for({"i-1"}))
