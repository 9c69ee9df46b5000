"""The server's certificate, read again when its files change: cert-manager and the kubelet renew them in place."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TypeAlias

from scaler.config.daemon import Tls
from scaler.ports import Misconfigured
from scaler.telemetry.health import Health
from scaler.telemetry.log import log

State: TypeAlias = tuple[tuple[int, int, int], ...]
PART = "certificate"


class Certificates:
    """What new connections are encrypted with. A renewed pair that cannot be read leaves the one before it in use."""

    def __init__(self, spec: Tls, health: Health) -> None:
        """Read the pair. Raises `Misconfigured`."""
        self._spec = spec
        self._health = health
        try:
            self._state = self._look()
            self._context = self._read()
        except (OSError, ValueError) as e:
            raise Misconfigured(f"daemon.server.tls: cannot use {spec.certificate} with {spec.key}: {_why(e)}") from e

    def context(self) -> ssl.SSLContext:
        """Return the present pair; reads it where the files have changed."""
        try:
            state = self._look()
            if state != self._state:
                self._state = state
                self._context = self._read()
                self._health.report(PART, "")
                log.info("certificate", file=self._spec.certificate)
        except (OSError, ValueError) as e:
            self._health.report(PART, f"{self._spec.certificate} cannot be used: {_why(e)}; the one before it is")
            log.error("certificate", file=self._spec.certificate, error=_why(e), remedy="mend the pair of files")
        return self._context

    def _look(self) -> State:
        found = (Path(file).stat() for file in (self._spec.certificate, self._spec.key))
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._spec.certificate, self._spec.key, password=b"")  # never ask a terminal for one
        return context


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
