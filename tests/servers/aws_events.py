"""Events about machines, through moto's EventBridge to a queue, by the published rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.servers.aws import ACCOUNT, REGION, Aws

PATTERN: Final = Path(__file__).parents[2] / "config" / "deploy" / "aws-events.json"
WARNING: Final = "EC2 Spot Instance Interruption Warning"
REBALANCE: Final = "EC2 Instance Rebalance Recommendation"


async def event_queue(cloud: Aws, name: str = "interruptions") -> str:
    """Create a queue as the published rule's target; return its URL."""
    queue = await cloud.queue(name)
    events = await cloud.client("events")
    await events.put_rule(Name=name, EventPattern=PATTERN.read_text())
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
    await events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn}])
    return queue


async def warn(cloud: Aws, machine: str, kind: str = WARNING) -> None:
    """Send EC2's event of this kind about an instance."""
    await put_event(cloud, "aws.ec2", kind, {"instance-id": machine, "instance-action": "terminate"})


async def put_event(cloud: Aws, source: str, kind: str, detail: dict[str, Any]) -> None:
    events = await cloud.client("events")
    entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}
    answer = await events.put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0, answer
