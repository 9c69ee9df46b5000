"""Google Cloud credentials: keys, workload identity, expiring tokens; and the errors without them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from scaler.clouds.gcp.project import GcpProject
from scaler.config.kinds.gcp_pools import GceMig
from scaler.ports import Misconfigured, Unavailable
from tests.scaler.clouds.gcp_place import ZONES, GcpEnvironment, gcp_environment, read_status
from tests.servers.gcp import SUBJECT, account
from tests.servers.gcp_metadata import metadata
from tests.servers.site import listening
from tests.servers.tcp_fault import ProxyFault, free_port


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path) as environment:
        environment.mig()
        yield environment


@pytest.fixture(autouse=True)
def _no_ambient_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the credentials and metadata server of the machine that runs the tests."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def mig(project: GcpProject) -> GceMig:
    return GceMig(project=project, name="vllm", location=ZONES[0])


async def test_pools_share_the_token_of_a_service_account_key(env: GcpEnvironment) -> None:
    pools = [await env.pool(mig(env.cloud.project())) for _ in range(3)]
    await asyncio.gather(*(pool.status() for pool in pools))
    assert len(env.cloud.tokens) == 1


async def test_token_is_renewed_before_it_expires(env: GcpEnvironment) -> None:
    pool = await env.pool(mig(env.cloud.project()))
    await read_status(pool)
    env.clock.ahead_s += 0.75 * 3600
    await read_status(pool)
    assert len(env.cloud.tokens) == 1
    env.clock.ahead_s += 0.1 * 3600
    await read_status(pool)
    assert len(env.cloud.tokens) == 2


async def test_rejected_token_is_replaced(env: GcpEnvironment) -> None:
    pool = await env.pool(mig(env.cloud.project()))
    await read_status(pool)
    env.cloud.tokens[0] = "revoked"
    env.clock.ahead_s += 30
    assert (await pool.status()).value.ready == 2  # the read is retried once, with the new token
    assert len(env.cloud.tokens) == 2


async def test_permanently_rejected_token_is_misconfigured(env: GcpEnvironment) -> None:
    pool = await env.pool(mig(env.cloud.project()))
    env.cloud.refuse_tokens = True
    with pytest.raises(Misconfigured, match="invalid authentication credentials"):
        await pool.status()


async def test_unknown_service_account_key_is_misconfigured(env: GcpEnvironment) -> None:
    other_account = account(f"https://127.0.0.1:{env.cloud.port}/token", "stranger@my-project.iam")
    (env.cloud.folder / "sa.json").write_text(json.dumps(other_account))
    with pytest.raises(Misconfigured, match="invalid_grant"):
        await (await env.pool(mig(env.cloud.project()))).status()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "No such file"),
        ("{", "JSONDecodeError"),
        ('{"type": "authorized_user"}', "type must be service_account or external_account"),
        ('{"type": "service_account"}', "sa.json"),
    ],
    ids=["no file", "no JSON", "a person", "no key"],
)
async def test_invalid_credentials_file_is_misconfigured(env: GcpEnvironment, text: str | None, error: str) -> None:
    file = env.cloud.folder / "sa.json"
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(Misconfigured, match=error):
        await (await env.pool(mig(env.cloud.project()))).status()


@pytest.mark.parametrize("subject", [SUBJECT, "somebody else"])
async def test_federated_token_is_exchanged(env: GcpEnvironment, subject: str) -> None:
    token = env.cloud.folder / "subject"
    token.write_text(subject)
    federation = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/aws/providers/eks",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"https://127.0.0.1:{env.cloud.port}/sts",
        "credential_source": {"file": str(token)},
    }
    (env.cloud.folder / "sa.json").write_text(json.dumps(federation))
    pool = await env.pool(mig(env.cloud.project()))
    if subject == SUBJECT:
        assert (await read_status(pool)).ready == 2
        assert env.cloud.tokens == ["federated.0"]
    else:
        with pytest.raises(Misconfigured, match="invalid_grant"):
            await pool.status()


async def test_federation_with_an_executable_is_misconfigured(env: GcpEnvironment) -> None:
    source = {"executable": {"command": "/bin/true"}}
    (env.cloud.folder / "sa.json").write_text(json.dumps({"type": "external_account", "credential_source": source}))
    with pytest.raises(Misconfigured, match=r"sa\.json"):
        await (await env.pool(mig(env.cloud.project()))).status()


async def test_unreachable_token_endpoint_is_unavailable(env: GcpEnvironment) -> None:
    key = account(f"http://127.0.0.1:{free_port()}/token")
    (env.cloud.folder / "sa.json").write_text(json.dumps(key))
    pool = await env.pool(mig(env.cloud.project()))
    with pytest.raises(Unavailable):
        await pool.status()
    (env.cloud.folder / "sa.json").write_text(json.dumps(account(f"https://127.0.0.1:{env.cloud.port}/token")))


async def test_missing_credentials_are_misconfigured_with_a_remedy(env: GcpEnvironment) -> None:
    project = replace(env.cloud.project(), credentials_file=None)
    with pytest.raises(Misconfigured, match=r"workload identity; docs/how-to/gcp\.md"):
        await (await env.pool(mig(project))).status()


@pytest.mark.slow
async def test_workload_identity_uses_the_token_of_the_metadata_server(env: GcpEnvironment) -> None:
    """Run in a separate process: google-auth reads the metadata server's address at import."""
    project = {**env.cloud.document(), "credentials_file": None}
    pool = {"kind": "gce_mig", "project": project, "name": "vllm", "location": ZONES[0]}
    source = {"kind": "scrape", "urls": ["http://127.0.0.1:9/metrics"], "preset": "vllm"}
    policy = {"kind": "concurrency"}
    document = {"workload": "llm", "max_replicas": 4, "sources": {"s": source}, "policies": {"p": policy}}
    config = env.cloud.folder / "workload.yaml"
    config.write_text(yaml.safe_dump({**document, "pools": {"gpus": pool}}))
    async with metadata() as server:
        env.cloud.tokens.append(server.token)
        variables = {"GCE_METADATA_HOST": server.address, "GCE_METADATA_IP": server.address, "NO_GCE_CHECK": "false"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scaler.cli", "doctor", str(config)), env={**os.environ, **variables}, stdout=PIPE
        )
        output = (await process.communicate())[0].decode()
    assert "2 ready" in output, output


