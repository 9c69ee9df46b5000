"""Leases of the API group coordination.k8s.io: the store of shards and members."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from scaler.clouds.kubernetes import actions, credentials, permissions
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.objects import MANAGER, text_field
from scaler.clouds.kubernetes.session import Body, KubeResponse, Session, accepted_body
from scaler.clouds.response_validation import list_of, unavailable_if_malformed
from scaler.config.high_availability import HighAvailability
from scaler.leases.protocol import Claim, LeaseOrigin, Record
from scaler.leases.store import Observe, limited_duration_s
from scaler.ports import Conflict, Context, Permit

API: Final = "coordination.k8s.io/v1"
LABEL: Final = "forescale.io/installation"
"""Label of an installation's leases."""
NOTE: Final = "forescale.io/note"
"""Annotation with a record's note."""
NAMESPACE_FILE: Final = credentials.POD_FOLDER / "namespace"


async def open_leases(spec: HighAvailability, context: Context) -> KubernetesLeases:
    """Open an installation's leases. Raises `Misconfigured`."""
    load = credentials.credentials(spec.lease.cluster)
    scope = ("leases", spec.lease.cluster)
    session = await context.shared(scope, lambda: aclosing(Session(context, load, scope)))
    return await context.shared(("lease store", spec), lambda: aclosing(KubernetesLeases(spec, session)))


class KubernetesLeases:
    """The store's port."""

    def __init__(self, spec: HighAvailability, session: Session) -> None:
        self._session = session
        self._installation = spec.name
        self._timeout_s = spec.lease.renew_s
        self._namespace = spec.lease.namespace or own_namespace(NAMESPACE_FILE)
        self._path = f"/apis/{API}/namespaces/{self._namespace}/leases"
        self._query = {"labelSelector": f"{LABEL}={spec.name}"}
        self._watch: LeaseWatch | None = None

    async def permits(self) -> Sequence[Permit]:
        return await permissions.permits(self._session, actions.leases(self._namespace), self._timeout_s)

    async def list(self) -> Mapping[str, Record]:
        what = "list leases"
        body = await self._session.call(what, "GET", self._path, self._timeout_s, query=self._query)
        return dict(parse(item) for item in list_of(what, body, "items"))

    async def get(self, name: str) -> Record | None:
        what = f"get lease {name}"
        response = await self._session.request(what, "GET", f"{self._path}/{name}", self._timeout_s)
        return None if response.status == 404 else parse(accepted_body(what, response))[1]

    async def put(self, name: str, claim: Claim) -> Record:
        at = datetime.fromtimestamp(self._session.clock.now(), UTC).isoformat(timespec="microseconds")
        spec = {
            "holderIdentity": claim.record.holder,
            "leaseDurationSeconds": math.ceil(claim.record.duration_s),
            "leaseTransitions": claim.record.transitions,
            "renewTime": at.replace("+00:00", "Z"),
        }
        if claim.origin is not LeaseOrigin.HELD:
            spec["acquireTime"] = spec["renewTime"]
        metadata: Body = {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": MANAGER, LABEL: self._installation},
            "annotations": {NOTE: claim.record.note},
        }
        if claim.replaces is None:
            response = await self._write("create", name, {"metadata": metadata, "spec": spec})
        else:
            metadata["resourceVersion"] = claim.replaces
            response = await self._write("patch", name, {"metadata": metadata, "spec": spec})
        return parse(response)[1]

    async def _write(self, verb: str, name: str, body: Body) -> Body:
        what, query = f"{verb} lease {name}", {"fieldManager": MANAGER}
        method, path = ("POST", self._path) if verb == "create" else ("PATCH", f"{self._path}/{name}")
        if verb == "create":
            body = {"apiVersion": API, "kind": "Lease", **body}
        response = await self._session.request(what, method, path, self._timeout_s, query=query, body=body)
        return _unless_gone(what, response)

    async def delete(self, name: str, version: str) -> None:
        what, body = f"delete lease {name}", {"preconditions": {"resourceVersion": version}}
        response = await self._session.request(what, "DELETE", f"{self._path}/{name}", self._timeout_s, body=body)
        if response.status != 404:
            accepted_body(what, response)

    def watch(self, observe: Observe) -> None:
        self._watch = LeaseWatch(self._session, WatchPath("leases", self._path, self._query), observe)

    async def aclose(self) -> None:
        if self._watch is not None:
            await self._watch.aclose()


class LeaseWatch(Follower):
    """The watch of an installation's leases."""

    def __init__(self, session: Session, path: WatchPath, observe: Observe) -> None:
        self._path = path
        self._observe = observe
        self._known: set[str] = set()
        self._listed: set[str] = set()
        super().__init__(session, "leases")

    async def watch_path(self) -> WatchPath:
        return self._path

    def begin_list(self) -> None:
        self._listed = set()

    def add_listed(self, item: Body, at: float) -> None:
        name, record = parse(item)
        self._listed.add(name)
        self._observe(name, record)

    def end_list(self) -> None:
        for name in self._known - self._listed:
            self._observe(name, None)
        self._known = set(self._listed)

    def apply_change(self, change: str, item: Body, at: float) -> None:
        name, record = parse(item)
        self._known.add(name)
        self._observe(name, None if change == "DELETED" else record)


def parse(body: Body) -> tuple[str, Record]:
    """Parse a lease to its name and record. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed("a lease"):
        metadata, spec = body["metadata"], body.get("spec") or {}
        note = (metadata.get("annotations") or {}).get(NOTE) or ""
        transitions = spec.get("leaseTransitions")
        record = Record(
            str(spec.get("holderIdentity") or ""),
            transitions if isinstance(transitions, int) else 0,
            limited_duration_s(spec.get("leaseDurationSeconds")),
            text_field(metadata, "resourceVersion"),
            note if isinstance(note, str) else json.dumps(note),
            str(spec.get("renewTime") or ""),
        )
        return text_field(metadata, "name"), record


def own_namespace(file: Path) -> str:
    """Return the namespace of the daemon's pod; `default` outside a pod."""
    try:
        return file.read_text().strip() or "default"
    except OSError:
        return "default"


def _unless_gone(what: str, response: KubeResponse) -> Body:
    """Return the body of an accepted write. Raises `Conflict` where the lease was deleted."""
    if response.status == 404:
        raise Conflict(f"{what}: {response.message}")
    body: dict[str, Any] = accepted_body(what, response)
    return body
