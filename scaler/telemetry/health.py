"""Whether the daemon is alive and ready: derived from its ticks, not from the fact that the server answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from policies.model import WorkloadName
from scaler.controller import Controller
from scaler.masking import mask
from scaler.ports import Clock
from scaler.supervised_tasks import Tasks

MISSED_TURNS: Final = 3
"""Turns that may be missed before a loop counts as stalled."""
LEAST_S: Final = 30.0
"""A loop is not called stalled sooner, however short its interval: one slow garbage collection is no outage."""


class Health:
    """What ``/healthz`` and ``/readyz`` answer.

    A loop that stalls asks for a restart. A problem that a restart would not mend, or would make worse, is reported
    and nothing more: a daemon with refused configuration files could not start again.
    """

    def __init__(
        self, controllers: Mapping[WorkloadName, Controller], clock: Clock, tasks: Tasks | None = None
    ) -> None:
        self._controllers = controllers
        self._clock = clock
        self._tasks = tasks or Tasks()
        self._problems: dict[str, str] = {}

    def report(self, part: str, problem: str) -> None:
        """Show what is wrong with a part of the daemon; an empty text says that it is in order."""
        if problem:
            self._problems[part] = problem
        else:
            self._problems.pop(part, None)

    def stalled(self) -> dict[WorkloadName, str]:
        """Return the workloads whose loop makes no progress, and why it is thought so."""
        late: dict[WorkloadName, str] = {}
        for name, controller in self._controllers.items():
            if (why := self._tasks.failing.get(task_of(name))) is not None:
                late[name] = f"its loop ended: {why}"
                continue
            spec = controller.workload.spec
            allowed_s = max(LEAST_S, MISSED_TURNS * spec.interval_s + 2 * spec.deadline_s)
            beat = controller.last_tick_ended_s  # first: it may be what notices that the clock has jumped
            silent_s = self._clock.now() - beat
            if silent_s > allowed_s:
                late[name] = f"no turn ended for {silent_s:.0f} s, {allowed_s:.0f} s are allowed"
        return {name: mask(why) for name, why in late.items()}

    def problems(self) -> dict[str, str]:
        """Return what else is wrong, by the part of the daemon that it concerns."""
        loops = {task_of(name) for name in self._controllers}
        ended = {task: f"it ended: {why}" for task, why in self._tasks.failing.items() if task not in loops}
        return {**self._problems, **ended}

    def waiting(self) -> list[WorkloadName]:
        """Return the workloads that have not had a first turn."""
        return [name for name, controller in self._controllers.items() if not len(controller.history)]


def task_of(name: WorkloadName) -> str:
    """Return the name of the task that runs a workload's loop."""
    return f"workload {name}"
