"""The objects of an installation in an S3 bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import BotoCoreError

from scaler.clouds.aws import session
from scaler.clouds.aws.account import partition
from scaler.clouds.aws.bucket import S3Bucket
from scaler.clouds.aws.permissions import check_permissions
from scaler.clouds.object_storage import too_many
from scaler.clouds.response_validation import one_line, unavailable_if_malformed
from scaler.ports import Context, Permit, Unavailable

MAX_PAGES: Final = 50
"""Maximum pages of a list, each with 1,000 objects."""


async def open_objects(spec: S3Bucket, installation: str, context: Context) -> S3Objects:
    """Open the objects of an installation, without a call."""
    return S3Objects(spec, installation, context)


class S3Objects:
    """The objects of an installation in a bucket.

    The first call opens the client: a start does not wait for credentials.
    """

    def __init__(self, spec: S3Bucket, installation: str, context: Context) -> None:
        self._spec = spec
        self._prefix = f"{spec.prefix}{installation}/"
        self._context = context

    async def sizes(self, beginning: str) -> Mapping[str, int]:
        request: dict[str, Any] = {"Prefix": self._prefix + beginning}
        sizes: dict[str, int] = {}
        for _ in range(MAX_PAGES):
            page = await self._call("ListObjectsV2", **request)
            with unavailable_if_malformed("a list of objects"):
                sizes |= {o["Key"].removeprefix(self._prefix): int(o["Size"]) for o in page.get("Contents", ())}
            if not page.get("NextContinuationToken"):
                return sizes
            request["ContinuationToken"] = page["NextContinuationToken"]
        raise too_many(f"s3://{self._spec.bucket}/{self._prefix}")

    async def get(self, name: str) -> bytes:
        response = await self._call("GetObject", Key=self._prefix + name)
        try:
            content: bytes = await response["Body"].read()
        except BotoCoreError as e:  # the body is shorter than its length, or its checksum differs
            raise Unavailable(f"AWS s3:GetObject of {name}: {type(e).__name__}: {one_line(e)}") from e
        return content

    async def put(self, name: str, content: bytes) -> None:
        await self._call("PutObject", Key=self._prefix + name, Body=content, ContentType="text/plain")

    async def delete(self, name: str) -> None:
        await self._call("DeleteObject", Key=self._prefix + name)

    async def permits(self) -> Sequence[Permit]:
        await self.sizes("")
        bucket = f"arn:{partition(self._spec.account.region)}:s3:::{self._spec.bucket}"
        objects = f"{bucket}/{self._prefix}*"
        actions = {f"s3:{verb}Object": objects for verb in ("Delete", "Get", "Put")}
        return await check_permissions(self._context, self._spec.account, {**actions, "s3:ListBucket": bucket})

    async def _call(self, operation: str, **request: Any) -> Any:
        """Return the response to a call, which a repetition does not change. Raises port errors."""
        s3 = await session.service(self._context, "s3", self._spec.account)
        return await s3.call(operation, self._spec.bucket, repeat=True, Bucket=self._spec.bucket, **request)
