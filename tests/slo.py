"""Ticks with the error budget that a controller measures for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from policies.model import Tick
from policies.model.spec import WorkloadSpec
from scaler.config.kinds.prometheus import Prometheus
from scaler.slo_record import SloRecord, record_of

LATE_SHARES: Final = ("ttft_late_share", "itl_late_share", "e2e_late_share")
READ: Final = ("running", "waiting", "requests_per_s", *LATE_SHARES)
ENGINES: Final = Prometheus(url="http://prometheus:9090", preset="vllm", read=READ)
"""A source that measures every limit of an SLO."""


def with_error_budgets(
    ticks: Iterable[Tick], workload: WorkloadSpec, record: SloRecord | None = None
) -> Iterator[Tick]:
    """Yield the ticks of a workload with their error budgets, counted by `record` or from the first tick on."""
    record = record or record_of(workload)
    for tick in ticks:
        if record is None:
            yield tick
            continue
        if tick.clock_step_s:
            record.shift(tick.clock_step_s)
        observation = tick.observation
        budget = record.observe(tick.at, observation.readings)
        yield replace(tick, observation=replace(observation, error_budget=budget))
