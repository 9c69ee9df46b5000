"""Malformed responses: each part of each response in turn is omitted, or replaced by a wrong value.

Whatever the response, a read or write of an adapter succeeds or raises a port error, and its value is true: a missing
value never counts as zero.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import math
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias
from xml.etree import ElementTree as ET

from aiohttp import web

from policies.model import Absent, Fresh, PoolStatus
from scaler.clock import SystemClock
from scaler.clouds.api_budget import Calls
from scaler.ports import PortError
from scaler.shared_resources import Resources

GONE: Final = object()


def nested(depth: int) -> Any:
    """Return nested lists, deeper than any valid response, and within a JSON reader's stack."""
    made: Any = "deep"
    for _ in range(depth):
        made = [made]
    return made


STRANGE: Final[tuple[Any, ...]] = (
    GONE,
    None,
    [],
    {},
    [None],
    {"strange": [["strange"]]},
    "strange",
    -1,
    10**30,
    10**309,
    1e308,
    1e400,
    True,
    "\ud800",
    nested(150),
)
"""Wrong values. The last ones fail late: at a conversion to float, a sum, an encoding, or a walk."""
SHOWN: Final = 200
"""Characters of an error in a test's failure."""
LATER_S: Final = 400.0
"""Time after which every shared response is read again. Seconds."""
WRITTEN: Final[tuple[Any, ...]] = (GONE, None, {"strange": ["strange"]}, "strange", -1, 10**30, 10**309, 1e308, 1e400)
"""Wrong values where everything is text."""
ITEMS: Final = frozenset({"item", "member"})
"""Elements of AWS's lists."""
JSON: Final = ("application/json", "application/x-amz-json-1.0", "application/x-amz-json-1.1")
Path: TypeAlias = tuple[Any, ...]
Mangle: TypeAlias = Callable[[str, Any], Any]
"""Changes a response to a call of this name before it is sent; bytes are sent unchanged."""


Holds: TypeAlias = Callable[[Any, Any, bool], str]
"""Returns why a value is invalid, given the true one and whether the response may be honest; empty: valid."""


def anything(_found: object, _honest: object, _fair: bool) -> str:
    """Accept any value."""
    return ""


class Spoilable(Protocol):
    """A server whose responses can be changed."""

    mangle: Mangle | None


