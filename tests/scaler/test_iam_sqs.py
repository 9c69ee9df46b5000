"""The IAM policy that we publish for SQS: it is enough, and there is nothing in it to spare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh
from scaler.clock import SystemClock
from scaler.clouds.account import AwsAccount
from scaler.ports import Misconfigured
from scaler.resources import Opening, Resources
from scaler.sources.sqs import Sqs
from tests.servers.aws import REGION, aws, isolate
from tests.servers.aws_fault import Front, front

FILE = Path(__file__).parents[2] / "config" / "deploy" / "iam-sqs.json"
POLICY: dict[str, Any] = json.loads(FILE.read_text())
GRANTED = [statement["Action"] for statement in POLICY["Statement"]]


async def sample_as(
    monkeypatch: pytest.MonkeyPatch, tmp: Path, actions: list[str]
) -> tuple[dict[str, Fresh[float] | Absent], Front]:
    """What a FIFO queue with all that we can read gives to a user with these actions alone, and what was asked."""
    async with aws() as cloud, front(cloud.url) as words, Resources() as resources:
        queue = await cloud.queue("ordered.fifo")
        key, secret = await cloud.user(actions)
        isolate(monkeypatch, tmp, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        account = AwsAccount(region=REGION, endpoint_url=words.url)
        spec = Sqs(queue_url=queue, account=account, oldest_age=True, groups=True)
        clock = SystemClock()
        for metric in ("ApproximateAgeOfOldestMessage", "ApproximateNumberOfGroupsWithInflightMessages"):
            cloud.metric(queue, metric, 5, clock.now() - 120)
        async with cloud.strangers_refused():
            source = await spec.open(Opening(resources, clock, 5.0))
            return dict(await source.sample()), words


async def test_the_policy_is_enough_for_all_that_we_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, _ = await sample_as(monkeypatch, tmp_path, GRANTED)
    assert {q for q, reading in found.items() if isinstance(reading, Fresh)} == {
        "visible",
        "in_flight",
        "delayed",
        "oldest_age_s",
        "groups_in_flight",
    }


async def test_the_policy_grants_exactly_what_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, words = await sample_as(monkeypatch, tmp_path, GRANTED)
    assert sorted({f"{a.service}:{a.operation}" for a in words.asked}) == sorted(GRANTED)


async def test_without_leave_to_count_it_is_misconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="AccessDenied"):
        await sample_as(monkeypatch, tmp_path, ["cloudwatch:GetMetricData"])


async def test_without_leave_for_metrics_the_counts_still_come(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, _ = await sample_as(monkeypatch, tmp_path, ["sqs:GetQueueAttributes"])
    assert isinstance(found["visible"], Fresh)
    assert isinstance(age := found["oldest_age_s"], Absent)
    assert "AccessDenied" in age.reason


def test_reading_the_queue_s_count_is_granted_for_named_queues_only() -> None:
    by_action = {s["Action"]: s["Resource"] for s in POLICY["Statement"]}
    assert by_action["sqs:GetQueueAttributes"].startswith("arn:aws:sqs:")
    assert "*" not in by_action["sqs:GetQueueAttributes"]
    assert by_action["cloudwatch:GetMetricData"] == "*"  # CloudWatch knows no narrower grant for it
