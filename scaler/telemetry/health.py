"""Health of the daemon, derived from its ticks and not from the HTTP server's responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from policies.model import WorkloadName
from scaler.controller import Controller
from scaler.masking import mask
from scaler.ports import Clock
from scaler.supervised_tasks import Tasks

MAX_MISSED_TICKS: Final = 3
"""Ticks that a loop may miss before it counts as stalled."""
MIN_STALL_S: Final = 30.0
"""Minimum silence of a stalled loop at any interval: a slow garbage collection is not an outage. Seconds."""


class Health:
    """The state that ``/healthz`` and ``/readyz`` report.

    A stalled loop fails the check, so that Kubernetes restarts the daemon. Other problems are reported only, because a
    restart would not help: a daemon with refused configuration files could not start again.
    """

    def __init__(
        self, controllers: Mapping[WorkloadName, Controller], clock: Clock, tasks: Tasks | None = None
    ) -> None:
        self._controllers = controllers
        self._clock = clock
        self._tasks = tasks or Tasks()
        self._problems: dict[str, str] = {}
        self.held_shards: Callable[[], Mapping[int, int]] | None = None
        """Returns the epoch of each held shard; None without high availability."""

    def report(self, part: str, problem: str) -> None:
        """Set the problem of a part of the daemon. An empty text removes it."""
        if problem:
            self._problems[part] = problem
        else:
            self._problems.pop(part, None)

    def stalled(self) -> dict[WorkloadName, str]:
        """Return the workloads whose loop makes no progress, with the reason.

        Example: at an interval of 15 s and a deadline of 5 s, a loop is stalled after max(30, 3 * 15 + 2 * 5) = 55 s.
        """
        return {name: reason for name in self._controllers if (reason := self.stall_of(name))}

    def stall_of(self, name: WorkloadName) -> str:
        """Return the reason why a workload's loop counts as stalled; empty while it makes progress."""
        if (reason := self._tasks.failing.get(task_of(name))) is not None:
            return mask(f"the control loop ended: {reason}")
        controller = self._controllers[name]
        spec = controller.workload.spec
        allowed_s = max(MIN_STALL_S, MAX_MISSED_TICKS * spec.interval_s + 2 * spec.deadline_s)
        last_tick_s = controller.last_tick_ended_s  # before `now`: reading it may detect a jump of the clock
        silent_s = self._clock.now() - last_tick_s
        if silent_s <= allowed_s:
            return ""
        return f"no tick completed for {silent_s:.0f} s; at most {allowed_s:.0f} s are allowed"

    def problems(self) -> dict[str, str]:
        """Return the other problems by the part of the daemon."""
        loops = {task_of(name) for name in self._controllers}
        ended = {task: f"the task ended: {reason}" for task, reason in self._tasks.failing.items() if task not in loops}
        return {**self._problems, **ended}

    def waiting(self) -> list[WorkloadName]:
        """Return the workloads without a first tick."""
        return [name for name, controller in self._controllers.items() if not len(controller.history)]


def task_of(name: WorkloadName) -> str:
    """Return the name of the task that runs a workload's loop."""
    return f"workload {name}"
