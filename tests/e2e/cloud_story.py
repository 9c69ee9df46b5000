"""The clouds' common story, told by the daemon itself over a cloud's local counterpart.

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
PATIENCE_S: Final = 25.0
HEARD_TURNS: Final = 3
"""From when a notice can be seen: it asks for a turn by itself."""
SPOT: Final = ("spot-1", "spot-2")
REGULAR: Final = "regular"
WARM: Final = "warm"
KEPT_WARM: Final = 2
FIRST: Final = 4
"""Replicas' worth of the first wave, which spot alone carries."""
MORE: Final = 9
"""Of the second, for which spot is not enough any more."""


class Rig(Protocol):
    """A cloud's counterpart. Its pools are named as above; `WARM` may be missing."""

    @property
    def env(self) -> Mapping[str, str]:
        """What the daemon's environment must hold."""

    def sources(self) -> Mapping[str, Any]:
        """The workload's sources: one, whose messages are counted as ``visible``."""

    def pools(self) -> Mapping[str, Mapping[str, Any]]:
        """The kinds and keys of the pools, by name; the story adds markets, prices and tiers."""

    async def queue(self, messages: int) -> None:
        """So many messages wait."""

    async def asked(self, pool: str) -> int:
        """The size that the cloud was last asked for."""

    async def interrupt(self, pool: str) -> None:
        """Give notice of one of the pool's ready machines, return, and take it some seconds later."""

    async def exhaust(self, pool: str) -> None:
        """There is no more of this pool's kind, in its zone and market."""

    async def warm(self) -> int:
        """Machines that stand in the warm pool."""


def document(rig: Rig) -> dict[str, Any]:
    """The workload, with windows of seconds where people have minutes."""
    terms: dict[str, dict[str, Any]] = {
        SPOT[0]: {"market": "spot", "zone": "zone-1", "price_usd_per_hour": 2.0},
        SPOT[1]: {"market": "spot", "zone": "zone-2", "price_usd_per_hour": 2.1},
        REGULAR: {"market": "on_demand", "zone": "zone-1", "price_usd_per_hour": 7.0},
        WARM: {"tier": "warm_node", "serves": REGULAR, "min_replicas": KEPT_WARM, "price_usd_per_hour": 0.1},
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
    """The configuration on disk."""
    config = folder / "config"
    config.mkdir()
    settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}}
    (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
    (config / "llm.yaml").write_text(yaml.safe_dump(document(rig)))
    return config


async def tell(rig: Rig, folder: Path) -> None:
    """The whole story."""
    async with daemon(str(configure(rig, folder)), journal=folder / "journal", env=rig.env) as d:
        await spot_is_bought(rig, d)
        await a_spot_machine_is_taken_after_a_notice(rig, d)
        await spot_runs_out_and_on_demand_takes_over(rig, d)
        if WARM in rig.pools():
            await the_warm_pool_is_filled_again(rig, d)
        await all_is_handed_back(rig, d)
        assert await d.stop() == 0
        ticks = d.ticks()
    the_journal_tells_it(folder / "journal", ticks)


async def spot_is_bought(rig: Rig, d: Daemon) -> None:
    await rig.queue(FIRST * MESSAGES_PER_REPLICA)
    await until(lambda: ready(d, *SPOT) >= FIRST, PATIENCE_S, d)

    async def spot_alone() -> bool:
        """What was bought beside it while nobody knew which would come is handed back."""
        return await rig.asked(REGULAR) == 0

    await until(spot_alone, PATIENCE_S, d)


async def a_spot_machine_is_taken_after_a_notice(rig: Rig, d: Daemon) -> None:
    pool = max(SPOT, key=lambda name: ready(d, name))
    said_at = SystemClock().now()
    await rig.interrupt(pool)
    await until(lambda: any(of(t, pool).interruption_pending for t in since(d, said_at)), PATIENCE_S, d)
    assert any(of(t, pool).interruption_pending for t in since(d, said_at)[:HEARD_TURNS]), "heard late"
    await until(lambda: of(d.ticks()[-1], pool).interrupted == 1, PATIENCE_S, d)
    await until(lambda: ready(d, *SPOT, REGULAR) >= FIRST, PATIENCE_S, d)


async def spot_runs_out_and_on_demand_takes_over(rig: Rig, d: Daemon) -> None:
    for pool in SPOT:
        await rig.exhaust(pool)
    began = SystemClock().now()
    await rig.queue(MORE * MESSAGES_PER_REPLICA)
    await until(lambda: ready(d, *SPOT, REGULAR) >= MORE, 2 * PATIENCE_S, d)
    assert await rig.asked(REGULAR) > 0
    ticks = since(d, began)
    refused = {o.pool for t in ticks for o in t.outcomes if o.result is Result.OUT_OF_CAPACITY}
    late = {p for t in ticks for p in SPOT if of(t, p).shortfall is not None}
    assert (refused | late) & set(SPOT), "a market said that it has none left"


async def the_warm_pool_is_filled_again(rig: Rig, d: Daemon) -> None:
    async def filled() -> bool:
        return await rig.warm() >= KEPT_WARM

    await until(filled, PATIENCE_S, d)
    seen = [of(t, WARM).ready for t in d.ticks() if PoolName(WARM) in t.observation.pools]
    assert min(seen[seen.index(KEPT_WARM) :]) < KEPT_WARM, "it drained as on-demand grew"


async def all_is_handed_back(rig: Rig, d: Daemon) -> None:
    await rig.queue(0)

    async def gone() -> bool:
        return sum([await rig.asked(pool) for pool in (*SPOT, REGULAR)]) == 0

    await until(gone, 2 * PATIENCE_S, d)


def the_journal_tells_it(journal: Path, ticks: list[Tick]) -> None:
    for t in ticks:
        assert t.decision.may_scale_in or not [o for o in t.outcomes if o.after < o.before], t
    replayed = subprocess.run(
        [sys.executable, "-m", "scaler.cli", "replay", str(journal), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    told = json.loads(replayed.stdout)
    assert (told["different"], told["damaged_lines"], told["equal"]) == (0, 0, len(ticks))


def since(d: Daemon, moment: float) -> list[Tick]:
    """The turns recorded since."""
    return [t for t in d.ticks() if t.at >= moment]


def of(t: Tick, pool: str) -> PoolStatus:
    """A pool's status in a turn; an empty one where it could not be read."""
    reading = t.observation.pools.get(PoolName(pool))
    value = getattr(reading, "value", None)
    return value if isinstance(value, PoolStatus) else PoolStatus(0, 0)


def ready(d: Daemon, *pools: str) -> int:
    """Machines that serve, as of the last turn."""
    ticks = d.ticks()
    return sum(of(ticks[-1], pool).ready for pool in pools) if ticks else 0
