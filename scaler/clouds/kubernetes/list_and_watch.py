"""List what is under one path of the API server and follow its changes, without end and without a thread.

An open watch may stay silent for a minute after its server is gone. Each one is requested to end after `WATCH_S`, and
its good end is what confirms that nothing else changed.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scaler.clouds.backoff import Backoff
from scaler.clouds.kubernetes.objects import version_of
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import list_of, understood
from scaler.clouds.singleflight import cancelled
from scaler.ports import Clock, Misconfigured, PortError, Unavailable

WATCH_S: Final = 15
"""How long a watch is asked to last: shorter than `CONFIRM_S`, so that a quiet cluster needs no single reads."""
WATCH_GRACE_S: Final = 5.0
"""How much longer it may last before it counts as hung."""
CONFIRM_S: Final = 20.0
"""What was not confirmed for so long is no longer taken for the present state."""
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


@dataclass(frozen=True, slots=True)
class WatchPath:
    """A collection: in words (`list` or `watch` go before them), its path, and what narrows it."""

    words: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)


class Follower(ABC):
    """Keeps what a subclass makes of the objects. `error` is why they are not known now; None while they are."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._clock = session.clock
        self.confirmed_at = float("-inf")
        self.error: PortError | None = None
        self.listed = asyncio.Event()
        """Set once it is known what there is, or why that is not known."""
        self._rng = random.Random()  # noqa: S311 - spreads retries of many daemons
        self._task = session.tasks.start(f"watch of {name}", self._follow)

    @property
    def clock(self) -> Clock:
        return self._clock

    async def aclose(self) -> None:
        await cancelled(self._task)

    @property
    def fresh(self) -> bool:
        """Whether the objects were confirmed lately. A defect of the watch is raised here."""
        if self._task.done():
            self._task.result()
        return 0 <= self._clock.now() - self.confirmed_at <= CONFIRM_S

    # --- what a subclass tells

    @abstractmethod
    async def where(self) -> WatchPath:
        """Return the collection. Raises the port errors."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a list: what is not `found` until its `end` is gone."""

    @abstractmethod
    def found(self, item: Body, at: float) -> None:
        """Take one object of a list that was requested at `at`."""

    @abstractmethod
    def end(self) -> None:
        """End the list, which is whole."""

    @abstractmethod
    def changed(self, change: str, item: Body, at: float) -> None:
        """Take one change: ADDED, MODIFIED or DELETED."""

    def refused(self) -> None:  # noqa: B027 - most have nothing to forget
        """Forget what was discovered about the collection: it needs a human, so it may be wrong."""

    # --- the watch

    async def _follow(self) -> None:
        """List and watch without end; each error is followed by a pause and a new list."""
        backoff = Backoff(PAUSE_S, MAX_PAUSE_S, HUMAN_PAUSE_S)
        while True:
            try:
                where = await self.where()
                version = await self._list(where)
                self.error = None
                self.listed.set()
                while True:
                    version = await self._changes(where, version)
                    backoff.succeeded()
                    await asyncio.sleep(PAUSE_S)
            except PortError as e:
                self.error = e
                self.listed.set()
                pause_s = backoff.after(e)
                if isinstance(e, Misconfigured):
                    self.refused()
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.0))

    async def _list(self, where: WatchPath) -> str:
        """Read all objects; gives the version to watch from."""
        requested_at = self._clock.now()
        self.begin()
        what, query = f"list {where.words}", {**where.query, "limit": str(PAGE)}
        while True:
            page = await self._session.call(what, "GET", where.path, LIST_S, query=query)
            with understood(what):
                for item in list_of(what, page, "items"):
                    self.found(item, requested_at)
            metadata = page.get("metadata") or {}
            if not isinstance(metadata, dict):
                raise Unavailable(f"{what}: metadata that cannot be read")
            if not metadata.get("continue"):
                break
            query = {**where.query, "limit": str(PAGE), "continue": str(metadata["continue"])}
        self.end()
        self.confirmed_at = requested_at
        return str(metadata.get("resourceVersion", ""))

    async def _changes(self, where: WatchPath, version: str) -> str:
        """Follow one watch to its good end; gives the version to go on from."""
        query = {
            **where.query,
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "allowWatchBookmarks": "true",
        }
        what = f"watch {where.words}"
        async for event in self._session.events(what, where.path, WATCH_S + WATCH_GRACE_S, query):
            now = self._clock.now()
            version = version_of(event)
            if event["type"] != "BOOKMARK":
                with understood(what):
                    self.changed(event["type"], event["object"], now)
            self.confirmed_at = now
        self.confirmed_at = self._clock.now()
        return version
