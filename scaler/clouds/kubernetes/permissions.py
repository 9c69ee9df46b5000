"""Permissions of the daemon's identity, by access reviews, which change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scaler.clouds.kubernetes.session import Session
from scaler.ports import Permit, Unavailable

REVIEWS_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Action:
    """A verb on a resource such as `deployments/scale`.

    `namespace` is empty for cluster-scoped resources, and `name` where the permission is for all objects.

    `needed`: the pool or setting does not work without it. `for_what` is the purpose of an optional action. `manifest`
    is the file in config/deploy that grants it.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    needed: bool = True
    for_what: str = ""
    manifest: str = "kubernetes.yaml"
    name: str = ""

    @property
    def description(self) -> str:
        namespace = f" in namespace {self.namespace}" if self.namespace else ""
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}{name}{namespace}"

    @property
    def remedy(self) -> str:
        role = "Role" if self.namespace else "ClusterRole"
        return f"grant it in a {role} with the rules in config/deploy/{self.manifest}"


async def permits(session: Session, actions: Sequence[Action], timeout_s: float) -> list[Permit]:
    """Return a permit for each action. Raises port errors."""
    return list(await asyncio.gather(*(_permit(session, action, timeout_s) for action in actions)))


async def _permit(session: Session, action: Action, timeout_s: float) -> Permit:
    resource, _, subresource = action.resource.partition("/")
    attributes = {"verb": action.verb, "group": action.group, "resource": resource}
    if subresource:
        attributes["subresource"] = subresource
    if action.namespace:
        attributes["namespace"] = action.namespace
    if action.name:
        attributes["name"] = action.name
    what = "create selfsubjectaccessreviews"
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    review = await session.call(what, "POST", REVIEWS_PATH, timeout_s, write=False, body=body)
    status = review.get("status")
    if not isinstance(status, dict) or not isinstance(status.get("allowed"), bool):
        raise Unavailable(f"{what}: malformed response: no status.allowed")
    granted: bool = status["allowed"]
    if granted or action.needed:
        return Permit(action.description, granted, "" if granted else action.remedy)
    return Permit(action.description, None, f"not granted; optional, needed only for {action.for_what}")
