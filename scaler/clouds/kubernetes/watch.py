"""One watch per cluster, kind and namespace that all workloads there share.

A first read waits for the list: thousands of workloads would otherwise delay its pages by a read each. An object that
is still unknown, or was not confirmed for `CONFIRM_S`, is read individually, within the limit of `FallbackReads`.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any

from scaler.clock import stopwatch_s
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import CONFIRM_S, LIST_S, Follower, WatchPath, wait_until_listed
from scaler.clouds.kubernetes.objects import (
    ScalableKind,
    ScalableState,
    discover,
    field_manager,
    is_newer,
    parse,
    scale_of,
)
from scaler.clouds.kubernetes.session import Body, Session, accepted_body
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Context, Misconfigured, Unavailable


class SharedWatch(Follower):
    """The states of objects of one kind in one namespace, and the calls on them."""

    def __init__(self, session: Session, api_version: str, kind: str, namespace: str) -> None:
        self._kind_names = (api_version, kind)
        self._namespace = namespace
        self._kind: ScalableKind | None = None
        self._states: dict[str, ScalableState] = {}
        self._reports_ready = False
        self._order = 0
        self._listed = 0
        self._listing = 0
        self._listed_names: set[str] = set()
        self._followed: ScalableKind | None = None
        self._flights = Singleflight()
        super().__init__(session, f"{kind} in {namespace}")

    async def aclose(self) -> None:
        await super().aclose()
        await self._flights.aclose()

    async def state(self, name: str, timeout_s: float, *, refresh: bool = False) -> ScalableState:
        """Return an object's state with size and ready count; its `at` is the last confirmation.

        Raises port errors.

        `refresh` reads it from the API server even if the stored state is fresh.
        """
        if self._task.done():
            self._task.result()  # raise the defect that ended the watch
        if refresh:
            stored = await self._flights.share(name, lambda: self._read(name, timeout_s))
        else:
            stored = await self._known(name, timeout_s)
        if stored.desired is None or stored.ready is None:
            stored = await self._flights.share((name, "scale"), lambda: self._complete(name, timeout_s))
        return replace(stored, at=self._confirmed_at(stored))

    async def _known(self, name: str, timeout_s: float) -> ScalableState:
        """Return an object's stored state, from a read where the watch has not confirmed it."""
        began_s = stopwatch_s()
        await wait_until_listed(self)
        stored = self._states.get(name)
        if stored is None or abs(self._clock.now() - self._confirmed_at(stored)) > CONFIRM_S:
            rest_s = timeout_s - (stopwatch_s() - began_s)
            stored = await self._flights.share(name, lambda: self._read_unconfirmed(name, rest_s))
        return stored

    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None:
        """Set the size of an object that still has `version` (empty: any). Raises port errors."""
        what, path = await self._path("patch", name, "scale", timeout_s)
        patch: Body = {"spec": {"replicas": replicas}}
        if version:
            patch["metadata"] = {"resourceVersion": version}
        query = {"fieldManager": field_manager()}
        scale = scale_of(what, await self._on_object(what, "PATCH", path, timeout_s, query=query, body=patch))
        if present := self._states.get(name):
            self._store(replace(present, desired=scale.desired, version=scale.version), self._order)

    # --- one object

    def _confirmed_at(self, state: ScalableState) -> float:
        """Return the time of a state's last confirmation, by a read or by the watch."""
        return max(state.at, self.confirmed_at)

    async def _path(self, verb: str, name: str, subresource: str, timeout_s: float) -> tuple[str, str]:
        """Return a call's name for errors, and its path."""
        kind = await self.kind(timeout_s)
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        what = f"{verb} {resource} {name}{kind.within(self._namespace)}"
        return what, kind.path(self._namespace, name, subresource)

    async def kind(self, timeout_s: float) -> ScalableKind:
        """Return how the API server serves the kind. Raises port errors."""
        if self._kind is None:
            self._kind = await self._flights.share(
                "kind", lambda: discover(self._session, self._kind_names[0], self._kind_names[1], timeout_s)
            )
        return self._kind

    async def _on_object(self, what: str, method: str, path: str, timeout_s: float, **request: Any) -> Body:
        """Return the body of a call on an object.

        After a 404 the kind is discovered again: it may have changed.
        """
        response = await self._session.request(what, method, path, timeout_s, **request)
        if response.status == 404:
            self._kind = None
        return accepted_body(what, response)

    async def _read_unconfirmed(self, name: str, timeout_s: float) -> ScalableState:
        what = f"{self._kind_names[1]} {name}"
        return await self._session.fallback_reads.run(what, timeout_s, lambda rest_s: self._read(name, rest_s))

    async def _read(self, name: str, timeout_s: float) -> ScalableState:
        requested_at, order = self._clock.now(), self._order
        what, path = await self._path("get", name, "", timeout_s)
        kind = await self.kind(timeout_s)
        try:
            state = parse(kind, await self._on_object(what, "GET", path, timeout_s), requested_at)
        except Misconfigured:
            self._states.pop(name, None)
            raise
        return self._store(state, order)

    async def _complete(self, name: str, timeout_s: float) -> ScalableState:
        """Return a state completed from the scale subresource.

        The ready count is `.status.readyReplicas`. Where absent, it is 0 if other objects of the kind have it, else the
        scale's `.status.replicas`.
        """
        order = self._order
        what, path = await self._path("get", name, "scale", timeout_s)
        scale = scale_of(what, await self._on_object(what, "GET", path, timeout_s))
        state = self._states.get(name)
        if state is None:
            raise Unavailable(f"{self._kind_names[1]} {name} was deleted during the read")
        ready = state.ready if state.ready is not None else 0 if self._reports_ready else scale.present
        return self._store(
            replace(state, version=scale.version, desired=scale.desired, ready=ready, selector=scale.selector), order
        )

    def _store(self, state: ScalableState, requested: int) -> ScalableState:
        """Store a state and return the stored one.

        A state stored after this one was `requested` stays unless this one's version is newer.
        """
        present = self._states.get(state.name)
        if present and present.order > requested and not is_newer(state.version, present.version):
            return present
        self._order += 1
        self._reports_ready |= state.ready is not None and state.desired is None
        stored = self._states[state.name] = replace(state, order=self._order)
        return stored

    # --- the watch

    async def watch_path(self) -> WatchPath:
        kind = self._followed = await self.kind(LIST_S)
        return WatchPath(f"{kind.plural}{kind.within(self._namespace)}", kind.path(self._namespace))

    def begin_list(self) -> None:
        self._listing, self._listed_names = self._order, set()

    def add_listed(self, item: Body, at: float) -> None:
        assert self._followed is not None  # noqa: S101 - `watch_path` sets it first
        state = parse(self._followed, item, at)
        self._listed_names.add(state.name)
        self._store(state, self._listing)

    def end_list(self) -> None:
        deleted = [
            n for n, state in self._states.items() if n not in self._listed_names and state.order <= self._listing
        ]
        for name in deleted:
            del self._states[name]
        self._listed = self._listing

    def apply_change(self, change: str, item: Body, at: float) -> None:
        assert self._followed is not None  # noqa: S101 - `watch_path` sets it first
        state = parse(self._followed, item, at)
        if change == "DELETED":
            self._states.pop(state.name, None)
        else:
            self._store(state, self._listed)

    def reset_discovery(self) -> None:
        self._kind = None


async def watch(context: Context, session: Session, cluster: KubeCluster, *names: str) -> SharedWatch:
    """Return the watch of `names` (API version, kind, namespace) that all workloads share."""
    return await context.shared(("kube watch", cluster, *names), lambda: aclosing(SharedWatch(session, *names)))
