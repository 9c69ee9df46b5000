"""RabbitMQ queues: messages that are ready, and those delivered and not acknowledged.

The counts come from the management plugin, in the form that omits statistics: it is cheap for the broker, and its
counts are at most 5 s old. A queue that is not running, as a quorum queue without a majority, is unavailable: its
counts are not those of the queue. RabbitMQ does not report the age of a quorum queue's oldest message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from yarl import URL

from policies.model import Absent, Fresh
from scaler.clouds.json_pages import JsonPages, json_pages
from scaler.clouds.response_validation import one_line, validated
from scaler.config.kinds.rabbitmq import QUANTITIES, RabbitMq
from scaler.ports import Context, Misconfigured, Unavailable
from scaler.sources.sanitize import sanitize

RUNNING: Final = frozenset({"running", "flow", "idle"})
"""States of a queue whose counts are its own. `flow` slows the producers down."""


async def open_rabbitmq(spec: RabbitMq, context: Context) -> RabbitMqSource:
    """Open the source. Raises `Misconfigured`."""
    return RabbitMqSource(spec, await json_pages(context, spec.url, spec.access))


class RabbitMqSource:
    """The source's port."""

    def __init__(self, spec: RabbitMq, pages: JsonPages) -> None:
        self._pages = pages
        self._what = f"RabbitMQ at {spec.url}: queue {spec.queue!r} in virtual host {spec.vhost!r}"
        path = f"{spec.url.rstrip('/')}/api/queues/{quote(spec.vhost, safe='')}/{quote(spec.queue, safe='')}"
        self._url = URL(f"{path}?disable_stats=true&enable_queue_totals=true", encoded=True)

    @validated("RabbitMQ")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        at, queue = await self._pages.get(self._what, self._url)
        if not isinstance(queue, dict):
            raise Unavailable(f"{self._what}: malformed response: not an object")
        state = queue.get("state")
        if state is not None and state not in RUNNING:
            raise Unavailable(f"{self._what}: its state is {one_line(state)}, so its counts are unknown")
        if queue.get("type") == "stream":
            raise Misconfigured(f"{self._what}: is a stream, whose messages stay after they are read; read its lag")
        return {q: _count(q, queue.get(key), key, at) for q, key in QUANTITIES.items()}


def _count(quantity: str, value: object, key: str, at: float) -> Fresh[float] | Absent:
    """Return a count, or why there is none: a node that has just started has not counted yet."""
    return Absent(f"RabbitMQ reports no {key} yet") if value is None else sanitize(quantity, value, at)
