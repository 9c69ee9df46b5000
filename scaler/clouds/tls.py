"""TLS of servers that do not speak HTTP, as configured.

`http_access.py` has the settings of HTTP servers.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.ports import Misconfigured

HOST: Final = Pattern(r"^[A-Za-z0-9_]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$", "a host name or an IP address, without a port")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """TLS settings. The server's certificate and its host name are always verified."""

    ca_file: Annotated[
        str | None, FieldMetadata("PEM file of trusted certificate authorities. Default: null, those of the system.")
    ] = None
    certificate_file: Annotated[
        str | None,
        FieldMetadata("PEM file of the client's certificate; requires key_file. Default: null, no certificate."),
    ] = None
    key_file: Annotated[
        str | None,
        FieldMetadata("PEM file of the client's private key; requires certificate_file. Default: null, no key."),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.certificate_file is None) != (self.key_file is None):
            yield "certificate_file", "and key_file must be set together"

    def context(self) -> ssl.SSLContext:
        """Return the client's TLS context. Raises `Misconfigured` for a file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file, password="")
        except OSError as e:  # a missing file, or one that is not PEM
            files = ", ".join(f for f in (self.ca_file, self.certificate_file, self.key_file) if f is not None)
            raise Misconfigured(f"TLS: one of {files} cannot be used: {e.strerror or e}") from e
        return context