class Ahead:
    """The system clock with an offset that the test advances, so that shared responses expire."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.ahead_s = 0.0

    def now(self) -> float:
        return self._clock.now() + self.ahead_s

    async def sleep_until(self, t: float) -> None:
        await self._clock.sleep_until(t - self.ahead_s)

    def step_s(self) -> float:
        return 0.0


class OffsetClock(Protocol):
    """A clock with an offset."""

    ahead_s: float


class NoJitter(random.Random):
    """A random number generator that gives no pause."""

    def random(self) -> float:
        return 0.0


def hasty(resources: Resources) -> Resources:
    """Retry calls without a pause."""
    resources.calls = Calls(NoJitter())
    return resources


@dataclass
class Lane:
    """One world with an adapter, a call to test, and a check of its values.

    Several equal lanes are spoiled concurrently, since most of the time is waiting.
    """

    server: Spoilable
    ask: Callable[[], Awaitable[Any]]
    clock: OffsetClock
    holds: Holds = anything
    optional: frozenset[str] = frozenset()
    """Fields that an honest response may omit."""


async def spoil_everything(*lanes: Lane, strange: Sequence[Any] = STRANGE, only: str | tuple[str, ...] = "") -> int:
    """Spoil each part of each response to the call, one at a time; return the number of spoiled parts.

    `only`: the prefix of the calls to spoil.
    """
    answers, honest = await _record_responses(lanes[0])
    answers = {name: whole for name, whole in answers.items() if name.startswith(only)}
    todo = [(name, path, one) for name, whole in answers.items() for path in spots(whole) for one in strange]
    count, wrongs = len(todo), list[str]()

    async def drive(lane: Lane) -> None:
        while todo:
            name, path, one = todo.pop()
            if wrong := await _spoil(lane, (name, path, one), honest):
                shown = "nothing" if one is GONE else repr(one)
                wrongs.append(f"{name}: {shown} at {'.'.join(map(str, path)) or 'the whole'}: {wrong}")

    await asyncio.gather(*map(drive, lanes))
    assert not wrongs, f"{len(wrongs)} of {count}:\n" + "\n".join(sorted(wrongs)[:SHOWN])
    for lane in lanes:
        lane.server.mangle = None
        lane.clock.ahead_s += LATER_S
        wrong = lane.holds(await lane.ask(), honest, False)
        assert not wrong, f"after all spoiled responses: {wrong}"
    return count


async def _record_responses(lane: Lane) -> tuple[dict[str, Any], Any]:
    """Return the responses of a successful call by name, and its value."""
    answers: dict[str, Any] = {}

    def note(name: str, body: Any) -> Any:
        answers.setdefault(name, copy.deepcopy(body))
        return body

    lane.clock.ahead_s += LATER_S
    lane.server.mangle = note
    return answers, await lane.ask()


async def _spoil(lane: Lane, at: tuple[str, Path, Any], honest: Any) -> str:
    """Return why the outcome of a response spoiled `at` one place is invalid; empty where it is valid."""
    name, path, strange = at
    fair = False

    def spoil(call: str, body: Any) -> Any:
        nonlocal fair
        if call != name or path not in set(spots(body)):
            return body
        fair = fair or is_fair(body, path, strange, lane.optional)
        return spoiled(body, path, strange)

    lane.server.mangle = spoil
    lane.clock.ahead_s += LATER_S
    try:
        value = await lane.ask()
    except PortError as e:
        return unwritable(str(e))
    except Exception as e:  # noqa: BLE001 - the test looks for them
        return repr(e)
    return unwritable(value) or lane.holds(value, honest, fair)


def unwritable(value: Any) -> str:
    """Return why a value cannot be written to the journal; empty where it can."""
    if isinstance(value, str):
        return "" if value.encode(errors="replace").decode() == value else f"{value!r} cannot be written as UTF-8"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} cannot be written as JSON"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts: Any = (getattr(value, field.name) for field in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        parts = (*value.keys(), *value.values())
    else:
        parts = value if isinstance(value, list | tuple | set | frozenset) else ()
    return next(filter(None, map(unwritable, parts)), "")


def spots(node: Any, path: Path = ()) -> Iterator[Path]:
    """Return the paths of a response's parts; the first item of a list stands for all of them."""
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from spots(value, (*path, key))
    elif isinstance(node, list) and node:
        yield from spots(node[0], (*path, 0))


def spoiled(whole: Any, path: Path, strange: Any) -> Any:
    """Return the response with another value at one place."""
    if not path:
        return None if strange is GONE else strange
    changed = copy.deepcopy(whole)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    if strange is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = strange
    return changed


def is_fair(whole: Any, path: Path, strange: Any, optional: frozenset[str]) -> bool:
    """Return whether such a response may be honest: another word, an empty list, or a part of one."""
    node = whole
    for step in path:
        node = node[step]
    nothing = strange == {} or (isinstance(strange, dict) and not path)
    if isinstance(node, dict) and nothing and node and node.keys() <= optional:
        return True
    if path and (strange is GONE or strange == []) and path[-1] in ITEMS | optional:
        return True
    if path and strange is GONE and isinstance(path[-1], int):
        return True
    if isinstance(node, dict) and len(node) == 1 and node.keys() <= ITEMS:
        return not isinstance(strange, dict) or not strange  # in XML, a list without elements is empty
    if isinstance(node, str):
        return isinstance(strange, str) and ("zones" in path or not node.lstrip("-").isdecimal())
    return isinstance(node, list) and strange == []


# Valid values of a world that does not change.


