"""A bucket of S3 on moto's server, and a user with the published permissions on it only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from moto.s3.models import s3_backends

from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.bucket import S3Bucket
from tests.servers.aws import ACCOUNT, REGION, Aws, aws, isolate

BUCKET: Final = "llm-snapshots"
FIRST: Final = "forescale/forescale/first@a.snapshot"
"""Key of the bucket's first object."""
POLICY: Final = Path(__file__).parents[2] / "config" / "deploy" / "aws-snapshots.json"


def keys() -> set[str]:
    """Return the keys of all objects of the bucket."""
    return set(s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys)


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
    """Create a bucket with one snapshot, and check keys, signatures and actions of a user with the policy.

    `without` is an action that the user lacks.
    """
    async with aws() as cloud:
        s3 = await cloud.client("s3")
        await s3.create_bucket(Bucket=BUCKET)
        await s3.put_object(Bucket=BUCKET, Key=FIRST, Body=b"text")
        key, secret = await cloud.user([action for action in granted() if action != without])
        isolate(monkeypatch, folder, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
        async with cloud.authentication_enforced():
            yield cloud, S3Bucket(bucket=BUCKET, account=AwsAccount(region=REGION, endpoint_url=cloud.url))
