"""Cells of the out-of-the-box benchmark: every shared trace, a fast and a slow start-up, and ours with only an SLO."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import policies
from simulators.experiments.scenario import Case
from tests.benchmarks.cost.cells import DAY_S, LARGE, SMALL, SOURCES, STARTS, Cell, Source, read, scenario

DAY_BEFORE: Final = "day before"
"""The part of a trace before its test part: the same hours a day earlier, or the first third of an hour's trace."""
MOONCAKE: Final = "requests/mooncake_conversation.csv.gz"
MORE_SOURCES: Final[Mapping[str, Source]] = {
    "mooncake": Source(MOONCAKE, SMALL, 4, (0, 1180), (1180, 3540), maximum=100, initial=30, ttft_s=10.0, itl_s=0.1),
    "servegen-requests": Source(
        "requests/servegen_m-small_14d.csv.gz", LARGE, 15, (9 * DAY_S, 9.25 * DAY_S), (9.25 * DAY_S, 9.75 * DAY_S)
    ),
}
"""Shared traces that the benchmark of tuned policies leaves out.

Mooncake's prompts have up to 126,000 tokens, of which the prefill alone takes more than 3 s: hence another SLO.
"""
ALL_SOURCES: Final = {**SOURCES, **MORE_SOURCES}


@dataclass(frozen=True, slots=True)
class UntunedCell(Cell):
    """A shared trace with one start-up, scored on the test part; nothing is tuned."""

    @property
    def mark(self) -> str:
        return f"untuned|{self.name}|{self.start_s}"

    @property
    def source(self) -> Source:
        return ALL_SOURCES[self.name]

    @property
    def day_long(self) -> bool:
        """Whether the trace has a daily season."""
        return self.source.test[1] - self.source.test[0] >= DAY_S / 2

    def case(self, data: Path, part: str, share: float = 0.99) -> Case:
        """Return the scenario, with our workload that has no setting but the SLO."""
        return _case(self, data, part, share)

    def before(self) -> Source:
        """Return the source whose test part is the one before this cell's."""
        source = self.source
        start_s, end_s = source.test
        part = (start_s - DAY_S, end_s - DAY_S) if self.day_long else source.train
        return dataclasses.replace(source, test=part)


def cells() -> list[UntunedCell]:
    """Return every shared trace with the fast and with the slow start-up."""
    return [UntunedCell(name, start_s) for start_s in STARTS for name in ALL_SOURCES]


def ours(cell: UntunedCell, share: float) -> dict[str, Any]:
    """Return our workload as written without tuning: bounds, source, SLO, model, and the pool's usual start-up."""
    return {
        "workload": "forescale",
        "min_replicas": 1,
        "max_replicas": cell.source.maximum,
        "model": cell.source.model,
        "slo": cell.source.slo(share),
        "sources": {"engines": {"kind": "prometheus", "url": "http://prometheus:9090", "preset": "vllm"}},
        "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "namespace": "llm", "lead_time_s": cell.start_s}},
    }


@cache
def _case(cell: UntunedCell, data: Path, part: str, share: float) -> Case:
    source = cell.before() if part == DAY_BEFORE else cell.source
    scenario_ = scenario(cell, data, part, share)
    scenario_["traffic"] = source.traffic(data, "test")
    return read(scenario_, ours(cell, share))


@cache
def policy_code() -> str:
    """Return the fingerprint of our policy's code, without the rivals': a change of it makes stored runs stale."""
    root = Path(policies.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        if "peers" not in file.parts:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
