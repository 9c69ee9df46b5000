"""Opens the export by OTLP, where it is configured and its packages are installed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from scaler.config.daemon import OpenTelemetry
from scaler.extras import install_command
from scaler.ports import Clock, Misconfigured

if TYPE_CHECKING:
    from scaler.telemetry.otlp.export import OtlpExport

EXTRA: Final = "otel"


def open_otlp(spec: OpenTelemetry | None, registry: CollectorRegistry, clock: Clock, version: str) -> OtlpExport | None:
    """Return the export; None where it is off.

    Raises `Misconfigured` for a missing package, and for an environment that cannot be used.
    """
    if spec is None:
        return None
    try:
        from scaler.telemetry.otlp import export  # noqa: PLC0415 - imported only where it is configured
    except ImportError as e:
        raise Misconfigured(f"daemon.opentelemetry: {e.name} is not installed ({install_command([EXTRA])})") from e
    export.check_environment(os.environ)
    export.remember_headers(os.environ)
    return export.OtlpExport(spec, registry, clock, version)
