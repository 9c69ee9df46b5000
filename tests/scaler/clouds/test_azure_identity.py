"""Who asks Azure: workload identity, managed identity, the default chain; and what their refusals mean."""

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
from tests.scaler.clouds.azure_place import Place, place, serving
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
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path) as made:
        serving(made.cloud, 2)
        yield made


async def status(here: Place, account: AzureAccount) -> Any:
    pool = await open_pool(
        Vmss(resource_group="llm", name="h100", account=account), here.context, WorkloadName("llm"), PoolName("gpus")
    )
    return await here.seen(pool)


async def test_a_workload_identity_is_exchanged_once_for_many_calls(here: Place) -> None:
    assert (await status(here, here.cloud.account())).ready == 2
    assert (await status(here, here.cloud.account())).ready == 2
    assert here.cloud.tokens_given == 1


async def test_a_token_that_azure_refuses_is_fetched_anew(here: Place) -> None:
    account = here.cloud.account()
    await status(here, account)
    here.cloud.token_value = "another"
    here.clock.ahead_s += 10
    assert (await status(here, account)).ready == 2
    assert here.cloud.tokens_refused > 0
    assert here.cloud.tokens_given == 2


async def test_a_federation_that_entra_does_not_know_needs_a_human(here: Place, tmp_path: Path) -> None:
    account = here.cloud.account()
    (tmp_path / "wrong").write_text("somebody else's token")
    with pytest.raises(Misconfigured, match="AADSTS700211"):
        await status(here, replace(account, token_file=str(tmp_path / "wrong")))


async def test_a_token_file_that_is_not_there_needs_a_human(here: Place, tmp_path: Path) -> None:
    account = replace(here.cloud.account(), token_file=str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match="none"):
        await status(here, account)


async def test_entra_that_is_down_is_passing(here: Place) -> None:
    account = replace(here.cloud.account(), authority_url="https://127.0.0.1:1")
    with pytest.raises(Unavailable, match="no token"):
        await status(here, account)


async def test_a_workload_identity_without_its_parts_is_told_when_it_is_opened(here: Place) -> None:
    account = replace(here.cloud.account(), client_id=None, tenant_id=None, token_file=None)
    with pytest.raises(Misconfigured, match="Azure"):
        await status(here, account)


async def test_the_environment_of_an_aks_pod_is_enough(
    here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default chain finds what AKS's webhook puts there."""
    account = here.cloud.account()
    monkeypatch.setenv("AZURE_CLIENT_ID", server.CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", server.TENANT)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(account.token_file))
    plain = replace(account, credential="default", client_id=None, tenant_id=None, token_file=None)
    assert (await status(here, plain)).ready == 2


@asynccontextmanager
async def metadata(answer: Any) -> AsyncIterator[str]:
    """The metadata service's token endpoint."""
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
async def test_a_machine_s_identity(
    here: Place, monkeypatch: pytest.MonkeyPatch, answer: Any, error: type[PortError] | None
) -> None:
    account = replace(here.cloud.account(), credential="managed_identity", client_id=None)
    async with metadata(answer) as url:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
        if error is None:
            assert (await status(here, account)).ready == 2
        else:
            with pytest.raises(error, match="Identity not found"):
                await status(here, account)


async def test_nobody_to_ask_as_is_told_with_the_ways_there_are(
    here: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("PATH", str(tmp_path))
    account = replace(here.cloud.account(), credential="default", client_id=None, tenant_id=None, token_file=None)
    with pytest.raises(Misconfigured, match=r"no credentials.*azure\.workload\.identity/use"):
        await status(here, account)
