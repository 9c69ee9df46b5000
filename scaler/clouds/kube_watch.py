"""One watch per cluster, kind and namespace, shared by all workloads there: list, then follow the changes.

An open watch may stay silent for a minute while nobody is behind it. So each one is asked to end after `WATCH_S`, and
its good end is what confirms that nothing else changed; an object that was not confirmed for `CONFIRM_S` is asked for
by itself. Only objects that somebody asked for are kept, and of those only the `State`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from scaler.clouds.cluster import KubeCluster
from scaler.clouds.flights import Flights, cancelled
from scaler.clouds.kube import Body, Session, accepted
from scaler.clouds.kube_objects import (
    MANAGER,
    Kind,
    State,
    discover,
    list_of,
    newer,
    parse,
    scale_of,
    version_of,
)
from scaler.ports import Context, Misconfigured, PortError, Unavailable

WATCH_S: Final = 15
"""How long a watch is asked to last: shorter than `CONFIRM_S`, so that a quiet cluster needs no single reads."""
WATCH_GRACE_S: Final = 5.0
"""How much longer it may last before it counts as hung."""
CONFIRM_S: Final = 20.0
"""An object whose state is not confirmed for so long is asked for by itself."""
LIST_S: Final = 20.0
"""For a page of a list."""
PAGE: Final = 250
"""Objects in a page: a Deployment is some 10 kB."""
PAUSE_S: Final = 0.2
"""Before a watch is opened again, and before the first retry."""
MAX_PAUSE_S: Final = 5.0
"""Before the last of ever rarer retries."""
HUMAN_PAUSE_S: Final = 30.0
"""Before a retry of what needs a human."""


class Watch:
    """What is known of the objects of one kind in one namespace, and the calls on them."""

    def __init__(self, session: Session, api_version: str, kind: str, namespace: str) -> None:
        self._session = session
        self._clock = session.clock
        self._names = (api_version, kind)
        self._namespace = namespace
        self._kind: Kind | None = None
        self._wanted: set[str] = set()
        self._states: dict[str, State] = {}
        self._tells_ready = False
        self._confirmed_at = float("-inf")
        self._order = 0
        self._listed = 0
        self._flights = Flights()
        self._chance = random.Random()  # noqa: S311 - spreads retries of many daemons
        self._task = asyncio.create_task(self._follow(), name=f"watch of {kind} in {namespace}")

    async def close(self) -> None:
        await cancelled(self._task)
        await self._flights.close()

    async def state(self, name: str, timeout_s: float, *, anew: bool = False) -> State:
        """An object's state, its size and ready count told, `at` when it was last confirmed. Raises the port errors.

        `anew` asks the API server however fresh the state that is kept.
        """
        if self._task.done():
            self._task.result()  # a fault of ours: let it be seen
        self._wanted.add(name)
        found = self._states.get(name)
        if anew or found is None or abs(self._clock.now() - self._at(found)) > CONFIRM_S:
            found = await self._flights.share(name, lambda: self._read(name, timeout_s))
        if found.desired is None or found.ready is None:
            found = await self._flights.share((name, "scale"), lambda: self._complete(name, timeout_s))
        return replace(found, at=self._at(found))

    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None:
        """Set the size of an object that is still as it was in `version` (empty: however it is). Raises port errors."""
        what, path = await self._path("patch", name, "scale", timeout_s)
        patch: Body = {"spec": {"replicas": replicas}}
        if version:
            patch["metadata"] = {"resourceVersion": version}
        query = {"fieldManager": MANAGER}
        scale = scale_of(what, await self._on_object(what, "PATCH", path, timeout_s, query=query, patch=patch))
        if present := self._states.get(name):
            self._keep(replace(present, desired=scale.desired, version=scale.version), self._order)

    # --- one object

    def _at(self, state: State) -> float:
        """When a state was last confirmed: read by itself, or by the watch that would have told of a change."""
        return max(state.at, self._confirmed_at)

    async def _path(self, verb: str, name: str, subresource: str, timeout_s: float) -> tuple[str, str]:
        """What is called, in words and as a path."""
        kind = await self._known_kind(timeout_s)
        of = f"{kind.plural}/{subresource}" if subresource else kind.plural
        what = f"{verb} {of} {name}{kind.within(self._namespace)}"
        return what, kind.path(self._namespace, name, subresource)

    async def _known_kind(self, timeout_s: float) -> Kind:
        if self._kind is None:
            self._kind = await self._flights.share(
                "kind", lambda: discover(self._session, self._names[0], self._names[1], timeout_s)
            )
        return self._kind

    async def _on_object(self, what: str, method: str, path: str, timeout_s: float, **request: Any) -> Body:
        """A call on an object. One that is not found may be served otherwise now: the kind is looked up again."""
        answer = await self._session.ask(what, method, path, timeout_s, **request)
        if answer.status == 404:
            self._kind = None
        return accepted(what, answer)

    async def _read(self, name: str, timeout_s: float) -> State:
        asked, order = self._clock.now(), self._order
        what, path = await self._path("get", name, "", timeout_s)
        kind = await self._known_kind(timeout_s)
        try:
            state = parse(kind, await self._on_object(what, "GET", path, timeout_s), asked)
        except Misconfigured:
            self._states.pop(name, None)
            raise
        return self._keep(state, order)

    async def _complete(self, name: str, timeout_s: float) -> State:
        """A state with what only the scale subresource tells.

        Ready are the `.status.readyReplicas`; 0 where this object has none but others of its kind do, and the
        scale's `.status.replicas` where the kind does not tell readiness.
        """
        order = self._order
        what, path = await self._path("get", name, "scale", timeout_s)
        scale = scale_of(what, await self._on_object(what, "GET", path, timeout_s))
        state = self._states.get(name)
        if state is None:
            raise Unavailable(f"{self._names[1]} {name} was deleted while it was read")
        ready = state.ready if state.ready is not None else 0 if self._tells_ready else scale.present
        return self._keep(replace(state, version=scale.version, desired=scale.desired, ready=ready), order)

    def _keep(self, state: State, asked: int) -> State:
        """Take a state in, unless one that was learnt after this one was `asked` for is newer."""
        present = self._states.get(state.name)
        if present and present.order > asked and not newer(state.version, present.version):
            return present
        self._order += 1
        self._tells_ready |= state.ready is not None and state.desired is None
        kept = self._states[state.name] = replace(state, order=self._order)
        return kept

    # --- the watch

    async def _follow(self) -> None:
        """List and watch without end; each error is followed by a pause and a new list."""
        failures = 0
        while True:
            try:
                kind = await self._known_kind(LIST_S)
                version = await self._list(kind)
                while True:
                    version = await self._changes(kind, version)
                    failures = 0
                    await asyncio.sleep(PAUSE_S)
            except PortError as e:
                pause_s = min(MAX_PAUSE_S, PAUSE_S * 2 ** min(failures, 10))
                failures += 1
                if isinstance(e, Misconfigured):
                    self._kind, pause_s = None, HUMAN_PAUSE_S
            await asyncio.sleep(pause_s * self._chance.uniform(0.5, 1.0))

    async def _list(self, kind: Kind) -> str:
        """Read all objects; gives the version to watch from. What is not listed any more is forgotten."""
        asked, order = self._clock.now(), self._order
        what = f"list {kind.plural}{kind.within(self._namespace)}"
        listed, query = set[str](), {"limit": str(PAGE)}
        while True:
            page = await self._session.call(what, "GET", kind.path(self._namespace), LIST_S, query=query)
            for item in list_of(page, "items", what):
                state = parse(kind, item, asked)
                if state.name in self._wanted:
                    listed.add(state.name)
                    self._keep(state, order)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            query = {"limit": str(PAGE), "continue": metadata["continue"]}
        gone = [n for n, state in self._states.items() if n not in listed and state.order <= order]
        for name in gone:
            del self._states[name]
        self._confirmed_at, self._listed = asked, order
        return str(metadata.get("resourceVersion", ""))

    async def _changes(self, kind: Kind, version: str) -> str:
        """Follow one watch to its good end; gives the version to go on from."""
        what = f"watch {kind.plural}{kind.within(self._namespace)}"
        query = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "allowWatchBookmarks": "true",
        }
        path = kind.path(self._namespace)
        async for event in self._session.events(what, path, WATCH_S + WATCH_GRACE_S, query):
            now = self._clock.now()
            if event["type"] == "BOOKMARK":
                version = version_of(event)
            else:
                state = parse(kind, event["object"], now)
                version = state.version
                self._take(event["type"], state)
            self._confirmed_at = now
        self._confirmed_at = self._clock.now()
        return version

    def _take(self, change: str, state: State) -> None:
        if change == "DELETED":
            self._states.pop(state.name, None)
        elif state.name in self._wanted:
            self._keep(state, self._listed)


async def watch(context: Context, session: Session, cluster: KubeCluster, *names: str) -> Watch:
    """The watch of `names` (API version, kind, namespace) that all workloads share."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Watch]:
        made = Watch(session, *names)
        try:
            yield made
        finally:
            await made.close()

    return await context.shared(("kube watch", cluster, *names), opening)
