"""Redis lists and streams on a real server: lag, messages in flight, ages, names in errors, TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.tls import Tls
from scaler.config.kinds.redis import Redis
from scaler.config.secret import Secret
from scaler.ports import Misconfigured
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.redis import MAX_COUNTED
from tests.factories import DEADLINE_S
from tests.servers.certificate import self_signed
from tests.servers.redis import needs_redis, port_of, redis_server

PASSWORD = Secret(env="REDIS_PASSWORD")
pytestmark = [pytest.mark.slow, needs_redis]


@pytest.fixture
async def admin() -> AsyncIterator[Client]:
    async with redis_server() as client:
        yield client


async def read(admin: Client, **settings: Any) -> Mapping[str, Fresh[float] | Absent]:
    async with Resources() as resources:
        spec = Redis(host="127.0.0.1", port=port_of(admin), **settings)
        return await (await open_source(spec, AdapterContext(resources, SystemClock(), DEADLINE_S))).sample()


def values(readings: Mapping[str, Fresh[float] | Absent]) -> dict[str, float]:
    return {q: r.value for q, r in readings.items() if isinstance(r, Fresh)}


async def test_list_and_processing_list_are_visible_and_in_flight(admin: Client) -> None:
    await admin.rpush("prompts", *"abcde")
    await admin.lmove("prompts", "working")
    assert values(await read(admin, list_key="prompts", processing_key="working")) == {"visible": 4, "in_flight": 1}


async def test_group_reports_unread_and_unacknowledged_messages(admin: Client) -> None:
    await admin.xgroup_create("prompts", "llm", "0", mkstream=True)
    for _ in range(5):
        last = await admin.xadd("prompts", {"prompt": "hello"})
    await admin.xreadgroup("llm", "worker", {"prompts": ">"}, count=3)
    assert values(await read(admin, stream_key="prompts", group="llm")) == {"visible": 2, "in_flight": 3}
    await admin.xreadgroup("llm", "worker", {"prompts": ">"})
    await admin.xack("prompts", "llm", last)
    assert values(await read(admin, stream_key="prompts", group="llm")) == {"visible": 0, "in_flight": 4}


async def test_new_group_counts_what_came_after_its_id(admin: Client) -> None:
    await admin.xadd("prompts", {"prompt": "hello"})
    await admin.xgroup_create("prompts", "from-the-start", "0")
    await admin.xgroup_create("prompts", "from-now", "$")
    assert values(await read(admin, stream_key="prompts", group="from-the-start"))["visible"] == 1
    assert values(await read(admin, stream_key="prompts", group="from-now"))["visible"] == 0


@pytest.mark.parametrize(("waiting", "lower_bound"), [(20, False), (MAX_COUNTED + 20, True)])
async def test_unknown_lag_is_counted_up_to_a_limit(admin: Client, waiting: int, *, lower_bound: bool) -> None:
    await admin.xgroup_create("prompts", "llm", "0", mkstream=True)
    ids = [await admin.xadd("prompts", {"prompt": "hello"}) for _ in range(waiting + 2)]
    await admin.xreadgroup("llm", "worker", {"prompts": ">"}, count=1)
    await admin.xdel("prompts", ids[5])
    (group,) = await admin.xinfo_groups("prompts")
    assert group["lag"] is None, "Redis knows the lag after a deletion: the test needs another way"
    reading = (await read(admin, stream_key="prompts", group="llm"))["visible"]
    assert isinstance(reading, Fresh)
    assert reading.value == min(waiting, MAX_COUNTED)
    assert bool(reading.missing) is lower_bound


@pytest.mark.parametrize("group", ["llm", None])
async def test_age_is_that_of_the_oldest_visible_message(admin: Client, group: str | None) -> None:
    await admin.xgroup_create("prompts", "llm", "0", mkstream=True)
    settings = {"stream_key": "prompts", "group": group, "oldest_age": True}
    assert values(await read(admin, **settings))["oldest_age_s"] == 0
    seconds, _ = await admin.time()
    await admin.xadd("prompts", {"prompt": "hello"}, id=f"{(seconds - 90) * 1000}-0")
    await admin.xadd("prompts", {"prompt": "hello"})
    assert 90 <= values(await read(admin, **settings))["oldest_age_s"] < 120


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"stream_key": "promts", "group": "llm"}, "there is no stream 'promts'"),
        ({"stream_key": "promts"}, "there is no stream 'promts'"),
        ({"stream_key": "prompts", "group": "lm"}, "stream 'prompts' has no consumer group 'lm'; it has llm"),
        ({"list_key": "prompts"}, "WRONGTYPE"),
        (
            {"list_key": "prompts", "username": "nobody", "password": Secret(env="REDIS_PASSWORD")},
            "check username and password",
        ),
    ],
)
async def test_wrong_setting_is_named(
    admin: Client, settings: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2-but-longer")
    await admin.xgroup_create("prompts", "llm", "0", mkstream=True)
    with pytest.raises(Misconfigured) as error:
        await read(admin, **settings)
    assert reason in str(error.value)
    assert "hunter2" not in str(error.value)


async def test_certificate_is_verified(tmp_path: Path) -> None:
    _, ca_file = self_signed(tmp_path)
    async with redis_server(tls=tmp_path) as admin:
        await admin.rpush("prompts", "hello")
        assert values(await read(admin, list_key="prompts", tls=Tls(ca_file=ca_file))) == {"visible": 1}
        with pytest.raises(Misconfigured, match=r"set tls\.ca_file"):
            await read(admin, list_key="prompts", tls=Tls())
        with pytest.raises(Misconfigured, match=r"absent\.pem cannot be used: No such file"):
            await read(admin, list_key="prompts", tls=Tls(ca_file="/absent.pem"))


async def test_user_of_an_acl_signs_in_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ca_file = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    _, other_ca = self_signed(tmp_path / "other")
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2-but-longer")
    login = {"username": "scaler", "password": PASSWORD, "tls": Tls(ca_file=ca_file)}
    async with redis_server(tls=tmp_path) as admin:
        await admin.acl_setuser(
            "scaler", enabled=True, passwords=["+hunter2-but-longer"], keys=["prompts"], commands=["+llen"]
        )
        await admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["-llen"])
        await admin.rpush("prompts", "hello")
        assert values(await read(admin, list_key="prompts", **login)) == {"visible": 1}
        refused: list[tuple[dict[str, Any], str]] = [
            ({"list_key": "secrets"}, "(?i)no permissions"),
            ({"username": None, "password": None}, "(?i)no permissions"),
            ({"username": "nobody"}, "check username and password"),
            ({"tls": Tls(ca_file=other_ca)}, r"set tls\.ca_file"),
        ]
        for change, reason in refused:
            with pytest.raises(Misconfigured, match=reason) as error:
                await read(admin, **{"list_key": "prompts", **login, **change})
            assert "hunter2" not in str(error.value)
        monkeypatch.setenv("REDIS_PASSWORD", "wrong-and-longer")
        with pytest.raises(Misconfigured, match="check username and password") as error:
            await read(admin, list_key="prompts", **login)
        assert "wrong-and" not in str(error.value)
