"""Routes of an Envoy that reads them from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.names import BackendName
from policies.model.pool import Target
from policies.model.route_spec import LatencyTerm, Route
from scaler.clouds.http_access import BASE_URL, Access

ABSOLUTE_PATH: Final = Pattern(r"^/[^\x00-\x1f]*[^/\x00-\x1f]$", "an absolute path of a file")
ENVOY_NAME: Final = Pattern(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}$", "letters, digits and . _ : / -")
DURATION: Final = "upstream_rq_time"
"""Histogram of the time from the end of a request to the end of its response, also of a streamed one. Milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Envoy(Route):
    """An Envoy that reads its routes from a file (RDS), which the daemon replaces."""

    file: Annotated[
        str,
        FieldMetadata(
            "File with the route configuration, as Envoy's bootstrap names it (rds.config_source.path_config_source)."
            " The daemon and Envoy share its folder. It is replaced atomically, so Envoy never reads half of it.",
            pattern=ABSOLUTE_PATH,
            example="/etc/envoy/routes/chat.json",
        ),
    ]
    admin_url: Annotated[
        str,
        FieldMetadata(
            "URL of Envoy's admin interface, from which the daemon reads the applied weights and the requests to each"
            " cluster. It needs no right to change anything.",
            pattern=BASE_URL,
            example="http://127.0.0.1:9901",
        ),
    ]
    route_config: Annotated[
        str,
        FieldMetadata(
            "Name of the route configuration, as in the bootstrap (rds.route_config_name). Default: forescale.",
            pattern=ENVOY_NAME,
        ),
    ] = "forescale"
    stat_prefix: Annotated[
        str,
        FieldMetadata(
            "Prefix of the statistics of the listener's HTTP connection manager (stat_prefix), which counts rejected"
            " requests. Default: ingress_http.",
            pattern=ENVOY_NAME,
        ),
    ] = "ingress_http"
    response_start_histogram: Annotated[
        str | None,
        FieldMetadata(
            "Histogram of the time until a response's body begins, which a stats access logger of the bootstrap records"
            " in milliseconds with the tag cluster. A provider's latency is then compared with ttft_s. Set it where"
            " clients stream. Default: null: the duration of whole responses (upstream_rq_time), compared with e2e_s:"
            " of its own, Envoy measures only that.",
            pattern=ENVOY_NAME,
            example="forescale.response_start",
        ),
    ] = None
    clusters: Annotated[
        Mapping[BackendName, str],
        FieldMetadata(
            "Name of the Envoy cluster of each backend. Default: none: a cluster has the name of its backend.",
            example={"gpus": "vllm-h100"},
        ),
    ] = field(default_factory=dict)
    retries: Annotated[
        int,
        FieldMetadata(
            "Attempts to send a request again after a failed or closed connection or a response with status 502, 503 or"
            " 504, before any part of an answer was passed on. They prefer other priorities of the cluster. The default"
            " of 2 bridges a short outage; 0 sends each request once. Attempts.",
            ge=0,
            le=10,
        ),
    ] = 2
    access: Annotated[
        Access,
        FieldMetadata("Credentials and trusted certificates for the admin interface. Default: no credentials."),
    ] = field(default_factory=Access)

    def cluster(self, backend: BackendName) -> str:
        """Return the name of a backend's cluster."""
        return self.clusters.get(backend, backend)

    @property
    def latency_term(self) -> LatencyTerm:
        return "ttft_s" if self.response_start_histogram else "e2e_s"

    def response_times(self, cluster: str) -> str:
        """Return the name of the histogram with the response times of a cluster."""
        started = self.response_start_histogram
        return f"{started}.cluster.{cluster}" if started else f"cluster.{cluster}.{DURATION}"

    def targets(self, workload: str, route: str) -> tuple[Target, ...]:
        return (Target("Envoy route configuration", (), str(Path(self.file))),)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for name in self.clusters:
            if name not in self.backends:
                yield "clusters", f"names backend {name!r}, which is not in backends"
        clusters = [self.cluster(name) for name in self.backends]
        if len(set(clusters)) < len(clusters):
            yield "clusters", "must not give two backends the same cluster"
