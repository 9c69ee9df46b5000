"""Account, region and interruption notices of an AWS adapter: configuration only, no SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata


@dataclass(frozen=True, kw_only=True)
class AwsAccount:
    """One session is shared by all adapters whose account is equal."""

    region: Annotated[
        str | None,
        FieldMetadata(
            "Region; null: the SDK's own (AWS_REGION, profile).",
            pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$",
            example="us-east-1",
        ),
    ] = None
    profile: Annotated[str | None, FieldMetadata("Profile of the AWS configuration files; null: the default.")] = None
    endpoint_url: Annotated[
        str | None,
        FieldMetadata(
            "Another endpoint (a VPC endpoint, a test server); null: AWS's own.",
            pattern=r"^https?://[^/@\s?#]+(/[^@\s?#]*)?$",
        ),
    ] = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """Region, profile and endpoint, as far as configuration and environment name them. Equal ones are one place."""
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        profile = self.profile or os.environ.get("AWS_PROFILE") or "default"
        return region, profile, (self.endpoint_url or "").rstrip("/").lower()


@dataclass(frozen=True, kw_only=True)
class AwsNotices:
    """Where the cloud says what it will take."""

    queue_url: Annotated[
        str | None,
        FieldMetadata(
            "SQS queue that EventBridge sends warnings to, read and emptied by this daemon alone; null: none.",
            pattern=r"^https?://[^/@\s?#]+/[0-9]+/[A-Za-z0-9_-]{1,80}$",
        ),
    ] = None
    metadata: Annotated[
        bool, FieldMetadata("Ask the metadata server (IMDSv2) of the instance that this daemon runs on, once a second.")
    ] = False
    metadata_url: Annotated[str, FieldMetadata("Address of the metadata server.", pattern=r"^https?://[^/@\s?#]+$")] = (
        "http://169.254.169.254"
    )

    def actions(self, region: str | None) -> dict[str, str]:
        """Return the IAM actions that listening needs, each with the queue's ARN."""
        if self.queue_url is None:
            return {}
        account, name = self.queue_url.rsplit("/", 2)[1:]
        arn = f"arn:{partition(region)}:sqs:{region or '*'}:{account}:{name}"
        return {"sqs:DeleteMessage": arn, "sqs:ReceiveMessage": arn}

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.queue_url and self.queue_url.endswith(".fifo"):
            yield "queue_url", "EventBridge sends these events to a standard queue, not to a FIFO one"


def partition(region: str | None) -> str:
    """Return a region's partition in ARNs: `aws-cn` for `cn-north-1`, `aws` for `us-east-1`."""
    for prefix, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region is not None and region.startswith(prefix):
            return name
    return "aws"
