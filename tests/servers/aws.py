"""AWS on 127.0.0.1: moto's server, corrected where it is less strict than AWS.

Corrections:

- `PutMetricData` into an AWS namespace is refused, as by AWS; tests write metrics with `Aws.metric`.
- `GetMetricData` gives each sample the time at which its period began on the clock, whatever the request's start.
- `GetMetricData` knows percentiles, such as `p80`.
- `AssumeRoleWithWebIdentity` refuses a token that is not a JSON Web Token, or that has expired.

Remaining differences: counts are exact at once (AWS's lag by up to a minute), every region has a queue of the same
name, and no metric is sent by itself. Keys and permissions are checked only inside `Aws.strangers_refused`.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiobotocore.session import AioSession
from botocore.loaders import create_loader
from moto.cloudwatch.exceptions import InvalidParameterValue
from moto.cloudwatch.models import CloudWatchBackend, Statistics, cloudwatch_backends
from moto.server import ThreadedMotoServer
from moto.sts.exceptions import STSClientError
from moto.sts.responses import TokenResponse

ACCOUNT = "123456789012"
REGION = "us-east-1"


LOADER = create_loader()
"""The services' models, read once."""


class Aws:
    """One account in one region. `url` is the endpoint of every service."""

    def __init__(self, url: str, http: aiohttp.ClientSession, stack: contextlib.AsyncExitStack) -> None:
        self.url = url
        self._http = http
        self._stack = stack
        self._session = AioSession()
        self._session.register_component("data_loader", LOADER)
        self._session.set_credentials("AKIATESTER", "secret")
        self._clients: dict[str, Any] = {}

    async def client(self, service: str) -> Any:
        """Return the tests' own client of a service."""
        if service not in self._clients:
            sdk_client = self._session.create_client(service, region_name=REGION, endpoint_url=self.url)
            self._clients[service] = await self._stack.enter_async_context(sdk_client)
        return self._clients[service]

    async def queue(self, name: str, **attributes: str) -> str:
        """Create a queue, a FIFO one by its name; return its URL."""
        if name.endswith(".fifo"):
            attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "false", **attributes}
        sqs = await self.client("sqs")
        url: str = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
        return url

    async def send(self, queue: str, count: int, *, delay_s: int = 0, group: str | None = None) -> None:
        sqs = await self.client("sqs")
        for i in range(count):
            fifo = {"MessageGroupId": group, "MessageDeduplicationId": f"{group}-{i}"} if group else {}
            delay = {"DelaySeconds": delay_s} if delay_s else {}
            await sqs.send_message(QueueUrl=queue, MessageBody=f"prompt {i}", **fifo, **delay)

    async def receive(self, queue: str, count: int, visibility_s: int = 600) -> list[str]:
        """Receive `count` messages, which stay in flight; return their receipts."""
        sqs, receipts = await self.client("sqs"), list[str]()
        while len(receipts) < count:
            answer = await sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=min(10, count - len(receipts)), VisibilityTimeout=visibility_s
            )
            receipts += [m["ReceiptHandle"] for m in answer["Messages"]]
        return receipts

    async def delete(self, queue: str, receipt: str) -> None:
        await (await self.client("sqs")).delete_message(QueueUrl=queue, ReceiptHandle=receipt)

    async def drain(self, queue: str) -> None:
        """Receive and delete all visible messages. (A purge is granted once a minute.)"""
        sqs = await self.client("sqs")
        while messages := (await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)).get("Messages"):
            for message in messages:
                await self.delete(queue, message["ReceiptHandle"])

    def metric(self, queue: str, name: str, value: float, at: float) -> None:
        """Write a metric that SQS itself sends to CloudWatch."""
        self.service_metric("AWS/SQS", {"QueueName": queue.rsplit("/", 1)[-1]}, name, value, at)

    def service_metric(self, namespace: str, dimensions: dict[str, str], name: str, value: float, at: float) -> None:
        """Write a metric that a service itself sends to CloudWatch."""
        datum = {
            "MetricName": name,
            "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
            "Value": value,
            "Timestamp": datetime.fromtimestamp(at, UTC).replace(tzinfo=None),  # as moto stores them
        }
        _put_metric_data(cloudwatch_backends[ACCOUNT][REGION], namespace, [datum])

    def forget_metrics(self) -> None:
        """Delete all samples."""
        cloudwatch_backends[ACCOUNT][REGION].metric_data.clear()

    async def user(self, actions: list[str]) -> tuple[str, str]:
        """Create a user with only these actions on all resources (moto checks none); return its key and secret."""
        iam_actions = [a.replace("cloudwatch:", "monitoring:") for a in actions]  # moto's name for it, not AWS's
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": iam_actions, "Resource": "*"}]}
        iam = await self.client("iam")
        name = f"user-{time.monotonic_ns()}"
        await iam.create_user(UserName=name)
        await iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(policy))
        key = (await iam.create_access_key(UserName=name))["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    @asynccontextmanager
    async def authentication_enforced(self) -> AsyncIterator[None]:
        """Check keys, signatures and permissions inside this context."""
        async with self._http.post(f"{self.url}/moto-api/reset-auth", data=b"0") as answer:
            before = (await answer.json(content_type=None))["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"]
        try:
            yield
        finally:
            async with self._http.post(f"{self.url}/moto-api/reset-auth", data=before.encode()):
                pass


@asynccontextmanager
async def aws() -> AsyncIterator[Aws]:
    """Open an empty account. A process has only one server: uses must not overlap."""
    url = await asyncio.to_thread(_server)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        async with http.post(f"{url}/moto-api/reset") as answer:
            assert answer.status == 200
        yield Aws(url, http, stack)


@functools.cache
def _server() -> str:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    _patch_moto()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def isolate(monkeypatch: pytest.MonkeyPatch, tmp: Path, **variables: str) -> None:
    """Set only these AWS `variables`, and hide the machine's own configuration from the SDK."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    none = {
        "AWS_CONFIG_FILE": str(tmp / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp / "no-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in {**none, **variables}.items():
        monkeypatch.setenv(name, value)


def _patch_moto() -> None:
    """Apply the corrections above to moto, for the life of this process."""
    CloudWatchBackend.put_metric_data = _refuse_own_namespaces
    CloudWatchBackend.get_metric_data = _align_to_periods
    Statistics.get_statistics_for_type = _with_percentiles
    TokenResponse.assume_role_with_web_identity = _check_token


def _refuse_own_namespaces(backend: Any, namespace: str, metric_data: Any) -> None:
    if namespace.startswith("AWS/"):
        raise InvalidParameterValue("The value AWS/ for parameter Namespace is invalid.")
    _put_metric_data(backend, namespace, metric_data)


def _align_to_periods(backend: Any, queries: Any, start_time: datetime, *rest: Any, **more: Any) -> Any:
    period_s = max(int(q["MetricStat"]["Period"]) for q in queries)
    start = start_time - timedelta(seconds=start_time.replace(tzinfo=UTC).timestamp() % period_s)
    return _get_metric_data(backend, queries, start, *rest, **more)


def _with_percentiles(statistics: Any, stat: str) -> Any:
    if stat.startswith("p"):
        return float(np.percentile(statistics.metric_single_values_list, float(stat[1:])))
    return _get_statistic(statistics, stat)


def _check_token(response: Any) -> Any:
    token = str(response._get_param("WebIdentityToken"))
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    except (IndexError, ValueError) as e:
        raise STSClientError("InvalidIdentityToken", "The ID Token provided is not a valid JWT.") from e
    if claims["exp"] < time.time():
        raise STSClientError(
            "ExpiredTokenException", f"Token expired: current date/time must be before {claims['exp']}"
        )
    return _assume_role_with_web_identity(response)


_put_metric_data = CloudWatchBackend.put_metric_data
_get_statistic = Statistics.get_statistics_for_type
_get_metric_data = CloudWatchBackend.get_metric_data
_assume_role_with_web_identity = TokenResponse.assume_role_with_web_identity
KEYS = {"AWS_ACCESS_KEY_ID": "AKIASCALER", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": REGION}


def web_token(expires_at: float) -> str:
    """Return an unsigned service account token."""
    claims = {"iss": "https://oidc.example", "sub": "system:serviceaccount:llm:scaler", "exp": int(expires_at)}
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)
    )
    return ".".join((*parts, "unsigned"))
