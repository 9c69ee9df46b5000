"""The scenario that all clouds share, run by the daemon on a local counterpart of a cloud.

A queue fills and spot machines are bought; one is taken after a notice, and another takes its place; spot markets run
out and on-demand takes over; the warm pool that it draws from drains and is filled again; load falls and all is handed
back. The journal of it replays equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from policies.model import PoolName, PoolStatus, Result, Tick
from scaler.clock import SystemClock
from tests.servers.daemon import Daemon, daemon, until

MESSAGES_PER_REPLICA: Final = 5
INTERVAL_S: Final = 2.0
TIMEOUT_S: Final = 25.0
MAX_NOTICE_TICKS: Final = 3
"""Maximum number of ticks until a notice is visible: a notice requests a tick by itself."""
SPOT: Final = ("spot-1", "spot-2")
REGULAR: Final = "regular"
WARM: Final = "warm"
WARM_REPLICAS: Final = 2
FIRST_WAVE: Final = 4
"""Replica equivalents of the first wave, which spot alone carries."""
SECOND_WAVE: Final = 9
"""Replica equivalents of the second wave, for which spot does not suffice."""


class Rig(Protocol):
    """A local counterpart of a cloud. Its pools have the names above; `WARM` may be missing."""

    @property
    def env(self) -> Mapping[str, str]:
        """Environment variables of the daemon."""

    def sources(self) -> Mapping[str, Any]:
        """Return the workload's source, which counts messages as ``visible``."""

    def pools(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the pools' kinds and keys by name; the scenario adds markets, prices and tiers."""

    async def queue(self, messages: int) -> None:
        """Set the number of waiting messages."""

    async def requested(self, pool: str) -> int:
        """Return the size that was last requested from the cloud."""

    async def interrupt(self, pool: str) -> None:
        """Announce the interruption of a ready machine, return, and interrupt it some seconds later."""

    async def exhaust(self, pool: str) -> None:
        """Exhaust the capacity of the pool's machine type in its zone and market."""

    async def warm(self) -> int:
        """Return the number of machines in the warm pool."""


def document(rig: Rig) -> dict[str, Any]:
    """Return the workload's document, with windows of seconds in place of minutes."""
    terms: dict[str, dict[str, Any]] = {
        SPOT[0]: {"market": "spot", "zone": "zone-1", "price_usd_per_hour": 2.0},
        SPOT[1]: {"market": "spot", "zone": "zone-2", "price_usd_per_hour": 2.1},
        REGULAR: {"market": "on_demand", "zone": "zone-1", "price_usd_per_hour": 7.0},
        WARM: {"tier": "warm_node", "serves": REGULAR, "min_replicas": WARM_REPLICAS, "price_usd_per_hour": 0.1},
    }
    times = {WARM: {"lead_time_s": 1.0}}
    pools = {
        name: {**keys, "accelerator": "H100", **terms[name], **times.get(name, {"lead_time_s": 5.0})}
        for name, keys in rig.pools().items()
    }
    return {
        "workload": "llm",
        "min_replicas": 0,
        "max_replicas": 20,
        "interval_s": INTERVAL_S,
        "deadline_s": 1.8,
        "cooldown_s": 4.0,
        "sources": dict(rig.sources()),
        "policies": {
            "messages": {"kind": "queue_depth", "target_per_replica": MESSAGES_PER_REPLICA, "count": ["visible"]}
        },
        "pools": pools,
        "scale_up": {"max_replicas": 20},
        "scale_down": {"window_s": 4.0, "period_s": 2.0, "max_replicas": 20, "max_evidence_gap_s": 8.0},
    }


def configure(rig: Rig, folder: Path) -> Path:
    """Write the configuration."""
    config = folder / "config"
    config.mkdir()
    settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}}
    (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
    (config / "llm.yaml").write_text(yaml.safe_dump(document(rig)))
    return config


async def run_story(rig: Rig, folder: Path) -> None:
    """Run the whole scenario."""
    async with daemon(str(configure(rig, folder)), journal=folder / "journal", env=rig.env) as d:
        await spot_is_bought(rig, d)
        await a_spot_machine_is_taken_after_a_notice(rig, d)
        await spot_runs_out_and_on_demand_takes_over(rig, d)
        if WARM in rig.pools():
            await the_warm_pool_is_filled_again(rig, d)
        await all_is_handed_back(rig, d)
        assert await d.stop() == 0
        ticks = d.ticks()
    check_journal(folder / "journal", ticks)


async def spot_is_bought(rig: Rig, d: Daemon) -> None:
    await rig.queue(FIRST_WAVE * MESSAGES_PER_REPLICA)
    await until(lambda: ready(d, *SPOT) >= FIRST_WAVE, TIMEOUT_S, d)

    async def spot_alone() -> bool:
        """Return whether the on-demand replicas that were requested as a reserve are released."""
        return await rig.requested(REGULAR) == 0

    await until(spot_alone, TIMEOUT_S, d)


async def a_spot_machine_is_taken_after_a_notice(rig: Rig, d: Daemon) -> None:
    pool = max(SPOT, key=lambda name: ready(d, name))
    notice_s = SystemClock().now()
    await rig.interrupt(pool)
    await until(lambda: any(of(t, pool).interruption_pending for t in since(d, notice_s)), TIMEOUT_S, d)
    assert any(of(t, pool).interruption_pending for t in since(d, notice_s)[:MAX_NOTICE_TICKS]), "heard late"
    await until(lambda: of(d.ticks()[-1], pool).interrupted == 1, TIMEOUT_S, d)
    await until(lambda: ready(d, *SPOT, REGULAR) >= FIRST_WAVE, TIMEOUT_S, d)


async def spot_runs_out_and_on_demand_takes_over(rig: Rig, d: Daemon) -> None:
    for pool in SPOT:
        await rig.exhaust(pool)
    began = SystemClock().now()
    await rig.queue(SECOND_WAVE * MESSAGES_PER_REPLICA)
    await until(lambda: ready(d, *SPOT, REGULAR) >= SECOND_WAVE, 2 * TIMEOUT_S, d)
    assert await rig.requested(REGULAR) > 0
    ticks = since(d, began)
    refused = {o.pool for t in ticks for o in t.outcomes if o.result is Result.OUT_OF_CAPACITY}
    late = {p for t in ticks for p in SPOT if of(t, p).shortfall is not None}
    assert (refused | late) & set(SPOT), "a market said that it has none left"


async def the_warm_pool_is_filled_again(rig: Rig, d: Daemon) -> None:
    async def filled() -> bool:
        return await rig.warm() >= WARM_REPLICAS

    await until(filled, TIMEOUT_S, d)
    warm_sizes = [of(t, WARM).ready for t in d.ticks() if PoolName(WARM) in t.observation.pools]
    assert min(warm_sizes[warm_sizes.index(WARM_REPLICAS) :]) < WARM_REPLICAS, "it drained as on-demand grew"


async def all_is_handed_back(rig: Rig, d: Daemon) -> None:
    await rig.queue(0)

    async def gone() -> bool:
        return sum([await rig.requested(pool) for pool in (*SPOT, REGULAR)]) == 0

    await until(gone, 2 * TIMEOUT_S, d)


def check_journal(journal: Path, ticks: list[Tick]) -> None:
    for t in ticks:
        assert t.decision.may_scale_in or not [o for o in t.outcomes if o.after < o.before], t
    replayed = subprocess.run(
        [sys.executable, "-m", "scaler.cli", "replay", str(journal), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    summary = json.loads(replayed.stdout)
    assert (summary["different"], summary["damaged_lines"], summary["equal"]) == (0, 0, len(ticks))


def since(d: Daemon, time_s: float) -> list[Tick]:
    """Return the ticks recorded since then."""
    return [t for t in d.ticks() if t.at >= time_s]


def of(t: Tick, pool: str) -> PoolStatus:
    """Return a pool's status in a tick; an empty one where it could not be read."""
    reading = t.observation.pools.get(PoolName(pool))
    value = getattr(reading, "value", None)
    return value if isinstance(value, PoolStatus) else PoolStatus(0, 0)


def ready(d: Daemon, *pools: str) -> int:
    """Return the ready machines in the last tick."""
    ticks = d.ticks()
    return sum(of(ticks[-1], pool).ready for pool in pools) if ticks else 0
