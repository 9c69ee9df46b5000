"""Instances of managed online deployments that serve, as Azure Monitor counts them.

The resource reports the requested size only. The metric DeploymentCapacity has one series for each instance and state.
It comes a minute apart and one to three minutes late.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from scaler.clouds.azure.metrics import BUCKET_S, READ, series_by_dimensions, single
from scaler.clouds.azure.session import Arm
from scaler.clouds.azure.shared_reads import RecentAnswers
from scaler.ports import Clock, Unavailable

METRIC: Final = "DeploymentCapacity"
READ_S: Final = 30.0
"""Time between two reads of the metric, which has a sample a minute. Seconds."""
MAX_SAMPLE_AGE_S: Final = 300.0
"""Age up to which a sample counts: its interval, its delay, and one missing sample. Seconds."""
QUERY: Final = {
    "metricnames": METRIC,
    "aggregation": "maximum",
    "$filter": "instanceId eq '*' and State eq '*'",
}


class ReadyInstances:
    """The instances of one deployment in one of its ready states."""

    def __init__(self, arm: Arm, recent: RecentAnswers, clock: Clock, path: str, ready_states: Collection[str]) -> None:
        self._arm = arm
        self._recent = recent
        self._clock = clock
        self._path = path
        self._ready_states = frozenset(state.lower() for state in ready_states)

    async def newest(self) -> tuple[int, int] | None:
        """Return the newest counts: of ready instances, and of all with a sample.

        None where the samples are older than `MAX_SAMPLE_AGE_S`.

        An instance counts once, and one whose last sample is more than a minute older than the newest one is gone.
        Raises port errors, and `Unavailable` where the instances are in unknown states only.
        """
        body, at = await self._recent.get(
            (self._path, METRIC), READ_S, lambda: single(self._arm, READ, self._path, QUERY, self._clock.now())
        )
        points = [(d, p) for d, p in series_by_dimensions(body, METRIC, "maximum", at) if p is not None and p.value > 0]
        newest_at = max((p.at for _, p in points), default=float("-inf"))
        if self._clock.now() - newest_at > MAX_SAMPLE_AGE_S:
            return None
        present = [(d["instanceid"], d["state"]) for d, p in points if newest_at - p.at <= BUCKET_S]
        ready = {instance for instance, state in present if state.lower() in self._ready_states}
        states = {state for _, state in present}
        if not ready and states:
            raise Unavailable(
                f"Azure {METRIC} of {self._path.rpartition('/')[2]}: no instance is in one of ready_states; the states"
                f" are {', '.join(sorted(states))}. Add those that serve to ready_states"
            )
        return len(ready), len({instance for instance, _ in present})
