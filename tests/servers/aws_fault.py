"""A front before AWS's server that records the calls and responds with AWS's errors.

It keeps connections alive, as AWS does and moto does not.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from tests.servers.site import listening

DROPPED: Final = {"connection", "content-length", "date", "server", "transfer-encoding"}
OPERATION_QUERY: Final = b"Action="
XML_ERROR: Final = re.compile(rb"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One HTTP request. `key` is the access key that signed it; empty without a signature."""

    service: str
    operation: str
    region: str
    key: str
    connection: int


Responder = Callable[[RecordedRequest], web.Response]
Fault = Responder | Callable[[RecordedRequest], Awaitable[web.Response]]


@dataclass
class Front:
    """`faults` by service; without one, requests reach the server."""

    upstream: str
    url: str = ""
    requests: list[RecordedRequest] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    _connections: dict[object, int] = field(default_factory=dict)

    def count(self, operation: str) -> int:
        return sum(a.operation == operation for a in self.requests)

    def note(self, request: web.Request, body: bytes) -> RecordedRequest:
        connection = self._connections.setdefault(request.transport, len(self._connections))
        scope = request.headers.get("Authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
        key, _, region, service = scope[:4] if len(scope) == 5 else ("", "", "", "sts")
        target = request.headers.get("X-Amz-Target", "") or request.path.replace("/", ".")
        operation = target.rpartition(".")[2]
        if not operation:
            operation = body.partition(OPERATION_QUERY)[2].partition(b"&")[0].decode()
        service = "cloudwatch" if service == "monitoring" else service
        self.requests.append(RecordedRequest(service, operation, region, key, connection))
        return self.requests[-1]


@asynccontextmanager
async def front(upstream: str) -> AsyncIterator[Front]:
    """Open a front before the server at `upstream`."""
    it = Front(upstream)
    async with aiohttp.ClientSession(auto_decompress=False) as http:

        async def serve(request: web.Request) -> web.Response:
            body = await request.read()
            call = it.note(request, body)
            if call.service in it.faults:
                answer = it.faults[call.service](call)
                return answer if isinstance(answer, web.Response) else await answer
            headers = {k: v for k, v in request.headers.items() if k.lower() not in DROPPED}
            async with http.request(
                request.method, URL(upstream + request.raw_path, encoded=True), data=body, headers=headers
            ) as upstream_response:
                headers_kept = {k: v for k, v in upstream_response.headers.items() if k.lower() not in DROPPED}
                content = await upstream_response.read()
                if upstream_response.status == 403 and (
                    refused := XML_ERROR.search(content)
                ):  # moto: XML to every service
                    return refusal(403, refused[1].decode(), refused[2].decode())(call)
                return web.Response(status=upstream_response.status, body=content, headers=headers_kept)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", serve)
        async with listening(app) as port:
            it.url = f"http://127.0.0.1:{port}"
            yield it


def refusal(
    status: int, code: str, message: str, *, query_code: str = "", headers: dict[str, str] | None = None
) -> Responder:
    """Return an error in the service's own protocol: JSON for SQS and CloudWatch, XML for S3 and STS.

    `query_code` is the code of the older query protocol, which AWS sends together with the new one.
    """

    def answer(call: RecordedRequest) -> web.Response:
        more = {"x-amzn-requestid": "00000000-0000-0000-0000-000000000000", **(headers or {})}
        if query_code:
            more["x-amzn-query-error"] = f"{query_code};Sender"
        match call.service:
            case "sts":
                error = f"<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
                body = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode()
                more["content-type"] = "text/xml"
            case "s3":
                body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
                more["content-type"] = "application/xml"
            case _:
                body = json.dumps({"__type": f"com.amazonaws.{call.service}#{code}", "message": message}).encode()
                more["content-type"] = "application/x-amz-json-1.0"
        return web.Response(status=status, body=body, headers=more)

    return answer


def body(content: bytes, status: int = 200, content_type: str = "application/x-amz-json-1.0") -> Fault:
    """Return a response of these bytes."""
    return lambda _: web.Response(status=status, body=content, headers={"content-type": content_type})


def metrics(results: object) -> Fault:
    """Return a GetMetricData response with these results."""
    return body(json.dumps({"MetricDataResults": results}).encode())


async def silence(_: RecordedRequest) -> web.Response:
    """Never respond."""
    await asyncio.Event().wait()
    raise AssertionError


def attributes(**values: object) -> Fault:
    """Return a GetQueueAttributes response with these attributes, whatever the request."""
    return body(json.dumps({"Attributes": values}).encode())


HTML_500: Final = body(b"<html><body><h1>500 Internal Server Error</h1></body></html>", 500, "text/html")
HTML_200: Final = body(b"<html><body>Please sign in to the network</body></html>", 200, "text/html")
TRUNCATED: Final = body(b'{"Attributes": {"ApproximateNumberOfMessages": "7')
THROTTLES: Final[dict[str, Fault]] = {
    "bare": refusal(403, "RequestThrottled", "Request is throttled.", query_code="RequestThrottled"),
    "prefixed": refusal(
        403, "RequestThrottled", "Request is throttled.", query_code="AWS.SimpleQueueService.RequestThrottled"
    ),
    "general": refusal(400, "ThrottlingException", "Rate exceeded"),
}
FORBIDDEN: Final[dict[str, Fault]] = {
    "json": refusal(403, "AccessDeniedException", "User is not authorized to perform: sqs:getqueueattributes"),
    "query": refusal(403, "AccessDeniedException", "Access to the resource is denied.", query_code="AccessDenied"),
    "no such queue, json": refusal(400, "QueueDoesNotExist", "The specified queue does not exist."),
    "no such queue, query": refusal(
        400, "QueueDoesNotExist", "The queue does not exist.", query_code="AWS.SimpleQueueService.NonExistentQueue"
    ),
    "unknown key": refusal(
        403, "UnrecognizedClientException", "The security token included in the request is invalid."
    ),
    "old key": refusal(403, "InvalidClientTokenId", "The security token included in the request is invalid."),
    "wrong secret": refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match."),
    "expired": refusal(403, "ExpiredTokenException", "The security token included in the request is expired"),
    "wrong place": refusal(404, "InvalidAddress", "The address is not valid for this endpoint."),
}
GARBAGE: Final[dict[str, Fault]] = {
    "HTML 500": HTML_500,
    "HTML 200": HTML_200,
    "truncated JSON": TRUNCATED,
    "nothing": body(b""),
    "a list": body(b"[7]"),
    "a number": body(b"7"),
    "attributes that are a list": body(b'{"Attributes": [7]}'),
    "no attributes": body(b"{}"),
    "bytes": body(b"\xff\xfe\x00"),
}
CLOUDWATCH_TROUBLES: Final[dict[str, Fault]] = {
    "503": refusal(503, "ServiceUnavailable", "Service is unavailable."),
    "no permission": refusal(403, "AccessDenied", "not authorized to perform: cloudwatch:GetMetricData"),
    "throttle": refusal(400, "ThrottlingException", "Rate exceeded"),
    "silence": silence,
    "HTML 500": HTML_500,
    "HTML 200": HTML_200,
    "truncated": body(b'{"MetricDataResults": [{"Id": "oldest'),
    "bytes": body(b"\xff\xfe\x00"),
    "nothing": body(b""),
    "a text for a list": metrics("none"),
    "texts for maps": metrics(["none"]),
    "an error inside": metrics([{"Id": "oldest_age_s", "StatusCode": "InternalError"}]),
    "a text for a number": metrics([{"Id": "oldest_age_s", "Timestamps": ["now"], "Values": ["old"]}]),
}
