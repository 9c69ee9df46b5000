"""Numbers in JSON documents: pointers, units, times, and the reasons for missing ones."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.config.kinds.http_json import HttpJson
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.http_json import find
from tests.factories import DEADLINE_S
from tests.servers.site import listening

DOCUMENT: dict[str, Any] = {
    "queues": [{"waiting": 7, "age_ms": 1500, "text": "12"}, {}],
    "a/b": {"m~n": 3},
    "up": True,
    "at": "2026-12-01T00:00:00Z",
    "none": None,
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("/queues/0/waiting", 7), ("/queues/0/text", "12"), ("/a~1b/m~0n", 3)],
    ids=["list item", "number as text", "escaped names"],
)
def test_pointer_finds_a_value(pointer: str, value: object) -> None:
    assert find(DOCUMENT, pointer) == value


@pytest.mark.parametrize(
    ("pointer", "reason"),
    [
        ("/queue/0", "/queue/0: the document has no 'queue'; it has a/b, at, none, queues, up"),
        ("/queues/1/waiting", "/queues/1/waiting: /queues/1 has no 'waiting'"),
        ("/queues/2/waiting", "/queues/2/waiting: /queues is a list of 2 items, without item '2'"),
        ("/queues/-1/waiting", "/queues/-1/waiting: /queues is a list of 2 items, without item '-1'"),
        ("/up/waiting", "/up/waiting: /up is True, which has no 'waiting'"),
        ("/up", "/up is True, not a number"),
        ("/none", "/none is None, not a number"),
        ("/a~1b", "/a~1b is {'m~n': 3}, not a number"),
    ],
)
def test_missing_value_has_a_reason(pointer: str, reason: str) -> None:
    assert find(DOCUMENT, pointer) == Absent(reason)


async def read(**settings: Any) -> Any:
    async def stats(_: web.Request) -> web.Response:
        return web.json_response(DOCUMENT)

    app = web.Application()
    app.router.add_get("/stats", stats)
    async with listening(app) as port, Resources() as resources:
        spec = HttpJson(url=f"http://127.0.0.1:{port}/stats", **settings)
        return await (await open_source(spec, AdapterContext(resources, SystemClock(), DEADLINE_S))).sample()


async def test_values_have_their_unit_and_the_time_of_the_service() -> None:
    values = {"visible": "/queues/0/waiting", "oldest_age_s": "/queues/0/age_ms"}
    readings = await read(values=values, divide_by={"oldest_age_s": 1000}, measured_at="/at")
    assert readings == {"visible": Fresh(7, 1796083200.0), "oldest_age_s": Fresh(1.5, 1796083200.0)}


async def test_missing_value_leaves_the_others() -> None:
    readings = await read(values={"visible": "/queues/0/waiting", "in_flight": "/queues/0/running"})
    assert readings["visible"].value == 7
    assert "has no 'running'; it has age_ms, text, waiting" in readings["in_flight"].reason


async def test_missing_time_makes_all_values_absent() -> None:
    readings = await read(values={"visible": "/queues/0/waiting"}, measured_at="/queues/0/text2")
    assert "has no 'text2'" in readings["visible"].reason
