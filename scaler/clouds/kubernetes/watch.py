"""One watch per cluster, kind and namespace, shared by all workloads there: list, then follow the changes.

An object that was not confirmed for `CONFIRM_S` is read by itself. Only objects that a workload requested are kept, and
of those only the `ScalableState`.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import CONFIRM_S, LIST_S, Follower, WatchPath
from scaler.clouds.kubernetes.objects import (
    MANAGER,
    ScalableKind,
    ScalableState,
    discover,
    newer,
    parse,
    scale_of,
)
from scaler.clouds.kubernetes.session import Body, Session, is_accepted
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Context, Misconfigured, Unavailable


class SharedWatch(Follower):
    """What is known of the objects of one kind in one namespace, and the calls on them."""

    def __init__(self, session: Session, api_version: str, kind: str, namespace: str) -> None:
        self._names = (api_version, kind)
        self._namespace = namespace
        self._kind: ScalableKind | None = None
        self._requested_names: set[str] = set()
        self._states: dict[str, ScalableState] = {}
        self._reports_ready = False
        self._order = 0
        self._listed = 0
        self._listing = 0
        self._found: set[str] = set()
        self._followed: ScalableKind | None = None
        self._flights = Singleflight()
        super().__init__(session, f"{kind} in {namespace}")

    async def aclose(self) -> None:
        await super().aclose()
        await self._flights.aclose()

    async def state(self, name: str, timeout_s: float, *, refresh: bool = False) -> ScalableState:
        """Return an object's state with size and ready count, `at` when it was last confirmed.

        Raises the port errors.

        `anew` asks the API server however fresh the state that is kept.
        """
        if self._task.done():
            self._task.result()  # a fault of ours: let it be seen
        self._requested_names.add(name)
        found = self._states.get(name)
        if refresh or found is None or abs(self._clock.now() - self._at(found)) > CONFIRM_S:
            found = await self._flights.share(name, lambda: self._read(name, timeout_s))
        if found.desired is None or found.ready is None:
            found = await self._flights.share((name, "scale"), lambda: self._complete(name, timeout_s))
        return replace(found, at=self._at(found))

    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None:
        """Set the size of an object that still has `version` (empty: any). Raises port errors."""
        what, path = await self._path("patch", name, "scale", timeout_s)
        patch: Body = {"spec": {"replicas": replicas}}
        if version:
            patch["metadata"] = {"resourceVersion": version}
        query = {"fieldManager": MANAGER}
        scale = scale_of(what, await self._on_object(what, "PATCH", path, timeout_s, query=query, body=patch))
        if present := self._states.get(name):
            self._keep(replace(present, desired=scale.desired, version=scale.version), self._order)

    # --- one object

    def _at(self, state: ScalableState) -> float:
        """Return when a state was last confirmed, by a read or by the watch."""
        return max(state.at, self.confirmed_at)

    async def _path(self, verb: str, name: str, subresource: str, timeout_s: float) -> tuple[str, str]:
        """Return what is called, in words and as a path."""
        kind = await self.kind(timeout_s)
        of = f"{kind.plural}/{subresource}" if subresource else kind.plural
        what = f"{verb} {of} {name}{kind.within(self._namespace)}"
        return what, kind.path(self._namespace, name, subresource)

    async def kind(self, timeout_s: float) -> ScalableKind:
        """Return how the API server serves the kind. Raises the port errors."""
        if self._kind is None:
            self._kind = await self._flights.share(
                "kind", lambda: discover(self._session, self._names[0], self._names[1], timeout_s)
            )
        return self._kind

    async def _on_object(self, what: str, method: str, path: str, timeout_s: float, **request: Any) -> Body:
        """Return the answer of a call on an object.

        After a 404 the kind is discovered anew: it may be served otherwise.
        """
        answer = await self._session.ask(what, method, path, timeout_s, **request)
        if answer.status == 404:
            self._kind = None
        return is_accepted(what, answer)

    async def _read(self, name: str, timeout_s: float) -> ScalableState:
        requested_at, order = self._clock.now(), self._order
        what, path = await self._path("get", name, "", timeout_s)
        kind = await self.kind(timeout_s)
        try:
            state = parse(kind, await self._on_object(what, "GET", path, timeout_s), requested_at)
        except Misconfigured:
            self._states.pop(name, None)
            raise
        return self._keep(state, order)

    async def _complete(self, name: str, timeout_s: float) -> ScalableState:
        """Return a state with what only the scale subresource has.

        Ready are the `.status.readyReplicas`; 0 where this object has none but others of its kind do, and the scale's
        `.status.replicas` where the kind does not tell readiness.
        """
        order = self._order
        what, path = await self._path("get", name, "scale", timeout_s)
        scale = scale_of(what, await self._on_object(what, "GET", path, timeout_s))
        state = self._states.get(name)
        if state is None:
            raise Unavailable(f"{self._names[1]} {name} was deleted while it was read")
        ready = state.ready if state.ready is not None else 0 if self._reports_ready else scale.present
        return self._keep(
            replace(state, version=scale.version, desired=scale.desired, ready=ready, selector=scale.selector), order
        )

    def _keep(self, state: ScalableState, requested: int) -> ScalableState:
        """Keep a state and return the kept one.

        One that was learned after this one was `requested_at` for stays where it is newer.
        """
        present = self._states.get(state.name)
        if present and present.order > requested and not newer(state.version, present.version):
            return present
        self._order += 1
        self._reports_ready |= state.ready is not None and state.desired is None
        kept = self._states[state.name] = replace(state, order=self._order)
        return kept

    # --- the watch

    async def where(self) -> WatchPath:
        kind = self._followed = await self.kind(LIST_S)
        return WatchPath(f"{kind.plural}{kind.within(self._namespace)}", kind.path(self._namespace))

    def begin(self) -> None:
        self._listing, self._found = self._order, set()

    def found(self, item: Body, at: float) -> None:
        assert self._followed is not None  # noqa: S101 - `where` was asked first
        state = parse(self._followed, item, at)
        if state.name in self._requested_names:
            self._found.add(state.name)
            self._keep(state, self._listing)

    def end(self) -> None:
        gone = [n for n, state in self._states.items() if n not in self._found and state.order <= self._listing]
        for name in gone:
            del self._states[name]
        self._listed = self._listing

    def changed(self, change: str, item: Body, at: float) -> None:
        assert self._followed is not None  # noqa: S101 - `where` was asked first
        state = parse(self._followed, item, at)
        if change == "DELETED":
            self._states.pop(state.name, None)
        elif state.name in self._requested_names:
            self._keep(state, self._listed)

    def refused(self) -> None:
        self._kind = None


async def watch(context: Context, session: Session, cluster: KubeCluster, *names: str) -> SharedWatch:
    """Return the watch of `names` (API version, kind, namespace) that all workloads share."""
    return await context.shared(("kube watch", cluster, *names), lambda: aclosing(SharedWatch(session, *names)))