def same_pool(status: PoolStatus, honest: PoolStatus, fair: bool) -> str:
    """Accept only the true size, no further serving replicas, and no smaller reservation: sizes would be lowered."""
    counts = {
        "ready": status.ready,
        "doomed": status.interruption_pending,
        "failed": status.failed,
        "interrupted": status.interrupted,
    }
    if wrong := [f"{name} is {value!r}" for name, value in counts.items() if not is_count(value)]:
        return ", ".join(wrong)
    if not is_count(status.desired) or status.desired < honest.desired:
        return f"desired is {status.desired!r}, and {honest.desired} in truth"
    if status.ready > honest.ready:
        return f"ready is {status.ready}, and {honest.ready} in truth"
    if status.reserved not in {None, honest.reserved} and not fair:
        return f"reserved is {status.reserved!r}, and {honest.reserved} in truth"
    return ""


def same_pool_or_fair(status: PoolStatus, honest: PoolStatus, fair: bool) -> str:
    """Accept the same for a pool whose size is the number of listed machines."""
    return "" if fair else same_pool(status, honest, fair)


def same_readings(readings: Mapping[str, Any], honest: Mapping[str, Any], fair: bool) -> str:
    """Accept for each reading the true value, a declared lower bound, or absence."""
    if readings.keys() != honest.keys():
        return f"reads {sorted(readings)} instead of {sorted(honest)}"
    for quantity, reading in readings.items():
        true = honest[quantity]
        if isinstance(reading, Absent):
            continue
        if not isinstance(reading, Fresh) or isinstance(reading.value, bool) or not isinstance(reading.value, float):
            return f"{quantity} is {reading!r}"
        if isinstance(true, Absent) and not fair:
            return f"{quantity} is {reading.value!r}, and not known in truth"
        if isinstance(true, Fresh) and reading.value < true.value and not reading.missing and not fair:
            return f"{quantity} is {reading.value!r}, and {true.value!r} in truth"
    return ""


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# Encoded responses.


def mangled(name: str, answer: web.Response, mangle: Mangle | None) -> web.Response:
    """Return a JSON or XML response changed by a function; refusals and other formats stay unchanged."""
    if mangle is None or answer.status >= 300 or not isinstance(answer.body, bytes) or not answer.body:
        return answer
    headers = {k: v for k, v in answer.headers.items() if k.lower() not in {"content-length", "content-type"}}
    if answer.content_type in JSON:
        spoiled_body = mangle(name, json.loads(answer.body))
        if isinstance(spoiled_body, bytes):
            return web.Response(
                status=answer.status, body=spoiled_body, content_type=answer.content_type, headers=headers
            )
        text = json.dumps(spoiled_body)
    elif answer.content_type in {"text/xml", "application/xml"}:
        root = ET.fromstring(answer.body)  # noqa: S314 - written by the test's own server
        text = ET.tostring(_element(_plain(root.tag), mangle(name, _node(root))), encoding="unicode")
    else:
        return answer
    return web.Response(status=answer.status, text=text, content_type=answer.content_type, headers=headers)


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]


def _node(element: ET.Element) -> Any:
    """Return an element in JSON's form: its children by name, repeated names as a list."""
    if len(element) == 0:
        return element.text or ""
    children: dict[str, Any] = {}
    for child in element:
        name, node = _plain(child.tag), _node(child)
        if name not in children:
            children[name] = node
        elif isinstance(children[name], list):
            children[name].append(node)
        else:
            children[name] = [children[name], node]
    return children


def _element(name: str, node: Any) -> ET.Element:
    element = ET.Element(name)
    if isinstance(node, dict):
        for key, value in node.items():
            element.extend(_element(key, one) for one in (value if isinstance(value, list) else [value]))
    elif isinstance(node, list):
        element.extend(_element("member", one) for one in node)
    elif node is not None:
        element.text = {True: "true", False: "false"}[node] if isinstance(node, bool) else str(node)
    return element
