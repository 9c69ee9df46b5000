"""Which Kubernetes cluster an adapter talks to: configuration only, no SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policies.rules import Rule


@dataclass(frozen=True, kw_only=True)
class KubeCluster:
    """One session and one set of watches are shared by all adapters whose cluster is equal."""

    kubeconfig: Annotated[
        str | None,
        Rule("Path of a kubeconfig; null: in a pod its service account, elsewhere $KUBECONFIG or ~/.kube/config."),
    ] = None
    context: Annotated[str | None, Rule("Context of the kubeconfig; null: its current one.")] = None
