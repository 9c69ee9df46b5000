"""Reads the server's certificate again when its files change.

cert-manager and the kubelet renew them in place.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TypeAlias

from scaler.config.daemon import Tls
from scaler.ports import Misconfigured
from scaler.telemetry.health import Health
from scaler.telemetry.log import log

FileState: TypeAlias = tuple[tuple[int, int, int], ...]
PART = "certificate"


class Certificates:
    """The certificate and key of new connections.

    If a renewed pair cannot be read, the previous one stays in use.
    """

    def __init__(self, spec: Tls, health: Health) -> None:
        """Read the pair. Raises `Misconfigured`."""
        self._spec = spec
        self._health = health
        try:
            self._state = self._file_state()
            self._context = self._read()
        except (OSError, ValueError) as e:
            raise Misconfigured(
                f"daemon.server.tls: cannot use {spec.certificate} with {spec.key}: {_reason(e)}"
            ) from e

    def context(self) -> ssl.SSLContext:
        """Return the context of the current pair, and read the files if they have changed."""
        try:
            state = self._file_state()
            if state != self._state:
                self._state = state
                self._context = self._read()
                self._health.report(PART, "")
                log.info("certificate", file=self._spec.certificate)
        except (OSError, ValueError) as e:
            self._health.report(
                PART, f"cannot use {self._spec.certificate}: {_reason(e)}; the previous one stays in use"
            )
            log.error(
                "certificate",
                file=self._spec.certificate,
                error=_reason(e),
                remedy="replace the certificate and the key with a valid pair",
            )
        return self._context

    def _file_state(self) -> FileState:
        statuses = (Path(file).stat() for file in (self._spec.certificate, self._spec.key))
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in statuses)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._spec.certificate, self._spec.key, password=b"")  # no prompt on the terminal
        return context


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
