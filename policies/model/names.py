"""Names of workloads, pools, policies, routes and signals: their types and forms."""

from __future__ import annotations

from typing import Final, NewType

from policies.model.field_metadata import Pattern

WorkloadName = NewType("WorkloadName", str)
PoolName = NewType("PoolName", str)
PolicyName = NewType("PolicyName", str)
RouteName = NewType("RouteName", str)
BackendName = NewType("BackendName", str)
"""A pool, workload or provider among which a route splits requests."""
SignalName = NewType("SignalName", str)
"""``source.quantity``, as in ``queue.visible``."""
RATE_WINDOW: Final = "rate_window_s"
"""Quantity with the window of a source's rates, where the source chooses it by the scrapes that it sees. Seconds."""
NAME: Final = Pattern(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "at most 63 lowercase letters, digits and inner hyphens")
"""Names are DNS labels, so that metrics, files and URLs contain them unquoted."""
WORKLOAD_NAME: Final = Pattern(
    r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    f"{NAME.words}, for a workload of a Kubernetes namespace after that namespace and a dot",
)
"""A workload of a namespace has the name NAMESPACE.NAME, as no other namespace and no file with a plain name has."""
