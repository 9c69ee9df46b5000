"""The daemon's own settings: the one document that starts with ``daemon:``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from policies.quota.fleet_quota import FleetLimits
from scaler.config.secret import Secret

MAX_PORT: Final = 65535


@dataclass(frozen=True, kw_only=True)
class JournalSpec:
    """Where the record of every turn is kept, and how much of it."""

    directory: Annotated[str | None, FieldMetadata("Folder of the journal's files; null keeps none.")] = "journal"
    max_bytes: Annotated[int, FieldMetadata("A file that reaches this size is rotated. Bytes.", ge=65536)] = (
        64 * 1024 * 1024
    )
    keep_files: Annotated[int, FieldMetadata("Rotated files kept beside the present one. Files.", ge=1, le=1000)] = 8


@dataclass(frozen=True, kw_only=True)
class EmbeddedClock:
    """Time for embedded worlds. With real sources or pools leave both alone."""

    speed: Annotated[float, FieldMetadata("How many times faster than real time passes.", gt=0, le=100_000)] = 1.0
    start: Annotated[
        str | None,
        FieldMetadata("Time at which it starts (ISO 8601 with offset, as in 2026-06-01T08:45:00+00:00); null: now."),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            self.start_s()
        except ValueError as e:
            yield "start", f"not a time: {e}"

    def start_s(self) -> float | None:
        """Return the start in seconds since the Unix epoch. Raises `ValueError`."""
        if self.start is None:
            return None
        start = datetime.fromisoformat(self.start)
        if start.tzinfo is None:
            raise ValueError("needs an offset from UTC, as in 2026-06-01T08:45:00+00:00")
        return start.timestamp()


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Certificate of the HTTP server."""

    certificate: Annotated[
        str,
        FieldMetadata(
            "PEM file of the certificate and its chain. Read again when it changes.", example="/etc/tls/tls.crt"
        ),
    ]
    key: Annotated[str, FieldMetadata("PEM file of its private key, without a password.", example="/etc/tls/tls.key")]


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """Who may read dashboard and metrics."""

    hosts: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Names by which browsers may call the dashboard, beside localhost and the address listened on: those of an"
            " Ingress. Requests under other names are refused, so that no web page can read it through its own name."
            " Health checks and metrics are answered under any name."
        ),
    ] = ()
    token: Annotated[
        Secret | None,
        FieldMetadata(
            "Required of all but health checks, as a bearer token or as the password of basic authentication; null:"
            " none. Set it where others than operators can reach the address."
        ),
    ] = None
    tls: Annotated[Tls | None, FieldMetadata("Serve HTTPS by this certificate; null: HTTP.")] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        for host in self.hosts:
            if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+", host):
                yield "hosts", f"{host!r} is no host name: give it without scheme and port"


@dataclass(frozen=True, kw_only=True)
class DaemonSpec:
    """Settings of the process, all optional."""

    listen: Annotated[
        str,
        FieldMetadata(
            "Address of dashboard, metrics and health checks, HOST:PORT; port 0 takes a free one. Use 0.0.0.0:8080 in"
            " a cluster.",
            pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$",
        ),
    ] = "127.0.0.1:8080"
    server: Annotated[ServerSpec, FieldMetadata("Who may read dashboard and metrics.")] = field(
        default_factory=ServerSpec
    )
    log: Annotated[
        Literal["auto", "json", "console"],
        FieldMetadata("Form of the log; auto: console on a terminal, JSON elsewhere."),
    ] = "auto"
    config_poll_s: Annotated[
        float, FieldMetadata("Between two looks for changed configuration files. Seconds.", gt=0)
    ] = 10.0
    history_s: Annotated[
        float,
        FieldMetadata("How much past each workload keeps in memory for its decisions. Seconds.", ge=600, le=604800),
    ] = 3600.0
    history_backfill_s: Annotated[
        float,
        FieldMetadata(
            "How far back seasons are looked for when a workload begins to be run: in the journal, and in sources that"
            " can tell; 0: nowhere. The default is what it takes to have seen a week twice. Seconds.",
            ge=0,
            le=1_296_000,
        ),
    ] = 1_296_000.0
    journal: Annotated[JournalSpec, FieldMetadata("Where the record of every turn is kept.")] = field(
        default_factory=JournalSpec
    )
    clock: Annotated[EmbeddedClock, FieldMetadata("Time for embedded worlds.")] = field(default_factory=EmbeddedClock)
    fleet: Annotated[FleetLimits, FieldMetadata("Limits that span all workloads. A change takes effect at once.")] = (
        field(default_factory=FleetLimits)
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        host, _, port = self.listen.rpartition(":")
        if int(port) > MAX_PORT:
            yield "listen", f"its port must be 0 to {MAX_PORT}"
        try:
            if host.startswith("["):
                ipaddress.IPv6Address(host.strip("[]"))
            else:
                host.encode("idna")
        except ValueError as e:
            yield "listen", f"its host is no address: {e}"
