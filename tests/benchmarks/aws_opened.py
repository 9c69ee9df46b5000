"""Opens AWS clients on import, as the daemon does: their service models, above all EC2's, use more memory than code."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from scaler.clock import SystemClock
from scaler.clouds.aws import session
from scaler.clouds.aws.account import AwsAccount
from scaler.shared_resources import AdapterContext, Resources

SERVICES: Final = (
    "application-autoscaling",
    "autoscaling",
    "bedrock",
    "cloudwatch",
    "ec2",
    "eks",
    "sagemaker",
    "sqs",
)
NOWHERE: Final = AwsAccount(region="us-east-1", endpoint_url="http://127.0.0.1:9")


async def _open() -> None:
    async with Resources() as resources:
        for service in SERVICES:
            await session.service(AdapterContext(resources, SystemClock(), 10.0), service, NOWHERE)


os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
asyncio.run(_open())
