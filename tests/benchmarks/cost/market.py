"""Cells of the cost benchmark with spot: recorded capacity by zone, and on-demand without limit.

Prices are of one type, AWS p5.4xlarge (one H100): on demand in us-east-1, as in the benchmark of sizes, and spot in
us-east-2. That is 2.45 times, less than most types have (p5.48xlarge in the same region: 3.9 times).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from simulators.engine.models import catalogue
from simulators.engine.models.worth import saturation_rates
from simulators.experiments.scenario import Case
from simulators.world.infrastructure.market import NOTICES
from tests.benchmarks.cost.cells import DAY_S, GPUS, H100_USD_PER_HOUR, STARTS, Cell, ours, read, scenario

SPOT_USD_PER_HOUR: Final = 2.8064
"""AWS p5.4xlarge, us-east-2, spot, 2026 (the shared price catalogue)."""
SPOT, ON_DEMAND = "spot", "on-demand"
ZONE_CAPACITY: Final[Mapping[str, int]] = {
    "azure-conv": 8,
    "azure-conv-large": 44,
    "azure-code": 8,
    "servegen-small": 4,
    "servegen-mid": 4,
    "nasa": 8,
    "worldcup": 12,
    "taxi": 6,
}
"""The maximum capacity of a zone: about the mean fleet that the trace needs (SpotHedge's runs: 4 for 3)."""
BILLING: Final = {"increment_s": 1, "min_billed_s": 60}
"""AWS billing, except that interruptions in the first hour are billed: an hour's trace would be almost free on spot."""
FAILURE_REPORT: Final = {"failures": {"after_s": 30, "then": "retry", "retry_s": 60}}
"""A request without a node is reported as failed soon after, as instance groups and cluster autoscalers do."""
GROUP, DRAINED, KARPENTER, FOREWARNED = "group", "drained", "karpenter", "forewarned"
OFFERS: Final[Mapping[str, Mapping[str, Any]]] = {
    GROUP: {"on_notice": "serve", **FAILURE_REPORT},
    DRAINED: {"on_notice": "replace", "replace": False, **FAILURE_REPORT},
    KARPENTER: {"on_notice": "replace", "replace": False, "on_shortage": "partial"},
    FOREWARNED: {"on_notice": "serve", "replace": False, "on_shortage": "partial"},
}
"""A platform's handling of spot nodes. In a group, nodes serve after the cloud's notice, 120 s ahead, until they are
interrupted with their requests, and are replaced then. Drained, they accept no requests from the notice on. Karpenter
also drains them, and gets a zone's capacity errors at once; forewarned, nodes serve on and are replaced in advance.
"""
NOTICES_S: Final = {GROUP: NOTICES["aws"].notice_s}
"""The configured notice of our pools, for offers whose nodes serve on after it. Seconds."""


@dataclass(frozen=True, slots=True)
class Market:
    """A recorded market: the folder of its zones, and the day on which the first third of every trace begins.

    The days differ from those on which the allocator's constants were chosen (`tests.benchmarks.spot`).
    """

    folder: str
    day: float
    fullest: int

    def zones(self, data: Path, capacity: int, start_s: float) -> dict[str, Any]:
        """Return each zone's offer, scaled to a maximum of `capacity` nodes."""
        files = sorted((data / "spot" / self.folder).resolve().glob("*.json"))
        begins = {"start_s": self.day * DAY_S + start_s, "scale": capacity / self.fullest}
        return {file.stem.split("_")[0]: {"trace": {"file": str(file), **begins}} for file in files}


MARKETS: Final[Mapping[str, Market]] = {"AWS1": Market("AWS1", 9.0, 4), "AWS2": Market("AWS2", 8.0, 16)}
"""A market with spot capacity nearly all the time, and one with capacity in some zone for half of the time."""


@dataclass(frozen=True, slots=True)
class MarketCell(Cell):
    """A cell of the cost benchmark in a market."""

    market: str

    @property
    def label(self) -> str:
        return f"{self.name}, {self.start_s} s, {self.market}"

    @property
    def mark(self) -> str:
        return f"{self.name}|{self.start_s}|{self.market}"

    @property
    def without_spot(self) -> Cell:
        """Return the same cell without spot."""
        return Cell(self.name, self.start_s)

    def case(self, data: Path, part: str, share: float = 0.99, offer: str = GROUP) -> Case:
        """Return the scenario, with one spot pool per zone, and our policy."""
        return _case(self, data, part, share, offer)

    def with_one_spot_pool(self, data: Path, part: str, share: float = 0.99) -> Case:
        """Return the scenario with one spot pool over all zones, for policies that do not choose among zones."""
        return _case_with_one_spot_pool(self, data, part, share)

    def zones(self, data: Path, part: str) -> dict[str, Any]:
        """Return each zone's offer in a part of the trace: market and traffic are aligned in time."""
        source = self.source
        since_s = 0.0 if part == "train" else source.test[0] - source.train[0]
        return MARKETS[self.market].zones(data, ZONE_CAPACITY[self.name], since_s)

    @property
    def usd_per_hour(self) -> tuple[float, float]:
        """Return a replica's price on spot and on demand."""
        gpus = GPUS[self.source.model]
        return round(SPOT_USD_PER_HOUR * gpus, 4), round(H100_USD_PER_HOUR * gpus, 2)


def cells() -> list[MarketCell]:
    """Return the conversation trace in both markets with both start-ups, and the day-long traces in one market each."""
    fast, slow = STARTS
    short = [MarketCell("azure-conv", start, market) for market in MARKETS for start in (fast, slow)]
    long = {"servegen-mid": "AWS2", "nasa": "AWS1", "taxi": "AWS2", "servegen-small": "AWS1"}
    return [*short, *(MarketCell(name, fast, market) for name, market in long.items())]


def spot_pool(zone: str) -> str:
    return f"{SPOT}-{zone}"


@cache
def _case(cell: MarketCell, data: Path, part: str, share: float, offer: str) -> Case:
    groups = {spot_pool(zone): {zone: offer} for zone, offer in cell.zones(data, part).items()}
    workload = ours(saturation_rates(catalogue.load(cell.source.model)), cell, share)
    spot_usd, usd = cell.usd_per_hour
    common = {"kind": "kubernetes", "namespace": "llm", "accelerator": "h100", "lead_time_s": cell.start_s}
    spot_terms = {"market": SPOT, "price_usd_per_hour": spot_usd, "notice_s": NOTICES_S.get(offer, 0.0)}
    workload["pools"] = {
        **{
            pool: {**common, **spot_terms, "name": pool, "zone": zone}
            for pool, zones in groups.items()
            for zone in zones
        },
        ON_DEMAND: {**common, "name": ON_DEMAND, "market": "on_demand", "price_usd_per_hour": usd},
    }
    return read(_offered(cell, data, part, share, groups, offer), workload)


@cache
def _case_with_one_spot_pool(cell: MarketCell, data: Path, part: str, share: float) -> Case:
    workload = ours(saturation_rates(catalogue.load(cell.source.model)), cell, share)
    workload["pools"] = {name: {"kind": "kubernetes", "name": name, "namespace": "llm"} for name in (SPOT, ON_DEMAND)}
    return read(_offered(cell, data, part, share, {SPOT: cell.zones(data, part)}, GROUP), workload)


def _offered(
    cell: MarketCell, data: Path, part: str, share: float, groups: Mapping[str, Mapping[str, Any]], offer: str
) -> dict[str, Any]:
    """Return the cell's world with these spot pools and on-demand, on which all contenders start."""
    scenario_ = scenario(cell, data, part, share)
    (gpus,) = scenario_["pools"].values()
    spot_usd, _ = cell.usd_per_hour
    spot_terms = {"market": "spot", "price_usd_per_hour": spot_usd, "billing": BILLING}
    spot = {**gpus, **OFFERS[offer], **spot_terms}
    scenario_["pools"] = {**{pool: {**spot, "zones": dict(zones)} for pool, zones in groups.items()}, ON_DEMAND: gpus}
    scenario_["initial_replicas"] = {ON_DEMAND: cell.source.initial}
    return scenario_
