"""List the objects under one path of the API server and watch their changes.

The watch has no end and needs no thread.

An open watch may stay silent for a minute after its server is gone. So each watch requests to end after `WATCH_S`, and
its regular end confirms that nothing else changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scaler.clouds.backoff import Backoff
from scaler.clouds.kubernetes.objects import version_of
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import list_of, unavailable_if_malformed
from scaler.clouds.singleflight import cancel_all
from scaler.ports import Clock, Misconfigured, PortError, Unavailable

WATCH_S: Final = 15
"""Requested duration of a watch: shorter than `CONFIRM_S`, so that a quiet cluster needs no single reads. Seconds."""
WATCH_GRACE_S: Final = 5.0
"""Time beyond `WATCH_S` after which a watch counts as hung. Seconds."""
CONFIRM_S: Final = 20.0
"""Maximum age of a confirmation: an older state does not count as the present one. Seconds."""
LIST_S: Final = 20.0
"""Time limit of one page of a list. Seconds."""
PAGE: Final = 250
"""Objects in a page: a Deployment has some 10 kB."""
PAUSE_S: Final = 0.2
"""Pause before a watch is opened again, and before the first retry. Seconds."""
MAX_PAUSE_S: Final = 5.0
"""Maximum pause between retries. Seconds."""
MISCONFIGURED_PAUSE_S: Final = 30.0
"""Pause after an error that a human must fix. Seconds."""


MAX_FIRST_WAIT_S: Final = 1.0
"""Maximum time that a first status waits for the lists. Seconds."""


@dataclass(frozen=True, slots=True)
class WatchPath:
    """A collection to list and watch.

    It has a description for errors (after `list` or `watch`), a path, and query parameters.
    """

    description: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)


class Follower(ABC):
    """Base class that lists and watches a collection.

    `error` is why the objects are unknown; None while known.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._clock = session.clock
        self.confirmed_at = float("-inf")
        self.error: PortError | None = None
        self.listed = asyncio.Event()
        """Set after the first list succeeded or failed."""
        self._rng = random.Random()  # noqa: S311 - spreads retries of many daemons
        self._task = session.tasks.start(f"watch of {name}", self._follow)

    @property
    def clock(self) -> Clock:
        return self._clock

    async def aclose(self) -> None:
        await cancel_all(self._task)

    @property
    def fresh(self) -> bool:
        """Whether the objects were confirmed within `CONFIRM_S`.

        Raises the defect that ended the watch.
        """
        if self._task.done():
            self._task.result()
        return 0 <= self._clock.now() - self.confirmed_at <= CONFIRM_S

    # --- overridden by subclasses

    @abstractmethod
    async def watch_path(self) -> WatchPath:
        """Return the collection. Raises port errors."""

    @abstractmethod
    def begin_list(self) -> None:
        """Begin a list: an object that is not added before `end_list` is gone."""

    @abstractmethod
    def add_listed(self, item: Body, at: float) -> None:
        """Add one object of a list that was requested at `at`."""

    @abstractmethod
    def end_list(self) -> None:
        """End a list that was read completely."""

    @abstractmethod
    def apply_change(self, change: str, item: Body, at: float) -> None:
        """Apply one change: ADDED, MODIFIED or DELETED."""

    def reset_discovery(self) -> None:  # noqa: B027 - most subclasses discover nothing
        """Drop the discovered properties of the collection after `Misconfigured`.

        They may be outdated.
        """

    # --- the watch

    async def _follow(self) -> None:
        """List and watch without end; after each error follow a pause and a new list."""
        backoff = Backoff(PAUSE_S, MAX_PAUSE_S, MISCONFIGURED_PAUSE_S)
        while True:
            try:
                path = await self.watch_path()
                version = await self._list(path)
                self.error = None
                self.listed.set()
                while True:
                    version = await self._watch(path, version)
                    backoff.succeeded()
                    await asyncio.sleep(PAUSE_S)
            except PortError as e:
                self.error = e
                self.listed.set()
                pause_s = backoff.pause_after_s(e)
                if isinstance(e, Misconfigured):
                    self.reset_discovery()
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.0))

    async def _list(self, path: WatchPath) -> str:
        """Read all objects; return the version to watch from."""
        requested_at = self._clock.now()
        self.begin_list()
        what, query = f"list {path.description}", {**path.query, "limit": str(PAGE)}
        while True:
            page = await self._session.call(what, "GET", path.path, LIST_S, query=query)
            with unavailable_if_malformed(what):
                for item in list_of(what, page, "items"):
                    self.add_listed(item, requested_at)
            metadata = page.get("metadata") or {}
            if not isinstance(metadata, dict):
                raise Unavailable(f"{what}: malformed response: no readable metadata")
            if not metadata.get("continue"):
                break
            query = {**path.query, "limit": str(PAGE), "continue": str(metadata["continue"])}
        self.end_list()
        self.confirmed_at = requested_at
        return str(metadata.get("resourceVersion", ""))

    async def _watch(self, path: WatchPath, version: str) -> str:
        """Follow one watch to its regular end; return the version to continue from."""
        query = {
            **path.query,
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "allowWatchBookmarks": "true",
        }
        what = f"watch {path.description}"
        async for event in self._session.events(what, path.path, WATCH_S + WATCH_GRACE_S, query):
            now = self._clock.now()
            version = version_of(event)
            if event["type"] != "BOOKMARK":
                with unavailable_if_malformed(what):
                    self.apply_change(event["type"], event["object"], now)
            self.confirmed_at = now
        self.confirmed_at = self._clock.now()
        return version


async def wait_until_listed(*followers: Follower) -> None:
    """Wait until each collection was listed once or failed, at most `MAX_FIRST_WAIT_S` in all."""
    if all(follower.listed.is_set() for follower in followers):
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MAX_FIRST_WAIT_S):
            for follower in followers:
                await follower.listed.wait()
