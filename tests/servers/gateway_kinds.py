"""The kinds of the Gateway API and of Envoy AI Gateway, with the published schema of the fields that the tests set.

Like the published ones, a list of backendRefs is replaced as a whole, and the API server fills in a weight of 1.
"""

from __future__ import annotations

from typing import Any, Final

from tests.servers.kube_real import KubeNamespace
from tests.servers.prometheus_operator import TEXT, definition, items, record

GATEWAY: Final = "gateway.networking.k8s.io"
AI_GATEWAY: Final = "aigateway.envoyproxy.io"
HTTP_ROUTES: Final = "httproutes"
AI_ROUTES: Final = "aigatewayroutes"
WEIGHT: Final = {"type": "integer", "format": "int32", "minimum": 0, "maximum": 1_000_000, "default": 1}
PRIORITY: Final = {"type": "integer", "format": "int32", "minimum": 0, "default": 0}
HEADER: Final = record(("name", "value"), name=TEXT, value=TEXT)
PARENTS: Final = items(record(("name",), name=TEXT, namespace=TEXT))


def _rules(ref: dict[str, Any]) -> dict[str, Any]:
    matches = items(record(headers=items(HEADER)))
    return items(record(name=TEXT, matches=matches, backendRefs={**items(ref), "maxItems": 16}))


SERVICE_REF: Final = record(
    ("name",),
    group=TEXT,
    kind={"type": "string", "default": "Service"},
    name=TEXT,
    port={"type": "integer"},
    weight=WEIGHT,
)
AI_REF: Final = record(("name",), group=TEXT, kind=TEXT, name=TEXT, weight=WEIGHT, priority=PRIORITY)
HTTP_ROUTE: Final = record(parentRefs=PARENTS, rules=_rules(SERVICE_REF))
AI_ROUTE: Final = record(("rules",), parentRefs=PARENTS, rules=_rules(AI_REF))


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions, which have a status of their own."""
    kinds = [
        definition(GATEWAY, "HTTPRoute", HTTP_ROUTES, HTTP_ROUTE),
        definition(AI_GATEWAY, "AIGatewayRoute", AI_ROUTES, AI_ROUTE, version="v1beta1"),
    ]
    for kind in kinds:  # the API server refuses a group of k8s.io without an approval
        kind["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, for tests"}
        (version,) = kind["spec"]["versions"]
        version["subresources"] = {"status": {}}
        status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version["schema"]["openAPIV3Schema"]["properties"]["status"] = status
    return kinds


async def install(namespace: KubeNamespace) -> None:
    """Serve the kinds, and bind the shipped Role for them to the user `scaler`."""
    for crd in definitions():
        await namespace.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    await namespace.served(namespace.path(HTTP_ROUTES, api=f"apis/{GATEWAY}/v1"))
    await namespace.served(namespace.path(AI_ROUTES, api=f"apis/{AI_GATEWAY}/v1beta1"))
    await namespace.grant("kubernetes-routes")
    await namespace.permitted("patch", f"{AI_GATEWAY}/{AI_ROUTES}", granted=True)
