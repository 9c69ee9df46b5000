"""Reads the server's certificate again when its files change.

cert-manager and the kubelet renew them in place.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from scaler.config.listen import ServerTls
from scaler.ports import Misconfigured
from scaler.telemetry.health import Health
from scaler.telemetry.log import log

FileState: TypeAlias = tuple[tuple[tuple[int, int, int], ...], str]

SERVER: Final = "daemon.server.tls"


class Certificates:
    """The certificate and key of new connections.

    If a renewed pair cannot be read, the previous one stays in use. `setting` names the pair in errors.
    `client_authorities` returns the PEM text of the authorities that must sign the client's certificate; without any
    text, no client is accepted. None: clients need no certificate.
    """

    def __init__(
        self,
        spec: ServerTls,
        health: Health,
        setting: str = SERVER,
        client_authorities: Callable[[], str] | None = None,
    ) -> None:
        """Read the pair. Raises `Misconfigured`."""
        self._spec = spec
        self._health = health
        self._client_authorities = client_authorities
        self._part = "certificate" if setting == SERVER else f"certificate of {setting}"
        try:
            self._state = self._file_state()
            self._context = self._read()
        except (OSError, ValueError) as e:
            raise Misconfigured(f"{setting}: cannot use {spec.certificate} with {spec.key}: {_reason(e)}") from e

    def context(self) -> ssl.SSLContext:
        """Return the context of the current pair, and read the files if they have changed."""
        try:
            state = self._file_state()
            if state != self._state:
                self._state = state
                self._context = self._read()
                self._health.report(self._part, "")
                log.info("certificate", file=self._spec.certificate)
        except (OSError, ValueError) as e:
            self._health.report(
                self._part, f"cannot use {self._spec.certificate}: {_reason(e)}; the previous one stays in use"
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
        files = tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in statuses)
        return files, "" if self._client_authorities is None else self._client_authorities()

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._spec.certificate, self._spec.key, password=b"")  # no prompt on the terminal
        if self._client_authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            if authorities := self._client_authorities():
                context.load_verify_locations(cadata=authorities)
        return context


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
