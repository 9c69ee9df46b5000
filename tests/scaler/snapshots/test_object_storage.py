"""Snapshots in object storage: permissions, objects that vanish, and damaged responses."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from policies.model import WorkloadName
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.bucket import S3Bucket
from scaler.clouds.azure.blob_container import BlobContainer
from scaler.clouds.gcp.bucket import GcsBucket
from scaler.config.daemon import DaemonSpec
from scaler.config.high_availability import HighAvailability
from scaler.config.snapshots import SnapshotSettings
from scaler.diagnostics import check_settings
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from scaler.snapshots.codec import MAX_CHARS
from scaler.snapshots.objects import FEW, SnapshotObjects
from scaler.snapshots.opening import open_snapshots, snapshot_permits
from scaler.telemetry.health import Health
from tests.factories import DEADLINE_S
from tests.scaler.snapshots.places import AZURE_ACTIONS, GCP_PERMISSIONS, PLACES
from tests.servers import gcp_storage
from tests.servers.aws import REGION
from tests.servers.aws_buckets import BUCKET, FIRST, granted, keys, snapshot_bucket
from tests.servers.aws_compute import compute
from tests.servers.aws_fault import front
from tests.servers.aws_world import World
from tests.servers.azure_blob import CONTAINER, blob_server
from tests.servers.gcp import gcp

pytestmark = pytest.mark.slow
LLM = WorkloadName("llm")
MANY = [WorkloadName(f"llm-{n}") for n in range(FEW + 1)]


@asynccontextmanager
async def store_in(settings: SnapshotSettings, installation: str = "forescale") -> AsyncIterator[SnapshotObjects]:
    """Open the configured store of an installation."""
    daemon = DaemonSpec(snapshots=settings, ha=HighAvailability(name=installation))
    async with Resources() as resources:
        clock = SystemClock()
        snapshots = await open_snapshots(daemon, AdapterContext(resources, clock, 60.0), Health({}, clock))
        assert snapshots is not None
        assert isinstance(snapshots._store, SnapshotObjects)
        yield snapshots._store


async def test_installations_share_a_bucket_and_many_workloads_are_one_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with snapshot_bucket(monkeypatch, tmp_path) as (cloud, bucket), front(cloud.url) as proxy:
        behind = S3Bucket(bucket=BUCKET, account=AwsAccount(region=REGION, endpoint_url=proxy.url))
        async with (
            store_in(SnapshotSettings(s3=behind)) as store,
            store_in(SnapshotSettings(s3=bucket), "other") as other,
        ):
            for workload in MANY:
                await store.write(workload, "a", str(workload))
            proxy.requests.clear()
            read = await store.read([*MANY[1:], LLM])
            assert {stored.workload: stored.text for stored in read} == {name: str(name) for name in MANY[1:]}
            assert len(proxy.requests) == 1 + len(MANY[1:])  # one list, and each wanted object
            assert await other.read(MANY) == []
            assert keys() == {FIRST, *(f"forescale/forescale/{name}@a.snapshot" for name in MANY)}


async def test_lists_have_several_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "4")
    (tmp_path / "azure").mkdir()
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(gcp(tmp_path))
        server = await stack.enter_async_context(blob_server(tmp_path / "azure"))
        bucket = (await stack.enter_async_context(snapshot_bucket(monkeypatch, tmp_path)))[1]
        cloud.storage.page = server.page = 4
        container = BlobContainer(account_url=server.url, container=CONTAINER, account=server.cloud.account())
        for settings in (
            SnapshotSettings(s3=bucket),
            SnapshotSettings(gcs=GcsBucket(bucket=gcp_storage.BUCKET, project=cloud.project())),
            SnapshotSettings(azure_blob=container),
        ):
            store = await stack.enter_async_context(store_in(settings))
            for workload in MANY:
                await store.write(workload, "a", str(workload))
            assert {stored.workload for stored in await store.read(MANY)} == set(MANY)


async def use(store: SnapshotObjects) -> None:
    """Call each method."""
    await store.read([WorkloadName("first")])
    await store.write(LLM, "b", "text")
    await store.delete(LLM, "b")


NEEDED = [
    *(("s3", action) for action in granted()),
    *(("gcs", permission) for permission in GCP_PERMISSIONS),
    *(("azure_blob", action) for action in AZURE_ACTIONS),
]


@pytest.mark.parametrize(("place", "action"), NEEDED)
async def test_each_published_action_is_needed_and_its_lack_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, action: str
) -> None:
    async with PLACES[place](monkeypatch, tmp_path, action) as settings, store_in(settings) as store:
        with pytest.raises(Misconfigured, match=rf"{action}\b"):
            await use(store)


@pytest.mark.parametrize("place", PLACES)
async def test_object_that_was_deleted_after_the_list_has_no_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    async with PLACES[place](monkeypatch, tmp_path) as settings, store_in(settings) as store:
        assert (await store._stored("llm@a.snapshot", MAX_CHARS)).text is None
        assert (await store._stored("first@a.snapshot", MAX_CHARS)).text == "text"


@pytest.mark.parametrize("place", PLACES)
async def test_missing_bucket_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    async with PLACES[place](monkeypatch, tmp_path) as settings:
        spec = getattr(settings, place)
        field = "container" if place == "azure_blob" else "bucket"
        other = dataclasses.replace(spec, **{field: "another-bucket"})
        async with store_in(dataclasses.replace(settings, **{place: other})) as store:
            with pytest.raises(Misconfigured, match=r"NoSuchBucket|ContainerNotFound|bucket does not exist"):
                await store.read([LLM])


@pytest.mark.parametrize("sent", ["part of it", "another text"])
async def test_content_with_another_checksum_or_length_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sent: str
) -> None:
    async with snapshot_bucket(monkeypatch, tmp_path) as (cloud, _), front(cloud.url) as proxy:
        headers = {"x-amz-checksum-crc32": "AAAAAA=="}  # that of an empty object
        proxy.faults["s3"] = lambda _: web.Response(body=sent.encode(), headers=headers)
        behind = S3Bucket(bucket=BUCKET, account=AwsAccount(region=REGION, endpoint_url=proxy.url))
        async with store_in(SnapshotSettings(s3=behind)) as store:
            with pytest.raises(Unavailable, match="Checksum"):
                await store._objects.get("llm@a.snapshot")


@pytest.mark.parametrize("missing", ["", "s3:PutObject"])
async def test_live_check_names_the_missing_action(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    async with snapshot_bucket(monkeypatch, tmp_path) as (cloud, bucket):
        own = {"iam:SimulatePrincipalPolicy", "sts:GetCallerIdentity"}
        world = World(granted=frozenset({*granted(), *own} - {missing}))
        async with compute(world, cloud.url) as endpoint:
            account = AwsAccount(region=REGION, endpoint_url=endpoint.url)
            settings = SnapshotSettings(s3=S3Bucket(bucket=bucket.bucket, account=account))
            (check,) = await check_settings(DaemonSpec(snapshots=settings), SystemClock())
    assert check.error == ""
    assert {permit.action for permit in check.permits} == set(granted())
    assert {permit.action for permit in check.permits if not permit.granted} == {missing} - {""}
    assert check.ok == (not missing)


async def test_live_check_of_the_other_clouds_names_missing_permissions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place, without, granted_as in (
        ("gcs", GCP_PERMISSIONS[0], {*zip(GCP_PERMISSIONS, (False, True, True, True), strict=True)}),
        ("azure_blob", "", {*zip(AZURE_ACTIONS, (True, None, None), strict=True)}),
    ):
        async with PLACES[place](monkeypatch, tmp_path, without) as settings:
            (check,) = await check_settings(DaemonSpec(snapshots=settings), SystemClock())
        assert check.error == ""
        assert {(permit.action, permit.granted) for permit in check.permits} == granted_as


async def test_live_check_of_a_directory_names_the_one_that_exists(tmp_path: Path) -> None:
    settings = SnapshotSettings(directory=str(tmp_path / "new" / "shared"))
    async with Resources() as resources:
        context = AdapterContext(resources, SystemClock(), DEADLINE_S)
        permits = await snapshot_permits(DaemonSpec(snapshots=settings), context)
    assert [(p.action, p.granted) for p in permits] == [(f"read {tmp_path}", True), (f"write to {tmp_path}", True)]
