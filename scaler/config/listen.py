"""Addresses to listen on, and the certificates of servers."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata

MAX_PORT: Final = 65535
LISTEN: Final = r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$"
"""Pattern of an address to listen on, as HOST:PORT."""


@dataclass(frozen=True, kw_only=True)
class ServerTls:
    """Certificate of a server."""

    certificate: Annotated[
        str,
        FieldMetadata(
            "PEM file of the certificate and its chain. It is read again when it changes.", example="/etc/tls/tls.crt"
        ),
    ]
    key: Annotated[str, FieldMetadata("PEM file of the private key, without a password.", example="/etc/tls/tls.key")]


def listen_problem(listen: str) -> str:
    """Return the rule that an address to listen on breaks; empty where it is valid."""
    if not re.match(LISTEN, listen):
        return "must be HOST:PORT, such as 127.0.0.1:8080"
    host, _, port = listen.rpartition(":")
    if int(port) > MAX_PORT:
        return f"must have a port from 0 to {MAX_PORT}"
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host.strip("[]"))
        else:
            host.encode("idna")
    except ValueError as e:
        return f"must start with a host name or IP address: {e}"
    return ""
