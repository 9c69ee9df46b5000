"""A container of Azure Blob Storage: configuration only, no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.azure.account import ORIGIN, AzureAccount
from scaler.clouds.object_storage import PREFIX, PREFIX_DOC


@dataclass(frozen=True, kw_only=True)
class BlobContainer:
    """Container of Azure Blob Storage."""

    account_url: Annotated[
        str,
        FieldMetadata(
            "URL of the storage account.", pattern=ORIGIN, example="https://llmforescale.blob.core.windows.net"
        ),
    ]
    container: Annotated[
        str,
        FieldMetadata(
            "Name of the container.",
            pattern=Pattern(
                r"^[a-z0-9](-?[a-z0-9]){2,62}$", "a container's name: 3 to 63 lower-case letters, digits and hyphens"
            ),
            example="snapshots",
        ),
    ]
    prefix: Annotated[str, FieldMetadata(PREFIX_DOC, pattern=PREFIX)] = "forescale/"
    account: Annotated[AzureAccount, FieldMetadata("Azure identity. It needs no subscription.")] = field(
        default_factory=AzureAccount
    )
