"""A bucket of Amazon S3: configuration only, no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.object_storage import PREFIX, PREFIX_DOC


@dataclass(frozen=True, kw_only=True)
class S3Bucket:
    """Bucket of Amazon S3."""

    bucket: Annotated[
        str,
        FieldMetadata(
            "Name of the bucket.",
            pattern=Pattern(
                r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
                "a bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens",
            ),
            example="llm-forescale",
        ),
    ]
    prefix: Annotated[str, FieldMetadata(PREFIX_DOC, pattern=PREFIX)] = "forescale/"
    account: Annotated[AwsAccount, FieldMetadata("AWS account and region of the bucket.")] = field(
        default_factory=AwsAccount
    )
