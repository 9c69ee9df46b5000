"""Account, region and interruption notices of an AWS adapter: configuration only, no SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata, Pattern


@dataclass(frozen=True, kw_only=True)
class AwsAccount:
    """AWS account and region. Adapters with equal settings share one session."""

    region: Annotated[
        str | None,
        FieldMetadata(
            "AWS region. Default: null, the SDK's region (AWS_REGION or the profile).",
            pattern=Pattern(r"^[a-z]{2}(-[a-z]+)+-[0-9]$", "an AWS region"),
            example="us-east-1",
        ),
    ] = None
    profile: Annotated[
        str | None, FieldMetadata("Profile in the AWS configuration files. Default: null, the SDK's default profile.")
    ] = None
    endpoint_url: Annotated[
        str | None,
        FieldMetadata(
            "URL of another endpoint, such as a VPC endpoint or a test server. Default: null, the public AWS endpoint.",
            pattern=Pattern(
                r"^https?://[^/@\s?#]+(/[^@\s?#]*)?$", "an http:// or https:// URL without user, password and query"
            ),
        ),
    ] = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """Region, profile and endpoint, as far as configuration and environment name them.

        Equal ones are one place.
        """
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        profile = self.profile or os.environ.get("AWS_PROFILE") or "default"
        return region, profile, (self.endpoint_url or "").rstrip("/").lower()


@dataclass(frozen=True, kw_only=True)
class AwsNotices:
    """Sources of interruption notices and rebalance recommendations."""

    queue_url: Annotated[
        str | None,
        FieldMetadata(
            "SQS queue that receives interruption warnings from EventBridge. Only this daemon may read it, since it"
            " deletes what it reads. Default: null, none.",
            pattern=Pattern(r"^https?://[^/@\s?#]+/[0-9]+/[A-Za-z0-9_-]{1,80}$", "the URL of an SQS standard queue"),
            example="https://sqs.us-east-1.amazonaws.com/123456789012/spot-notices",
        ),
    ] = None
    metadata: Annotated[
        bool,
        FieldMetadata(
            "Poll the instance metadata service (IMDSv2) once a second. It reports only the instance that this daemon"
            " runs on. Default: false."
        ),
    ] = False
    metadata_url: Annotated[
        str,
        FieldMetadata(
            "URL of the instance metadata service. Default: the EC2 link-local address.",
            pattern=Pattern(r"^https?://[^/@\s?#]+$", "an http:// or https:// URL without user, password and path"),
        ),
    ] = "http://169.254.169.254"

    def actions(self, region: str | None) -> dict[str, str]:
        """Return the IAM actions that listening needs, each with the queue's ARN."""
        if self.queue_url is None:
            return {}
        account, name = self.queue_url.rsplit("/", 2)[1:]
        arn = f"arn:{partition(region)}:sqs:{region or '*'}:{account}:{name}"
        return {"sqs:DeleteMessage": arn, "sqs:ReceiveMessage": arn}

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.queue_url and self.queue_url.endswith(".fifo"):
            yield "queue_url", "must be a standard queue: EventBridge does not send these events to a FIFO queue"


def partition(region: str | None) -> str:
    """Return a region's partition in ARNs: `aws-cn` for `cn-north-1`, `aws` for `us-east-1`."""
    for prefix, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region is not None and region.startswith(prefix):
            return name
    return "aws"
