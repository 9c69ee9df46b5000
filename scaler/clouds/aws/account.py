"""Which account and region an AWS adapter talks to: configuration only, no SDK."""

from __future__ import annotations

import os
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
        """Region, profile and endpoint as far as configuration and environment tell them: equal ones are one place."""
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        profile = self.profile or os.environ.get("AWS_PROFILE") or "default"
        return region, profile, (self.endpoint_url or "").rstrip("/").lower()
