"""Server of the API `external.metrics.k8s.io`.

HPAs read the decided size of a published pool from it as an external metric. The API server forwards to it what an
APIService registers (API aggregation). Only the API server may connect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from scaler.clock import iso_time
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.selectors import parse_selector_text
from scaler.config.partners import ExternalMetricsServer
from scaler.partners.front_proxy import FrontProxy
from scaler.partners.publications import METRIC, Publications
from scaler.ports import Context, Misconfigured, Unavailable
from scaler.telemetry.health import Health
from scaler.telemetry.http.access import set_server_header
from scaler.telemetry.http.certificates import Certificates
from scaler.telemetry.http.connections import HttpConnection
from scaler.telemetry.http.server import open_sockets, start

SETTING: Final = "daemon.partners.external_metrics"
GROUP_VERSION: Final = "external.metrics.k8s.io/v1beta1"
ROOT: Final = f"/apis/{GROUP_VERSION}"
TASK: Final = "external metrics server"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REASONS: Final = {400: "BadRequest", 401: "Unauthorized", 404: "NotFound", 405: "MethodNotAllowed"}
"""Reasons of a Kubernetes Status; others are ServiceUnavailable."""


class ExternalMetrics:
    """The API's handlers."""

    def __init__(self, publications: Publications, front_proxy: FrontProxy, now: Callable[[], float]) -> None:
        self._publications = publications
        self._front_proxy = front_proxy
        self._now = now

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._check])
        app.on_response_prepare.append(set_server_header)
        app.router.add_get(ROOT, self.resources)
        app.router.add_get(ROOT + "/namespaces/{namespace}/{metric}", self.values)
        return app

    async def resources(self, _: web.Request) -> web.Response:
        """Return the list of resources, by which the API server sees that the API is available."""
        resource = {
            "name": METRIC,
            "singularName": "",
            "namespaced": True,
            "kind": "ExternalMetricValueList",
            "verbs": ["get"],
        }
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [resource]}
        )

    async def values(self, request: web.Request) -> web.Response:
        """Return the decided size of the pool that the label selector names."""
        namespace, metric = request.match_info["namespace"], request.match_info["metric"]
        if metric != METRIC:
            return _status(404, f"no external metric {metric[:100]!r}; the metric is {METRIC}")
        try:
            labels = _equal_labels(request.query.get("labelSelector", ""))
            publication = self._publications.select(namespace, labels)
            size = self._publications.size(publication)
        except ValueError as e:
            return _status(400, f"labelSelector: {e}")
        except Misconfigured as e:
            return _status(404, str(e))
        except Unavailable as e:
            return _status(503, str(e))
        item = {
            "metricName": METRIC,
            "metricLabels": {"workload": publication.workload, "pool": publication.pool},
            "timestamp": iso_time(self._now()),
            "value": str(size),
        }
        return web.json_response(
            {"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": [item]}
        )

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse clients other than the API server, and answer errors as Kubernetes does."""
        with HttpConnection.responding(request):
            certificate = None if request.transport is None else request.transport.get_extra_info("peercert")
            if not self._front_proxy.accepts(certificate):
                return _status(401, "the client certificate is not that of the API server's front proxy")
            try:
                return await handler(request)
            except web.HTTPException as e:
                return _status(e.status, f"{request.path}: {e.reason}")


def _equal_labels(text: str) -> dict[str, str]:
    """Return the labels of a selector such as `workload=chat,pool=gpus`.

    Raises `ValueError` for other operators.
    """
    terms = parse_selector_text(text).terms
    if any(term.operator != "In" or len(term.values) != 1 for term in terms):
        raise ValueError(f"{text!r} has an operator other than =")
    return {term.key: next(iter(term.values)) for term in terms}


def _status(code: int, message: str) -> web.Response:
    """Return a failure as a Kubernetes Status."""
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"forescale: {message}",
        "reason": REASONS.get(code, "ServiceUnavailable"),
        "code": code,
    }
    return web.json_response(body, status=code)


@asynccontextmanager
async def serve_external_metrics(
    spec: ExternalMetricsServer, publications: Publications, health: Health, context: Context
) -> AsyncIterator[int]:
    """Run the HTTPS server. Yields its port. Raises `Misconfigured`."""
    front_proxy = FrontProxy(await kube.session(context, spec.cluster), health)
    certificates = Certificates(spec.tls, health, f"{SETTING}.tls", lambda: front_proxy.authorities)
    app = ExternalMetrics(publications, front_proxy, context.clock.now).application()
    sockets = await open_sockets(f"{SETTING}.listen", spec.listen)
    server = await start(app, sockets, certificates, context.tasks, TASK)
    following = context.tasks.start("front proxy certificate", front_proxy.follow)
    try:
        yield sockets[0].getsockname()[1]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await server.close()
