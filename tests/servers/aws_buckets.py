"""A bucket of S3 on moto's server, and a user with the published permissions on it only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from scaler.clouds.aws.account import AwsAccount
from scaler.config.snapshots import S3Bucket
from tests.servers.aws import REGION, Aws, aws, isolate

BUCKET: Final = "llm-snapshots"
POLICY: Final = Path(__file__).parents[2] / "config" / "deploy" / "aws-snapshots.json"


def granted() -> list[str]:
    """Return the actions of the published policy."""
    actions: list[str] = []
    for statement in json.loads(POLICY.read_text())["Statement"]:
        listed = statement["Action"]
        actions += [listed] if isinstance(listed, str) else listed
    return actions


@asynccontextmanager
async def snapshot_bucket(
    monkeypatch: pytest.MonkeyPatch, folder: Path, without: str = ""
) -> AsyncIterator[tuple[Aws, S3Bucket]]:
    """Create a bucket, and check the keys, signatures and actions of a user with the policy.

    `without` is an action that the user lacks.
    """
    async with aws() as cloud:
        await (await cloud.client("s3")).create_bucket(Bucket=BUCKET)
        key, secret = await cloud.user([action for action in granted() if action != without])
        isolate(monkeypatch, folder, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        async with cloud.authentication_enforced():
            yield cloud, S3Bucket(bucket=BUCKET, account=AwsAccount(region=REGION, endpoint_url=cloud.url))
