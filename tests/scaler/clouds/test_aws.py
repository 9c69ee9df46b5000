"""AWS credentials, regions and clients, and the errors without them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from policies.model import Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount
from scaler.config.kinds.aws_sources import Sqs
from scaler.ports import Misconfigured, Source, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.aws import ACCOUNT, KEYS, REGION, Aws, aws, isolate, web_token
from tests.servers.aws_fault import Front, front
from tests.servers.pod_identity import pod_identity
from tests.servers.tcp_fault import ProxyFault, free_port, tcp_proxy

ROLE = f"arn:aws:iam::{ACCOUNT}:role/scaler"


@dataclass
class AwsSetup:
    """An account with a queue, a front that records the calls, and environment variables to set."""

    aws: Aws
    front: Front
    resources: Resources
    queue: str
    tmp: Path
    monkeypatch: pytest.MonkeyPatch

    def environment(self, **variables: str) -> None:
        """Set a region and these AWS variables, and no others."""
        isolate(self.monkeypatch, self.tmp, AWS_REGION=REGION, **variables)

    def token_file(self, text: str) -> str:
        file = self.tmp / "token"
        file.write_text(text)
        return str(file)

    async def open(
        self,
        queue: str | None = None,
        region: str | None = None,
        *,
        oldest_age: bool = False,
        deadline_s: float = DEADLINE_S,
    ) -> Source:
        account = AwsAccount(region=region, endpoint_url=self.front.url)
        spec = Sqs(queue_url=queue or self.queue, account=account, oldest_age=oldest_age)
        return await open_source(spec, AdapterContext(self.resources, SystemClock(), deadline_s))


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AwsSetup]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws() as cloud, front(cloud.url) as aws_front, Resources() as resources:
        yield AwsSetup(cloud, aws_front, resources, await cloud.queue("prompts"), tmp_path, monkeypatch)


async def responds(source: Source) -> bool:
    return isinstance((await source.sample())["visible"], Fresh)


@pytest.mark.slow
async def test_workloads_of_one_account_share_a_client_and_connection(env: AwsSetup) -> None:
    queues = [await env.aws.queue(f"queue-{i}") for i in range(5)]
    for source in await asyncio.gather(*(env.open(q) for q in queues)):
        assert await responds(source)
    assert len(env.front.requests) == 5
    assert len({a.connection for a in env.front.requests}) == 1


@pytest.mark.slow
async def test_each_region_has_its_own_client(env: AwsSetup) -> None:
    for region in ("us-east-1", "eu-west-1", "us-east-1"):
        with pytest.raises(Misconfigured) if region != REGION else nullcontext():  # moto: other region, other queues
            await (await env.open(region=region)).sample()
    assert [a.region for a in env.front.requests] == ["us-east-1", "eu-west-1", "us-east-1"]
    assert len({a.connection for a in env.front.requests}) == 2


# --- region


async def test_region_of_the_queue_url_is_used(env: AwsSetup) -> None:
    url = f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/prompts"
    with pytest.raises(Misconfigured):  # the other region has no queue of this name
        await (await env.open(url)).sample()
    assert [a.region for a in env.front.requests] == ["eu-west-1"]


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("sqs.eu-west-1.amazonaws.com", "eu-west-1"),
        ("sqs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("vpce-0a1b-c2d3.sqs.us-east-2.vpce.amazonaws.com", "us-east-2"),
        ("sqs.us-west-2.api.aws", "us-west-2"),
        ("localhost:4566", None),
    ],
)
def test_region_is_parsed_from_each_form_of_queue_url(host: str, region: str | None) -> None:
    assert Sqs(queue_url=f"https://{host}/{ACCOUNT}/prompts").located.region == region


def test_region_that_contradicts_the_queue_url_is_refused() -> None:
    spec = Sqs(queue_url=f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/q", account=AwsAccount(region="us-east-1"))
    assert list(spec.problems()) == [
        ("account.region", "must match the region in queue_url, eu-west-1; remove it to use that region")
    ]


async def test_missing_region_is_misconfigured(env: AwsSetup) -> None:
    isolate(env.monkeypatch, env.tmp, **{**KEYS, "AWS_REGION": ""})
    with pytest.raises(Misconfigured, match=r"no region.*AWS_REGION"):
        await env.open()


async def test_missing_profile_is_misconfigured(env: AwsSetup) -> None:
    env.environment(AWS_PROFILE="nobody")
    with pytest.raises(Misconfigured, match="nobody"):
        await env.open()


# --- no credentials, wrong ones


async def test_missing_credentials_are_misconfigured_with_their_possible_sources(env: AwsSetup) -> None:
    env.environment()
    with pytest.raises(Misconfigured, match=r"no credentials.*Pod Identity.*IRSA.*AWS_PROFILE"):
        await env.open()
    assert env.front.requests == []


async def test_unknown_access_keys_are_misconfigured(env: AwsSetup) -> None:
    source = await env.open()
    async with env.aws.authentication_enforced():
        with pytest.raises(Misconfigured, match="InvalidClientTokenId"):
            await source.sample()


@pytest.mark.slow
async def test_silent_instance_metadata_is_requested_at_most_twice(env: AwsSetup) -> None:
    async with tcp_proxy("127.0.0.1", free_port()) as metadata:
        metadata.fault = ProxyFault.SILENT
        endpoint = f"http://127.0.0.1:{metadata.port}"
        env.environment(AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint)
        with pytest.raises(Misconfigured, match="no credentials"):
            await env.open()
        assert metadata.accepted <= 2  # the SDK waits a second for each


async def test_silent_metadata_server_is_unavailable_at_the_deadline(env: AwsSetup) -> None:
    async with tcp_proxy("127.0.0.1", free_port()) as metadata:
        metadata.fault = ProxyFault.SILENT
        endpoint = f"http://127.0.0.1:{metadata.port}"
        env.environment(AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint)
        source = await env.open(deadline_s=0.2)
        with pytest.raises(Unavailable, match=r"no credentials within 0\.2 s"):
            await source.sample()


async def test_requests_are_signed_with_the_instance_role(env: AwsSetup) -> None:
    env.environment(AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT=env.aws.url)
    assert await responds(await env.open())
    assert [a.key for a in env.front.requests] == ["test-key"]  # moto's


# --- IRSA: a role by the service account's token


async def test_irsa_keys_sign_and_sts_is_called_once_for_all_clients(env: AwsSetup) -> None:
    token = env.token_file(web_token(time.time() + 3600))
    env.environment(AWS_ROLE_ARN=ROLE, AWS_WEB_IDENTITY_TOKEN_FILE=token, AWS_ENDPOINT_URL_STS=env.front.url)
    source = await env.open(oldest_age=True)
    assert await responds(source)
    assert await responds(source)
    assert env.front.count("AssumeRoleWithWebIdentity") == 1
    keys = {a.key for a in env.front.requests if a.operation != "AssumeRoleWithWebIdentity"}
    assert {key[:4] for key in keys} == {"ASIA"}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("token", "error"),
    [("expired", "AssumeRoleWithWebIdentity: ExpiredTokenException"), ("junk", "InvalidIdentityToken")],
)
async def test_rejected_web_identity_token_is_misconfigured_until_replaced(
    env: AwsSetup, token: str, error: str
) -> None:
    file = env.token_file(web_token(time.time() - 60) if token == "expired" else token)
    env.environment(AWS_ROLE_ARN=ROLE, AWS_WEB_IDENTITY_TOKEN_FILE=file, AWS_ENDPOINT_URL_STS=env.front.url)
    source = await env.open()
    with pytest.raises(Misconfigured, match=error):
        await source.sample()
    env.token_file(web_token(time.time() + 3600))
    assert await responds(source)


async def test_missing_token_file_is_misconfigured(env: AwsSetup) -> None:
    env.environment(AWS_ROLE_ARN=ROLE, AWS_WEB_IDENTITY_TOKEN_FILE="/nowhere/token")
    source = await env.open()
    with pytest.raises(Misconfigured, match="/nowhere/token"):
        await source.sample()


@pytest.mark.slow
async def test_unreachable_sts_is_unavailable(env: AwsSetup) -> None:
    token = env.token_file(web_token(time.time() + 3600))
    sts = f"http://127.0.0.1:{free_port()}"
    env.environment(AWS_ROLE_ARN=ROLE, AWS_WEB_IDENTITY_TOKEN_FILE=token, AWS_ENDPOINT_URL_STS=sts)
    source = await env.open()
    with pytest.raises(Unavailable, match=sts):
        await source.sample()


# --- EKS Pod Identity: an agent on the node lends keys


async def test_pod_identity_keys_sign_and_all_workloads_share_one_agent_call(env: AwsSetup) -> None:
    async with pod_identity() as agent:
        token = env.token_file("bearer-of-the-pod")
        env.environment(AWS_CONTAINER_CREDENTIALS_FULL_URI=agent.url, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=token)
        for source in await asyncio.gather(*(env.open(oldest_age=True) for _ in range(5))):
            assert await responds(source)
        assert agent.tokens == ["bearer-of-the-pod"]
        assert {a.key for a in env.front.requests} == {"ASIAPOD"}


@pytest.mark.slow
async def test_pod_identity_agent_may_start_after_the_daemon(env: AwsSetup) -> None:
    port = free_port()
    env.environment(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"http://127.0.0.1:{port}/v1/credentials")
    source = await env.open(deadline_s=3.0)
    with pytest.raises(Unavailable, match="no credentials"):
        await source.sample()
    async with pod_identity(port):
        assert await responds(source)
