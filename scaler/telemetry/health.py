"""Whether the daemon lives and is ready, told from the beats of its turns and not from answering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from policies.model import WorkloadName
from scaler.controller import Controller
from scaler.ports import Clock

MISSED_TURNS: Final = 3
"""Turns that may be missed before a loop counts as stalled."""
LEAST_S: Final = 30.0
"""A loop is not called stalled sooner, however short its interval: one slow garbage collection is no outage."""


class Health:
    """What ``/healthz`` and ``/readyz`` answer. `failed` holds loops that ended with an error."""

    def __init__(self, controllers: Mapping[WorkloadName, Controller], clock: Clock) -> None:
        self._controllers = controllers
        self._clock = clock
        self.failed: dict[WorkloadName, str] = {}

    def stalled(self) -> dict[WorkloadName, str]:
        """The workloads whose loop makes no progress, and why it is thought so."""
        late = dict(self.failed)
        for name, controller in self._controllers.items():
            spec = controller.workload.spec
            allowed_s = max(LEAST_S, MISSED_TURNS * spec.interval_s + 2 * spec.deadline_s)
            beat = controller.beat  # first: it may be what notices that the clock has jumped
            silent_s = self._clock.now() - beat
            if silent_s > allowed_s:
                late[name] = f"no turn ended for {silent_s:.0f} s, {allowed_s:.0f} s are allowed"
        return late

    def waiting(self) -> list[WorkloadName]:
        """The workloads that have not had a first turn."""
        return [name for name, controller in self._controllers.items() if not len(controller.history)]
