"""SQS: three kinds of messages, and an age from CloudWatch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from policies.model import Absent, Fresh, Stale
from policies.model.readings import grade
from scaler.adapters import open_source
from scaler.clouds.aws.account import AwsAccount
from scaler.config.kinds.aws_sources import Sqs
from scaler.ports import Misconfigured, Source, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S, NOW
from tests.fakes import ManualClock
from tests.servers import aws_fault
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_fault import Fault, Front, RecordedRequest, attributes, front, refusal

AGE = "ApproximateAgeOfOldestMessage"
GROUPS = "ApproximateNumberOfGroupsWithInflightMessages"
MINUTE = NOW - NOW % 60


@dataclass
class SourceEnvironment:
    """An account with a queue, a front before it, and a clock that tests advance."""

    aws: Aws
    front: Front
    resources: Resources
    clock: ManualClock
    queue: str

    async def open(self, queue: str | None = None, deadline_s: float = DEADLINE_S, **parameters: bool) -> Source:
        spec = Sqs(
            queue_url=queue or self.queue,
            account=AwsAccount(region=REGION, endpoint_url=self.front.url),
            **parameters,
        )
        return await open_source(spec, AdapterContext(self.resources, self.clock, deadline_s))


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[SourceEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws() as cloud, front(cloud.url) as aws_front, Resources() as resources:
        yield SourceEnvironment(cloud, aws_front, resources, ManualClock(), await cloud.queue("prompts"))


def value(reading: Fresh[float] | Absent) -> float:
    assert isinstance(reading, Fresh), reading
    return reading.value


async def values(source: Source) -> dict[str, float]:
    return {quantity: value(reading) for quantity, reading in (await source.sample()).items()}


@pytest.mark.slow
async def test_visible_in_flight_and_delayed_messages_are_separate(env: SourceEnvironment) -> None:
    source = await env.open()
    await env.aws.send(env.queue, 5)
    await env.aws.send(env.queue, 2, delay_s=600)
    await env.aws.receive(env.queue, 3)
    assert await values(source) == {"visible": 2, "in_flight": 3, "delayed": 2}


@pytest.mark.slow
async def test_deleted_message_is_not_counted_and_a_released_one_is_visible(env: SourceEnvironment) -> None:
    source = await env.open()
    await env.aws.send(env.queue, 3)
    done, given_up, _ = await env.aws.receive(env.queue, 3)
    await env.aws.delete(env.queue, done)
    sqs = await env.aws.client("sqs")
    await sqs.change_message_visibility(QueueUrl=env.queue, ReceiptHandle=given_up, VisibilityTimeout=0)
    assert await values(source) == {"visible": 1, "in_flight": 1, "delayed": 0}


async def test_fifo_queue_has_groups_in_flight_and_counts(env: SourceEnvironment) -> None:
    fifo = await env.aws.queue("ordered.fifo")
    for group in ("a", "b"):
        await env.aws.send(fifo, 3, group=group)
    await env.aws.receive(fifo, 1)
    env.aws.metric(fifo, GROUPS, 1, MINUTE - 60)
    readings = await values(await env.open(fifo, groups=True))
    assert readings == {"visible": 5, "in_flight": 1, "delayed": 0, "groups_in_flight": 1}


async def test_groups_of_a_standard_queue_are_refused() -> None:
    spec = Sqs(queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/prompts", groups=True)
    assert [field for field, _ in spec.problems()] == ["groups"]


async def test_a_queue_that_does_not_exist_is_misconfigured(env: SourceEnvironment) -> None:
    source = await env.open(env.queue + "-of-yesterday")
    with pytest.raises(Misconfigured, match=r"prompts-of-yesterday: .*NonExistentQueue"):
        await source.sample()


@pytest.mark.slow
@pytest.mark.parametrize("fault", aws_fault.FORBIDDEN.values(), ids=list(aws_fault.FORBIDDEN))
async def test_a_permanent_error_is_misconfigured_in_either_protocol(env: SourceEnvironment, fault: Fault) -> None:
    source = await env.open()
    env.front.faults["sqs"] = fault
    with pytest.raises(Misconfigured):
        await source.sample()


@pytest.mark.parametrize("fault", aws_fault.THROTTLES.values(), ids=list(aws_fault.THROTTLES))
async def test_throttle_has_a_retry_pause(env: SourceEnvironment, fault: Fault) -> None:
    source = await env.open()
    env.front.faults["sqs"] = fault
    with pytest.raises(Unavailable, match="hrottl") as refused:
        await source.sample()
    assert refused.value.retry_after_s == 5
    assert env.front.count("GetQueueAttributes") <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "text", "pause_s"),
    [
        ("Retry-After", "17", 17),
        ("x-amz-retry-after", "1500", 1.5),
        ("Retry-After", "86400", 60),
        ("Retry-After", "nan", 5),
        ("Retry-After", "-3", 5),
        ("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT", 5),
    ],
)
async def test_the_requested_pause_is_bounded(env: SourceEnvironment, header: str, text: str, pause_s: float) -> None:
    source = await env.open()
    env.front.faults["sqs"] = refusal(400, "ThrottlingException", "Rate exceeded", headers={header: text})
    with pytest.raises(Unavailable) as refused:
        await source.sample()
    assert refused.value.retry_after_s == pause_s


@pytest.mark.slow
@pytest.mark.parametrize("number", ["many", "", "7.5", "-1", "NaN", "Infinity", "1e400", True, None, [7], {"n": 7}])
async def test_invalid_count_is_absent_and_the_other_counts_are_read(env: SourceEnvironment, number: object) -> None:
    source = await env.open()
    env.front.faults["sqs"] = attributes(
        ApproximateNumberOfMessages=number,
        ApproximateNumberOfMessagesNotVisible="3",
        ApproximateNumberOfMessagesDelayed="0",
    )
    readings = await source.sample()
    assert isinstance(readings["visible"], Absent)
    assert value(readings["in_flight"]) == 3
    assert value(readings["delayed"]) == 0


async def test_missing_count_is_absent(env: SourceEnvironment) -> None:
    source = await env.open()
    env.front.faults["sqs"] = attributes(ApproximateNumberOfMessages="7")
    readings = await source.sample()
    assert value(readings["visible"]) == 7
    assert readings["delayed"] == Absent("the response has no ApproximateNumberOfMessagesDelayed")


@pytest.mark.slow
@pytest.mark.parametrize("fault", aws_fault.GARBAGE.values(), ids=list(aws_fault.GARBAGE))
async def test_malformed_response_is_unavailable(env: SourceEnvironment, fault: Fault) -> None:
    source = await env.open()
    env.front.faults["sqs"] = fault
    with pytest.raises(Unavailable):
        await source.sample()
    assert env.front.count("GetQueueAttributes") <= 2  # no retry storm: the next tick is the retry


async def test_counts_have_the_time_of_the_request(env: SourceEnvironment) -> None:
    def slowly(_: RecordedRequest) -> object:
        env.clock.advance(4)
        return attributes(ApproximateNumberOfMessages="7")(_)

    source = await env.open()
    env.front.faults["sqs"] = slowly  # type: ignore[assignment]
    assert (await source.sample())["visible"] == Fresh(7.0, NOW)


async def test_oldest_age_has_the_time_of_its_own_sample(env: SourceEnvironment) -> None:
    await env.aws.send(env.queue, 1)
    env.aws.metric(env.queue, AGE, 340, MINUTE - 240)
    env.aws.metric(env.queue, AGE, 100, MINUTE - 180)
    readings = await (await env.open(oldest_age=True)).sample()
    assert readings["oldest_age_s"] == Fresh(100.0, MINUTE - 180)
    assert isinstance(readings["visible"], Fresh)
    assert readings["visible"].measured_at == NOW


async def test_age_without_a_recent_sample_is_absent_and_not_zero(env: SourceEnvironment) -> None:
    await env.aws.send(env.queue, 1)
    env.aws.metric(env.queue, AGE, 340, NOW - 1800)
    age = (await (await env.open(oldest_age=True)).sample())["oldest_age_s"]
    none = "CloudWatch has no sample of a complete period in the last minutes"
    assert age == Absent(f"ApproximateAgeOfOldestMessage: {none}")


async def test_empty_queue_has_an_oldest_age_of_zero(env: SourceEnvironment) -> None:
    env.aws.metric(env.queue, AGE, 340, NOW - 700)
    assert (await (await env.open(oldest_age=True)).sample())["oldest_age_s"] == Fresh(0.0, NOW)


@pytest.mark.slow
async def test_cloudwatch_is_read_once_a_minute_for_all_metrics(env: SourceEnvironment) -> None:
    source = await env.open(await env.aws.queue("ordered.fifo"), oldest_age=True, groups=True)
    for _ in range(13):
        await source.sample()
        env.clock.advance(15)
    assert env.front.count("GetQueueAttributes") == 13
    assert env.front.count("GetMetricData") == 4  # at 0, 60, 120 and 180 s


async def test_the_ages_of_many_queues_are_read_in_one_call(env: SourceEnvironment) -> None:
    ages = {await env.aws.queue(f"queue-{i}"): float(10 * (i + 1)) for i in range(5)}
    for queue, age in ages.items():
        await env.aws.send(queue, 1)
        env.aws.metric(queue, AGE, age, MINUTE - 60)
    sources = [await env.open(queue, oldest_age=True) for queue in ages]
    results = await asyncio.gather(*(source.sample() for source in sources))
    assert [one["oldest_age_s"] for one in results] == [Fresh(age, MINUTE - 60) for age in ages.values()]
    assert env.front.count("GetMetricData") == 1


async def test_counts_do_not_read_cloudwatch(env: SourceEnvironment) -> None:
    await (await env.open()).sample()
    assert {a.service for a in env.front.requests} == {"sqs"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", aws_fault.CLOUDWATCH_TROUBLES.values(), ids=list(aws_fault.CLOUDWATCH_TROUBLES))
async def test_cloudwatch_fault_does_not_affect_the_counts(env: SourceEnvironment, fault: Fault) -> None:
    source = await env.open(oldest_age=True, deadline_s=6.0)
    await env.aws.send(env.queue, 2)
    env.front.faults["cloudwatch"] = fault
    async with asyncio.timeout(6.0):  # the controller's own timeout
        readings = await source.sample()
    assert readings["visible"] == Fresh(2.0, NOW)
    assert isinstance(readings["oldest_age_s"], Absent)


@pytest.mark.slow
async def test_age_becomes_stale_in_an_outage_and_recovers(env: SourceEnvironment) -> None:
    source = await env.open(oldest_age=True)
    await env.aws.send(env.queue, 1)
    env.aws.metric(env.queue, AGE, 30, MINUTE - 60)
    known = (await source.sample())["oldest_age_s"]
    env.front.faults["cloudwatch"] = aws_fault.CLOUDWATCH_TROUBLES["503"]
    env.clock.advance(600)
    reading = (await source.sample())["oldest_age_s"]
    assert reading == known == Fresh(30.0, MINUTE - 60)
    assert isinstance(reading, Fresh)
    assert isinstance(grade(reading, 300.0, env.clock.now(), "", failed=False), Stale)
    env.front.faults.clear()
    env.clock.advance(60)
    env.aws.metric(env.queue, AGE, 700, MINUTE + 600)
    assert (await source.sample())["oldest_age_s"] == Fresh(700.0, MINUTE + 600)
