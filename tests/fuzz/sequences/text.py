"""Text description of a story, tick by tick, for debugging."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import yaml

from policies.model import Absent, Fresh, PoolStatus, Reading, Stale, Tick
from tests.fuzz.sequences.play import PlayResult
from tests.fuzz.sequences.story import Story

MAX_SHOWN: Final = 40
"""Maximum number of ticks described, the last ones: a violated law ends a story."""


def describe_story(story: Story, played: PlayResult) -> Iterator[str]:
    """Yield the workloads' settings, the observations and decision of each tick, and the violated law."""
    yield f"seed {story.seed}: {len(story.workloads)} workloads, {len(story.ticks)} ticks, fleet {story.fleet}"
    for name, config in story.workloads.items():
        settings = {key: value for key, value in config.document.items() if key != "sources"}
        yield yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=118).rstrip()
        yield f"# {name} begins with {dict(story.sizes[name])}"
    for number, tick in played.record[-MAX_SHOWN:]:
        edits = story.ticks[number].edits
        step_s = story.ticks[number].clock_step_s
        if edits:
            words = [f"{name} {'edited' if config else 'removed'}" for name, config in edits.items()]
            yield f"tick {number}: reload: {', '.join(words)}"
        if step_s:
            yield f"tick {number}: the clock jumps by {step_s:g} s"
        yield from _tick(number, tick)
    yield str(played.violation) if played.violation else "every law holds"


def _tick(number: int, tick: Tick) -> Iterator[str]:
    d = tick.decision
    pools = ", ".join(f"{name} {_pool(reading)}" for name, reading in tick.observation.pools.items())
    yield f"tick {number} at {tick.at:.0f}, {tick.workload}: {d.current} -> {d.target} ({d.reason})"
    yield f"    pools: {pools}"
    for r in d.recommendations:
        used = ", ".join(f"{s} {_value(tick.observation.readings.get(s))}" for s in r.used)
        work = "work" if r.active else "no work"
        yield f"    {r.policy}: needs {r.need} ({r.evidence}, {work}) from {used or 'nothing'}"
    written = [f"{o.pool} {o.before} -> {o.after} {o.result}" for o in tick.outcomes if o.before != o.after]
    if written:
        yield f"    written: {', '.join(written)}"


def _pool(reading: Reading[PoolStatus]) -> str:
    if isinstance(reading, Absent):
        return "unknown"
    s = reading.value
    counts = {"failed": s.failed, "doomed": s.interruption_pending, "interrupted": s.interrupted}
    more = "".join(f" {n} {name}" for name, n in counts.items() if n)
    old = " (old)" if isinstance(reading, Stale) else ""
    shortage = f" short of {'quota' if s.shortfall.quota else 'capacity'}" if s.shortfall else ""
    return f"{s.ready}/{s.desired}{more}{shortage}{' foreign' if s.other_writer else ''}{old}"


def _value(reading: Reading[float] | None) -> str:
    match reading:
        case Fresh(value, _, missing):
            return f"{value:.4g}{'+' if missing else ''}"
        case Stale(value, _, age_s):
            return f"{value:.4g} ({age_s:.0f} s old)"
    return "absent"
