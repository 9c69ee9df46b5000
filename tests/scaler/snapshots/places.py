"""An empty place for snapshots in each cloud's object storage, with the published permissions only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import yaml

from scaler.clouds.azure.blob_container import BlobContainer
from scaler.clouds.gcp.bucket import GcsBucket
from scaler.config.snapshots import SnapshotSettings
from tests.servers.aws_buckets import snapshot_bucket
from tests.servers.azure_blob import CONTAINER, blob_server
from tests.servers.gcp import gcp
from tests.servers.gcp_storage import BUCKET

DEPLOY: Final = Path(__file__).parents[3] / "config" / "deploy"
GCP_PERMISSIONS: Final = tuple(yaml.safe_load((DEPLOY / "gcp-snapshots-role.yaml").read_text())["includedPermissions"])
AZURE_ACTIONS: Final = tuple(json.loads((DEPLOY / "azure-snapshots-role.json").read_text())["DataActions"])


@asynccontextmanager
async def s3(monkeypatch: pytest.MonkeyPatch, folder: Path, without: str = "") -> AsyncIterator[SnapshotSettings]:
    async with snapshot_bucket(monkeypatch, folder, without) as (_, bucket):
        yield SnapshotSettings(s3=bucket)


@asynccontextmanager
async def gcs(_: pytest.MonkeyPatch, folder: Path, without: str = "") -> AsyncIterator[SnapshotSettings]:
    async with gcp(folder) as cloud:
        cloud.permit(set(GCP_PERMISSIONS) - {without})
        cloud.storage.objects["forescale/forescale/first@a.snapshot"] = b"text"
        yield SnapshotSettings(gcs=GcsBucket(bucket=BUCKET, project=cloud.project()))


@asynccontextmanager
async def azure_blob(_: pytest.MonkeyPatch, folder: Path, without: str = "") -> AsyncIterator[SnapshotSettings]:
    async with blob_server(folder) as server:
        server.cloud.granted = tuple(action for action in AZURE_ACTIONS if action != without)
        server.blobs["forescale/forescale/first@a.snapshot"] = b"text"
        account = server.cloud.account()
        yield SnapshotSettings(azure_blob=BlobContainer(account_url=server.url, container=CONTAINER, account=account))


Place = Callable[..., AbstractAsyncContextManager[SnapshotSettings]]
PLACES: Final[dict[str, Place]] = {"s3": s3, "gcs": gcs, "azure_blob": azure_blob}
"""Each has one object, the snapshot `text` of the workload `first` by `a`. `without` is a permission that it lacks."""
