"""Settings of the daemon: the one document that starts with ``daemon:``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.names import NAME
from policies.quota.fleet_quota import FleetLimits
from scaler.config.cluster_workloads import KubernetesWorkloads
from scaler.config.high_availability import HighAvailability
from scaler.config.listen import LISTEN, ServerTls, listen_problem
from scaler.config.notices import NoticesSpec
from scaler.config.partners import Partners
from scaler.config.secret import Secret
from scaler.config.snapshots import SnapshotSettings
from scaler.config.weekly_plans import WeeklyPlan


@dataclass(frozen=True, kw_only=True)
class JournalSpec:
    """Journal of every tick: its directory and its size limits."""

    directory: Annotated[
        str | None,
        FieldMetadata(
            "Directory of the journal's files. Default: journal, in the working directory. Set null to keep no"
            " journal; forescale explain and replay then have no data."
        ),
    ] = "journal"
    max_bytes: Annotated[
        int, FieldMetadata("Rotate a file that reaches this size. The default is 64 MiB. Bytes.", ge=65536)
    ] = 64 * 1024 * 1024
    keep_files: Annotated[
        int,
        FieldMetadata(
            "Number of rotated files to keep, in addition to the current one. Older files are deleted. The default of 8"
            " limits the journal to nine files of max_bytes. Files.",
            ge=1,
            le=1000,
        ),
    ] = 8


@dataclass(frozen=True, kw_only=True)
class EmbeddedClock:
    """Simulated time for embedded worlds. Leave both settings out with real sources or pools."""

    speed: Annotated[
        float, FieldMetadata("Speed of simulated time relative to real time. Default: 1, real time.", gt=0, le=100_000)
    ] = 1.0
    start: Annotated[
        str | None,
        FieldMetadata(
            "Start of simulated time, ISO 8601 with offset, such as 2026-06-01T08:45:00+00:00. Default: null, now."
        ),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            self.start_s()
        except ValueError as e:
            yield "start", f"is not a time: {e}"

    def start_s(self) -> float | None:
        """Return the start in seconds since the Unix epoch. Raises `ValueError`."""
        if self.start is None:
            return None
        start = datetime.fromisoformat(self.start)
        if start.tzinfo is None:
            raise ValueError("needs an offset from UTC, as in 2026-06-01T08:45:00+00:00")
        return start.timestamp()


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """Access to the dashboard and metrics."""

    hosts: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Host names under which browsers reach the dashboard, such as those of an Ingress. localhost and the"
            " listen address are always allowed. Other names are refused, which prevents DNS rebinding; health checks"
            " and metrics accept any name. Default: none."
        ),
    ] = ()
    token: Annotated[
        Secret | None,
        FieldMetadata(
            "Token for all requests except health checks, as a bearer token or as the password of basic"
            " authentication. Set it if others than operators reach the address. Default: null, no token."
        ),
    ] = None
    tls: Annotated[ServerTls | None, FieldMetadata("Certificate for HTTPS. Default: null, plain HTTP.")] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        for host in self.hosts:
            if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+", host):
                yield (
                    "hosts",
                    f"{host!r} is not a host name; write it without scheme and port, such as forescale.example.com",
                )


@dataclass(frozen=True, kw_only=True)
class OpenTelemetry:
    """Traces and metrics by OTLP over HTTP."""

    traces: Annotated[
        bool,
        FieldMetadata("Whether each tick is sent as a trace: its reads, the decision and its writes. Default: true."),
    ] = True
    metrics: Annotated[
        bool, FieldMetadata("Whether the metrics of GET /metrics are sent, by default every minute. Default: true.")
    ] = True


@dataclass(frozen=True, kw_only=True)
class DaemonSpec:
    """Settings of the process, all optional."""

    listen: Annotated[
        str | None,
        FieldMetadata(
            "Address of the dashboard, metrics and health checks, as HOST:PORT. Port 0 selects a free port. The"
            " default of null is 127.0.0.1:8080, or the next free port where that one is in use. It is reachable from"
            " this machine only; use 0.0.0.0:8080 in a cluster.",
            pattern=Pattern(LISTEN, "HOST:PORT"),
            example="127.0.0.1:8080",
        ),
    ] = None
    server: Annotated[ServerSpec, FieldMetadata("Access to the dashboard and metrics: host names, token and TLS.")] = (
        field(default_factory=ServerSpec)
    )
    log: Annotated[
        Literal["auto", "json", "console"],
        FieldMetadata(
            "Log format. The default of auto shows a live view on a terminal, console text on a terminal without cursor"
            " control or in CI, and JSON elsewhere."
        ),
    ] = "auto"
    config_poll_s: Annotated[
        float,
        FieldMetadata(
            "Time between two checks for changed configuration files. SIGHUP checks at once. The default of 10"
            " applies an edit within seconds. Seconds.",
            gt=0,
        ),
    ] = 10.0
    history_s: Annotated[
        float,
        FieldMetadata(
            "Minimum history that each workload keeps in memory for its decisions. Longer windows extend it"
            " automatically. The default of 3600 keeps one hour. Seconds.",
            ge=600,
            le=604800,
        ),
    ] = 3600.0
    history_backfill_s: Annotated[
        float,
        FieldMetadata(
            "Age of the oldest past load that a workload reads at its start for seasonal forecasts, from the journal"
            " and from sources that serve past data. 0 disables it. The default of 15 days contains every weekday"
            " twice. Seconds.",
            ge=0,
            le=1_296_000,
        ),
    ] = 1_296_000.0
    partners: Annotated[
        Partners,
        FieldMetadata("Servers that publish the sizes of pools of the kind published to KEDA and to HPAs."),
    ] = field(default_factory=Partners)
    journal: Annotated[JournalSpec, FieldMetadata("Journal of every tick: directory and size limits.")] = field(
        default_factory=JournalSpec
    )
    clock: Annotated[EmbeddedClock, FieldMetadata("Simulated time, for embedded worlds only.")] = field(
        default_factory=EmbeddedClock
    )
    kubernetes_workloads: Annotated[
        KubernetesWorkloads | None,
        FieldMetadata(
            "Workloads from a Kubernetes cluster, as objects of kind Workload or as ConfigMaps. Default: null, files"
            " only."
        ),
    ] = None
    kubernetes_events: Annotated[
        bool,
        FieldMetadata(
            "Write a Kubernetes Event on the resized object for each resize and each refused one, as `kubectl describe`"
            " shows. Default: true. Without the permission, one log line reports the refusal, and ticks continue."
        ),
    ] = True
    fleet: Annotated[
        FleetLimits,
        FieldMetadata("Limits that span all workloads. A change takes effect on reload, without a restart."),
    ] = field(default_factory=FleetLimits)
    notices: Annotated[
        NoticesSpec, FieldMetadata("Notices to people, as by chat, e-mail or pager. Off by default.")
    ] = field(default_factory=NoticesSpec)
    opentelemetry: Annotated[
        OpenTelemetry | None,
        FieldMetadata(
            "Traces and metrics by OTLP. The OTEL_* environment variables set endpoint, headers and sampling. Default:"
            " null, off; {} sends both. It needs the extra otel."
        ),
    ] = None
    ha: Annotated[
        HighAvailability | None,
        FieldMetadata("Several daemons share the workloads by leases. Default: null, one daemon runs all of them."),
    ] = None

    snapshots: Annotated[
        SnapshotSettings | None,
        FieldMetadata(
            "Snapshots of what workloads have learned, with which a daemon without their journal continues. Default:"
            " null, none."
        ),
    ] = None

    plans: Annotated[
        Mapping[str, WeeklyPlan],
        FieldMetadata(
            "Plans of provisioned throughput that the daemon makes each week from its journal, by name. They need the"
            " extra sim. Default: none."
        ),
    ] = field(default_factory=dict)

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in self.plans:
            if not re.match(NAME.regex, name):
                yield "plans", f"{name!r} is not a name: use {NAME.words}"
        if self.plans and self.journal.directory is None:
            yield "plans", "require a journal; set journal.directory"
        if self.listen is not None and (rule := listen_problem(self.listen)):
            yield "listen", rule
