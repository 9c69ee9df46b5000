"""KEDA external scaler: a gRPC server that returns the decided size of a published pool.

KEDA's operator calls `IsActive` for the step between 0 and 1 replicas, and `GetMetrics` for its HPA. With a target of 1
and the type AverageValue, the HPA's `ceil(value / 1)` is the decided size.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from scaler.config.listen import ServerTls
from scaler.config.partners import KedaServer
from scaler.partners import keda_messages as messages
from scaler.partners.publications import METRIC, Publication, Publications
from scaler.ports import Misconfigured, Unavailable
from scaler.telemetry.health import Health
from scaler.telemetry.http.certificates import Certificates

SETTING: Final = "daemon.partners.keda"
TARGET: Final = 1
"""Target of the metric per replica."""
STREAM_S: Final = 1.0
"""Time between two looks at a size whose activity is streamed. Seconds."""
MAX_CALLS: Final = 200
"""Maximum calls and streams in progress; the server refuses further ones."""
MAX_MESSAGE: Final = 64 * 1024
"""Maximum size of a request: a ScaledObject's trigger metadata has some hundred bytes. Bytes."""
SHUTDOWN_S: Final = 2.0
"""Maximum time that calls in progress get when the daemon ends. Seconds."""


class ExternalScaler:
    """The calls of KEDA's service.

    Each ends with NOT_FOUND or UNAVAILABLE and a message where there is no size.
    """

    def __init__(self, publications: Publications) -> None:
        self._publications = publications

    async def is_active(self, request: Any, call: Any) -> Any:
        """Return whether the pool should have any replica."""
        publication = await self._select(request, call)
        return messages.IsActiveResponse(result=await self._size(publication, call) > 0)

    async def stream_is_active(self, request: Any, call: Any) -> AsyncIterator[Any]:
        """Yield whether the pool should have any replica, first now and then at each change.

        While there is no valid size, nothing is yielded, so that KEDA keeps the last state.
        """
        last: bool | None = None
        while True:
            publication = await self._select(request, call)
            with contextlib.suppress(Unavailable):
                active = self._publications.size(publication) > 0
                if active is not last:
                    yield messages.IsActiveResponse(result=active)
                last = active
            await asyncio.sleep(STREAM_S)

    async def get_metric_spec(self, request: Any, call: Any) -> Any:
        """Return the metric's name and its target."""
        await self._select(request, call)
        spec = messages.MetricSpec(metricName=METRIC, targetSize=TARGET, targetSizeFloat=float(TARGET))
        return messages.GetMetricSpecResponse(metricSpecs=[spec])

    async def get_metrics(self, request: Any, call: Any) -> Any:
        """Return the decided size as the metric's value."""
        publication = await self._select(request.scaledObjectRef, call)
        if request.metricName not in {"", METRIC}:
            await call.abort(
                grpc.StatusCode.NOT_FOUND, f"no metric {request.metricName[:100]!r}; the metric is {METRIC}"
            )
        size = await self._size(publication, call)
        value = messages.MetricValue(metricName=METRIC, metricValue=size, metricValueFloat=float(size))
        return messages.GetMetricsResponse(metricValues=[value])

    async def _select(self, ref: Any, call: Any) -> Publication:
        try:
            return self._publications.select(ref.namespace, ref.scalerMetadata)
        except Misconfigured as e:
            await _abort(call, grpc.StatusCode.NOT_FOUND, e)

    async def _size(self, publication: Publication, call: Any) -> int:
        try:
            return self._publications.size(publication)
        except Unavailable as e:
            await _abort(call, grpc.StatusCode.UNAVAILABLE, e)


async def _abort(call: Any, code: Any, error: Exception) -> NoReturn:
    """End a call with the error's message."""
    await call.abort(code, str(error))
    raise AssertionError("`abort` raises")


@contextlib.asynccontextmanager
async def serve_keda(spec: KedaServer, publications: Publications, health: Health) -> AsyncIterator[int]:
    """Run the gRPC server. Yields its port. Raises `Misconfigured`."""
    options = [
        ("grpc.so_reuseport", 0),  # a second daemon must not share the port
        ("grpc.max_receive_message_length", MAX_MESSAGE),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
    server.add_generic_rpc_handlers((_handlers(ExternalScaler(publications)),))
    try:
        if spec.tls is None:
            port = server.add_insecure_port(spec.listen)
        else:
            port = server.add_secure_port(spec.listen, _credentials(spec, spec.tls, health))
    except (RuntimeError, ValueError) as e:
        raise Misconfigured(f"{SETTING}.listen: cannot listen on {spec.listen}. Use another port") from e
    await server.start()
    try:
        yield port
    finally:
        await server.stop(SHUTDOWN_S)


def _handlers(scaler: ExternalScaler) -> Any:
    """Return the handlers of the service's methods."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {
        "IsActive": (unary, scaler.is_active, messages.ScaledObjectRef),
        "StreamIsActive": (stream, scaler.stream_is_active, messages.ScaledObjectRef),
        "GetMetricSpec": (unary, scaler.get_metric_spec, messages.ScaledObjectRef),
        "GetMetrics": (unary, scaler.get_metrics, messages.GetMetricsRequest),
    }
    handlers = {
        name: handler(method, request.FromString, lambda response: response.SerializeToString())
        for name, (handler, method, request) in methods.items()
    }
    return grpc.method_handlers_generic_handler(messages.SERVICE, handlers)


class RenewedCertificates:
    """The server's certificate for gRPC, renewed as that of the HTTP server is."""

    def __init__(self, spec: KedaServer, tls: ServerTls, health: Health) -> None:
        """Read the files. Raises `Misconfigured`."""
        self._tls = tls
        self._client_ca = spec.client_ca
        authorities = None if spec.client_ca is None else Path(spec.client_ca).read_text
        try:
            if authorities is not None:
                authorities()
        except (OSError, ValueError) as e:
            raise Misconfigured(f"{SETTING}.client_ca: cannot read {spec.client_ca}: {e}") from e
        self._certificates = Certificates(tls, health, f"{SETTING}.tls", authorities)
        self._context = self._certificates.context()

    def read(self) -> Any:
        """Return the configuration of the present files. Raises `OSError`."""
        pair = (Path(self._tls.key).read_bytes(), Path(self._tls.certificate).read_bytes())
        authorities = None if self._client_ca is None else Path(self._client_ca).read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def changed(self) -> Any:
        """Return the configuration if valid files have replaced the previous ones; else None."""
        context, previous = self._certificates.context(), self._context
        self._context = context
        return None if context is previous else self.read()


def _credentials(spec: KedaServer, tls: ServerTls, health: Health) -> Any:
    """Return the server's TLS credentials. Raises `Misconfigured`."""
    certificates = RenewedCertificates(spec, tls, health)
    return grpc.dynamic_ssl_server_credentials(certificates.read(), certificates.changed, spec.client_ca is not None)
