"""The objects of an installation in a Cloud Storage bucket, by its JSON API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from scaler.clouds.gcp import session
from scaler.clouds.gcp.bucket import GcsBucket
from scaler.clouds.gcp.errors import SNAPSHOT_ROLE
from scaler.clouds.object_storage import too_many
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.ports import Context, Permit

MAX_PAGES: Final = 50
"""Maximum pages of a list, each with 1,000 objects."""
PERMISSIONS: Final = tuple(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list"))
"""Permissions on the bucket. A replaced object is a deleted and a created one."""


async def open_objects(spec: GcsBucket, installation: str, context: Context) -> GcsObjects:
    """Open the objects of an installation, without a call. Raises `Misconfigured`."""
    return GcsObjects(await session.service(context, spec.project, "storage"), spec, installation)


class GcsObjects:
    """The objects of an installation in a bucket."""

    def __init__(self, storage: session.GcpService, spec: GcsBucket, installation: str) -> None:
        self._storage = storage
        self._bucket = spec.bucket
        self._prefix = f"{spec.prefix}{installation}/"

    async def sizes(self, beginning: str) -> Mapping[str, int]:
        query = {"prefix": self._prefix + beginning, "fields": "items(name,size),nextPageToken"}
        sizes: dict[str, int] = {}
        for _ in range(MAX_PAGES):
            path = f"/storage/v1/b/{self._bucket}/o"
            page = await self._storage.call("storage.objects.list", path, self._bucket, query=query)
            with unavailable_if_malformed("a list of objects"):
                items = page.get("items", ())  # an empty list has none
                sizes |= {item["name"].removeprefix(self._prefix): int(item["size"]) for item in items}
            if not page.get("nextPageToken"):
                return sizes
            query["pageToken"] = str(page["nextPageToken"])
        raise too_many(f"gs://{self._bucket}/{self._prefix}")

    async def get(self, name: str) -> bytes:
        return await self._storage.content("storage.objects.get", self._path(name), name, query={"alt": "media"})

    async def put(self, name: str, content: bytes) -> None:
        path = f"/upload/storage/v1/b/{self._bucket}/o"
        query = {"uploadType": "media", "name": self._prefix + name}
        await self._storage.content("storage.objects.create", path, name, query=query, sent=content)

    async def delete(self, name: str) -> None:
        await self._storage.call("storage.objects.delete", self._path(name), name, method="DELETE", repeat=True)

    async def permits(self) -> Sequence[Permit]:
        query = "&".join(f"permissions={permission}" for permission in PERMISSIONS)
        path = f"/storage/v1/b/{self._bucket}/iam/testPermissions?{query}"
        response = await self._storage.call("testIamPermissions", path, self._bucket)
        with unavailable_if_malformed("GCP testIamPermissions"):
            granted = set(map(str, response.get("permissions", ())))
        detail = f"not granted on gs://{self._bucket}; grant it with the role in {SNAPSHOT_ROLE}"
        return [Permit(p, p in granted, "" if p in granted else detail) for p in PERMISSIONS]

    def _path(self, name: str) -> str:
        return f"/storage/v1/b/{self._bucket}/o/{quote(self._prefix + name, safe='')}"
