"""A bucket of Cloud Storage: configuration only, no SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.object_storage import PREFIX, PREFIX_DOC


@dataclass(frozen=True, kw_only=True)
class GcsBucket:
    """Bucket of Google Cloud Storage."""

    bucket: Annotated[
        str,
        FieldMetadata(
            "Name of the bucket.",
            pattern=Pattern(
                r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$",
                "a bucket's name: lower-case letters, digits, dots, hyphens and underscores",
            ),
            example="llm-forescale",
        ),
    ]
    prefix: Annotated[str, FieldMetadata(PREFIX_DOC, pattern=PREFIX)] = "forescale/"
    project: Annotated[GcpProject, FieldMetadata("Google Cloud project and credentials.")]
