"""Runs the servers for other autoscalers that the configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from scaler.config.partners import Partners
from scaler.extras import PARTNERS
from scaler.partners.publications import Publications
from scaler.ports import Context, Misconfigured
from scaler.registry import import_object
from scaler.telemetry.health import Health
from scaler.telemetry.log import log

KEDA: Final = "scaler.partners.keda:serve_keda"
EXTERNAL_METRICS: Final = "scaler.partners.external_metrics:serve_external_metrics"


@asynccontextmanager
async def partners(
    spec: Partners, publications: Publications, health: Health, context: Context
) -> AsyncIterator[dict[str, int]]:
    """Run the servers. Yields the port of each. Raises `Misconfigured`."""
    ports: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        if spec.keda is not None:
            serve = _imported("keda", KEDA)(spec.keda, publications, health)
            ports["keda"] = await stack.enter_async_context(serve)
        if spec.external_metrics is not None:
            serve = _imported("external_metrics", EXTERNAL_METRICS)
            running = serve(spec.external_metrics, publications, health, context)
            ports["external_metrics"] = await stack.enter_async_context(running)
        if ports:
            log.info("partners", **ports)
        yield ports


def _imported(setting: str, path: str) -> Any:
    """Import a server, whose package may be absent. Raises `Misconfigured`."""
    try:
        return import_object(path)
    except ImportError as e:
        remedy = f"pip install 'forescale[{PARTNERS[setting]}]'"
        raise Misconfigured(f"daemon.partners.{setting}: {e.name} is not installed ({remedy})") from e
