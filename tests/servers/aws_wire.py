"""AWS's protocols on a socket: requests are parsed and responses written by the SDK's service models.

Handlers take an operation's parameters and return its result as plain mappings, or raise `Refusal`. A field that the
service's model does not have is a defect of the handler and fails the request with a 500 that names it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from aiohttp import web
from moto.core.model import OperationModel, ServiceModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.serialize import SERIALIZERS
from moto.core.utils import get_service_model
from werkzeug.datastructures import Headers, MultiDict

IAM_NAMES: Final = {"elasticloadbalancing": "elbv2"}
"""The services' models by their names in IAM, where they differ."""
REQUEST_ID: Final = "00000000-0000-0000-0000-000000000000"


class Refusal(Exception):
    """A refusal by AWS."""

    def __init__(self, code: str, message: str, status: int = 400, *, retry_after_s: float = 0) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": f"{retry_after_s:g}"} if retry_after_s else {}
        self.code = code
        self.message = message
        self.status = status


@functools.cache
def model(service: str) -> ServiceModel:
    return get_service_model(IAM_NAMES.get(service, service))


def operation(service: str, method: str, path: str, body: bytes, target: str = "") -> OperationModel:
    """Return a request's operation, which JSON protocols name in a header, the `target`."""
    service_model = model(service)
    if service_model.metadata["protocol"] in {"query", "ec2"}:
        return service_model.operation_model(dict(parse_qsl(body.decode()))["Action"])
    if service_model.metadata["protocol"] == "json":
        return service_model.operation_model(target)
    for name in service_model.operation_names:
        one = service_model.operation_model(name)
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", one.http["requestUri"].partition("?")[0])
        if one.http["method"] == method and re.fullmatch(pattern, path):
            return one
    raise LookupError(f"{service} has no {method} {path}")


def parameters(model: OperationModel, method: str, path: str, query: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the parameters of a request."""
    values: MultiDict[str, Any] = MultiDict(parse_qsl(body.decode(errors="replace")) if body[:1] != b"{" else [])
    values.update(query)
    names = re.findall(r"\{([^}+]+)\+?\}", model.http["requestUri"])
    pattern = re.sub(r"\{[^}]+\}", "([^/]+)", model.http["requestUri"].partition("?")[0])
    match = re.fullmatch(pattern, path)
    request = {
        "body": body,
        "headers": Headers(),
        "method": method,
        "url_params": dict(zip(names, map(unquote, match.groups()), strict=True)) if match else {},
        "url_path": path,
        "values": values,
    }
    parser: Any = PROTOCOL_PARSERS[str(model.service_model.metadata["protocol"])]
    parsed: dict[str, Any] = parser(model).parse(request)
    return parsed


def answer(model: OperationModel, result: Mapping[str, Any]) -> web.Response:
    """Return a result in AWS's format."""
    if model.output_shape is not None and (unknown := result.keys() - model.output_shape.members.keys()):
        raise LookupError(f"{model.name} answers no {sorted(unknown)}")
    serialized: Any = SERIALIZERS[str(model.service_model.metadata["protocol"])](model).serialize(result)
    body = serialized["body"]
    content = body.encode() if isinstance(body, str) else body
    return web.Response(status=serialized["status_code"], body=content, headers=dict(serialized["headers"]))


def refused(service: str, refusal: Refusal) -> web.Response:
    """Return a refusal in the service's own protocol."""
    code, message = escape(refusal.code), escape(refusal.message)
    match model(service).metadata["protocol"]:
        case "ec2":
            body = (
                f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
                f"<RequestID>{REQUEST_ID}</RequestID></Response>"
            )
            return web.Response(status=refusal.status, text=body, content_type="text/xml", headers=refusal.headers)
        case "query" | "rest-xml":
            body = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
                f"<RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
            )
            return web.Response(status=refusal.status, text=body, content_type="text/xml", headers=refusal.headers)
        case _:
            error = {"__type": refusal.code, "message": refusal.message}
            headers = {"x-amzn-errortype": refusal.code, "x-amzn-requestid": REQUEST_ID, **refusal.headers}
            return web.json_response(error, status=refusal.status, headers=headers)