@pytest.mark.slow
async def test_slow_token_does_not_block_the_event_loop(env: GcpEnvironment) -> None:
    requested, released = asyncio.Event(), asyncio.Event()
    async with _slow(requested, released) as port:
        (env.cloud.folder / "sa.json").write_text(json.dumps(account(f"http://127.0.0.1:{port}/token")))
        pool = await env.pool(mig(env.cloud.project()))
        status = asyncio.create_task(pool.status())
        await requested.wait()  # the token endpoint runs on this loop
        assert not status.done()
        released.set()
        with pytest.raises(Unavailable):
            await status


async def test_untrusted_certificate_is_an_error(env: GcpEnvironment) -> None:
    project = env.cloud.project()
    pool = await env.pool(mig(project))
    await read_status(pool)
    other_account = replace(project, ca_file=None, credentials_file=project.credentials_file)
    with pytest.raises((Misconfigured, Unavailable), match=r"(?i)certificate"):
        await (await env.pool(mig(other_account))).status()


async def test_permissions_are_checked_and_reported(env: GcpEnvironment) -> None:
    pool = await env.pool(mig(env.cloud.project()))
    env.cloud.permit({"compute.instanceGroupManagers.get"})
    permits = {p.action: p for p in await pool.permits()}  # type: ignore[attr-defined]
    assert permits["compute.instanceGroupManagers.get"].granted
    assert permits["compute.instanceGroupManagers.update"].granted is False
    assert "gcp-role.yaml" in permits["compute.instanceGroupManagers.update"].detail


async def test_pool_opens_while_the_api_is_unreachable(env: GcpEnvironment) -> None:
    env.cloud.rest.fault = ProxyFault.RESET
    pool = await env.pool(mig(env.cloud.project()))
    with pytest.raises(Unavailable):
        await pool.status()
    env.cloud.rest.fault = ProxyFault.NONE
    assert (await read_status(pool)).ready == 2


@asynccontextmanager
async def _slow(requested: asyncio.Event, released: asyncio.Event) -> AsyncIterator[int]:
    """Serve a token endpoint that answers once it is released."""

    async def token(_: web.Request) -> web.Response:
        requested.set()
        await released.wait()
        return web.json_response({"error": "temporarily_unavailable"}, status=503)

    app = web.Application()
    app.router.add_post("/token", token)
    async with listening(app) as port:
        yield port
