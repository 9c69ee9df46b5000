"""Azure identities: workload identity, managed identity, the default chain; and the meaning of their refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.azure.account import AzureAccount
from scaler.config.kinds.azure_pools import Vmss
from scaler.ports import Misconfigured, PortError, Unavailable
from tests.scaler.clouds.azure_place import AzureEnvironment, azure_environment, serving
from tests.servers import azure as server
from tests.servers.site import listening

VARIABLES = (
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
)


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[AzureEnvironment]:
    async with azure_environment(tmp_path) as environment:
        serving(environment.cloud, 2)
        yield environment


async def status(env: AzureEnvironment, account: AzureAccount) -> Any:
    pool = await open_pool(
        Vmss(resource_group="llm", name="h100", account=account), env.context, WorkloadName("llm"), PoolName("gpus")
    )
    return await env.read_status(pool)


async def test_workload_identity_token_is_shared_by_calls(env: AzureEnvironment) -> None:
    assert (await status(env, env.cloud.account())).ready == 2
    assert (await status(env, env.cloud.account())).ready == 2
    assert env.cloud.tokens_given == 1


async def test_rejected_token_is_replaced(env: AzureEnvironment) -> None:
    account = env.cloud.account()
    await status(env, account)
    env.cloud.token_value = "another"
    env.clock.ahead_s += 10
    assert (await status(env, account)).ready == 2
    assert env.cloud.tokens_refused > 0
    assert env.cloud.tokens_given == 2


async def test_unknown_federated_token_is_misconfigured(env: AzureEnvironment, tmp_path: Path) -> None:
    account = env.cloud.account()
    (tmp_path / "wrong").write_text("somebody else's token")
    with pytest.raises(Misconfigured, match="AADSTS700211"):
        await status(env, replace(account, token_file=str(tmp_path / "wrong")))


async def test_missing_token_file_is_misconfigured(env: AzureEnvironment, tmp_path: Path) -> None:
    account = replace(env.cloud.account(), token_file=str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match="none"):
        await status(env, account)


async def test_unreachable_entra_is_unavailable(env: AzureEnvironment) -> None:
    account = replace(env.cloud.account(), authority_url="https://127.0.0.1:1")
    with pytest.raises(Unavailable, match="no token"):
        await status(env, account)


async def test_incomplete_workload_identity_is_misconfigured(env: AzureEnvironment) -> None:
    account = replace(env.cloud.account(), client_id=None, tenant_id=None, token_file=None)
    with pytest.raises(Misconfigured, match="Azure"):
        await status(env, account)


async def test_default_credential_reads_the_variables_of_an_aks_pod(
    env: AzureEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default chain reads the variables that AKS's webhook sets."""
    account = env.cloud.account()
    monkeypatch.setenv("AZURE_CLIENT_ID", server.CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", server.TENANT)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(account.token_file))
    plain = replace(account, credential="default", client_id=None, tenant_id=None, token_file=None)
    assert (await status(env, plain)).ready == 2


@asynccontextmanager
async def metadata(answer: Any) -> AsyncIterator[str]:
    """Serve the metadata service's token endpoint."""
    app = web.Application()
    app.router.add_get("/metadata/identity/oauth2/token", answer)
    async with listening(app) as port:
        yield f"http://127.0.0.1:{port}"


async def lend(request: web.Request) -> web.Response:
    assert request.headers["Metadata"] == "true"
    body = {"access_token": server.TOKEN, "expires_in": "3600", "expires_on": "4102444800", "token_type": "Bearer"}
    return web.json_response({**body, "resource": request.query["resource"]})


async def refuse(_: web.Request) -> web.Response:
    return web.json_response({"error": "invalid_request", "error_description": "Identity not found"}, status=400)


@pytest.mark.parametrize(("answer", "error"), [(lend, None), (refuse, PortError)])
async def test_managed_identity_is_read_from_the_metadata_service(
    env: AzureEnvironment, monkeypatch: pytest.MonkeyPatch, answer: Any, error: type[PortError] | None
) -> None:
    account = replace(env.cloud.account(), credential="managed_identity", client_id=None)
    async with metadata(answer) as url:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
        if error is None:
            assert (await status(env, account)).ready == 2
        else:
            with pytest.raises(error, match="Identity not found"):
                await status(env, account)


async def test_missing_credentials_are_reported_with_their_possible_sources(
    env: AzureEnvironment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("PATH", str(tmp_path))
    account = replace(env.cloud.account(), credential="default", client_id=None, tenant_id=None, token_file=None)
    with pytest.raises(Misconfigured, match=r"no credentials.*azure\.workload\.identity/use"):
        await status(env, account)
