"""The scenario that all clouds share, run by the daemon on a local counterpart of a cloud.

A queue fills and spot pools scale out; one spot machine is interrupted after a notice and replaced; spot capacity is
exhausted and on-demand scales out; its warm pool drains and is refilled; load falls and every pool is scaled in to
zero. The journal replays with equal decisions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from policies.model import PoolName, PoolStatus, Result, RuleId, Tick
from scaler.clock import SystemClock
from tests.patience import PATIENCE_S
from tests.servers.daemon import Daemon, daemon, until

MESSAGES_PER_REPLICA: Final = 5
INTERVAL_S: Final = 2.0
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


def queue_workload(
    name: str, sources: Mapping[str, Any], pools: Mapping[str, Mapping[str, Any]], *, max_replicas: int, **more: Any
) -> dict[str, Any]:
    """Return the document of a workload that a queue sizes, with windows of seconds in place of minutes.

    Its source counts messages as ``visible``.
    """
    return {
        "workload": name,
        "min_replicas": 0,
        "max_replicas": max_replicas,
        "interval_s": INTERVAL_S,
        "deadline_s": 1.8,
        "cooldown_s": 4.0,
        "sources": dict(sources),
        "policies": {
            "messages": {"kind": "queue_depth", "target_per_replica": MESSAGES_PER_REPLICA, "count": ["visible"]}
        },
        "pools": dict(pools),
        "scale_up": {"max_replicas": max_replicas},
        "scale_down": {"window_s": 4.0, "period_s": 2.0, "max_replicas": max_replicas, "max_evidence_gap_s": 8.0},
        **more,
    }


def document(rig: Rig) -> dict[str, Any]:
    """Return the workload's document."""
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
    return queue_workload("llm", rig.sources(), pools, max_replicas=20)


def configure(folder: Path, *workloads: Mapping[str, Any]) -> Path:
    """Write the configuration of a daemon with these workloads; its journal is in the folder too."""
    config = folder / "config"
    config.mkdir()
    settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}}
    (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
    for workload in workloads:
        (config / f"{workload['workload']}.yaml").write_text(yaml.safe_dump(dict(workload)))
    return config


async def run_scenario(rig: Rig, folder: Path) -> None:
    """Run the whole scenario."""
    async with daemon(str(configure(folder, document(rig))), journal=folder / "journal", env=rig.env) as d:
        await scale_out_uses_spot(rig, d)
        await spot_machine_is_interrupted_and_replaced(rig, d)
        await spot_is_exhausted_and_on_demand_scales_out(rig, d)
        if WARM in rig.pools():
            await warm_pool_is_refilled(rig, d)
        await scale_in_to_zero(rig, d)
        assert await d.stop() == 0
        ticks = d.ticks()
    check_journal(folder / "journal", ticks)


async def scale_out_uses_spot(rig: Rig, d: Daemon) -> None:
    await rig.queue(FIRST_WAVE * MESSAGES_PER_REPLICA)
    await until(lambda: ready(d, *SPOT) >= FIRST_WAVE, d)

    async def on_demand_is_released() -> bool:
        """Return whether the on-demand replicas that were requested as a reserve are released."""
        return await rig.requested(REGULAR) == 0

    await until(on_demand_is_released, d)


async def spot_machine_is_interrupted_and_replaced(rig: Rig, d: Daemon) -> None:
    pool = max(SPOT, key=lambda name: ready(d, name))
    notice_s = SystemClock().now()
    await rig.interrupt(pool)
    await until(lambda: any(status_of(t, pool).interruption_pending for t in since(d, notice_s)), d)
    assert any(status_of(t, pool).interruption_pending for t in since(d, notice_s)[:MAX_NOTICE_TICKS]), (
        "the notice was observed late"
    )
    await until(lambda: status_of(d.ticks()[-1], pool).interrupted == 1, d)
    await until(lambda: ready(d, *SPOT, REGULAR) >= FIRST_WAVE, d)


async def spot_is_exhausted_and_on_demand_scales_out(rig: Rig, d: Daemon) -> None:
    for pool in SPOT:
        await rig.exhaust(pool)
    began = SystemClock().now()
    await rig.queue(SECOND_WAVE * MESSAGES_PER_REPLICA)
    await until(lambda: ready(d, *SPOT, REGULAR) >= SECOND_WAVE, d, 2 * PATIENCE_S)
    assert await rig.requested(REGULAR) > 0
    ticks = since(d, began)
    refused = {o.pool for t in ticks for o in t.outcomes if o.result is Result.OUT_OF_CAPACITY}
    late = {p for t in ticks for p in SPOT if status_of(t, p).shortfall is not None}
    assert (refused | late) & set(SPOT), "no spot market reported missing capacity"


async def warm_pool_is_refilled(rig: Rig, d: Daemon) -> None:
    async def filled() -> bool:
        return await rig.warm() >= WARM_REPLICAS

    await until(filled, d)
    warm_sizes = [status_of(t, WARM).ready for t in d.ticks() if PoolName(WARM) in t.observation.pools]
    assert min(warm_sizes[warm_sizes.index(WARM_REPLICAS) :]) < WARM_REPLICAS, (
        "the warm pool drained as on-demand scaled out"
    )


async def scale_in_to_zero(rig: Rig, d: Daemon) -> None:
    await rig.queue(0)

    async def is_zero() -> bool:
        return sum([await rig.requested(pool) for pool in (*SPOT, REGULAR)]) == 0

    await until(is_zero, d, 2 * PATIENCE_S)


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


def check_min_billed(ticks: list[Tick], pool: str, min_billed_s: float) -> None:
    """Check that the pool's added replicas stayed for their minimum billed time, and that the decision says so."""
    changes = [(t.decision.at, o.after - o.before, o.result) for t in ticks for o in t.outcomes if o.pool == pool]
    grown = [at for at, change, result in changes if change > 0 and result is Result.ACCEPTED]
    removed = [at for at, change, _ in changes if change < 0]
    assert removed[0] >= grown[0] + min_billed_s, "a replica was removed within its minimum billed time"
    assert removed[-1] >= grown[-1] + min_billed_s, "the newest replicas were removed within their minimum billed time"
    assert any(step.rule == RuleId.MIN_BILLED for t in ticks for step in t.decision.steps)


def since(d: Daemon, time_s: float) -> list[Tick]:
    """Return the ticks recorded since then."""
    return [t for t in d.ticks() if t.at >= time_s]


def status_of(t: Tick, pool: str) -> PoolStatus:
    """Return a pool's status in a tick; an empty one where it could not be read."""
    reading = t.observation.pools.get(PoolName(pool))
    value = getattr(reading, "value", None)
    return value if isinstance(value, PoolStatus) else PoolStatus(0, 0)


def ready(d: Daemon, *pools: str) -> int:
    """Return the ready machines in the last tick."""
    ticks = d.ticks()
    return sum(status_of(ticks[-1], pool).ready for pool in pools) if ticks else 0
