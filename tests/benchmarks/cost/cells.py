"""Cells of the cost benchmark: traces scaled to need 4 to 200 replicas, each with a fast and a slow start-up.

All contenders are tuned on the first third of a trace and scored on the other two, in a new world.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from policies.signals.latency_quantities import QUANTITIES
from simulators.engine.models import catalogue
from simulators.engine.models.worth import SaturationRates, saturation_rates
from simulators.experiments.scenario import Case, load
from tests.benchmarks.cost.families import CONCURRENCIES

H100_USD_PER_HOUR: Final = 6.88
"""AWS p5.4xlarge, us-east-1, on demand, 2026 (the shared price catalogue)."""
SMALL: Final = "llama-3.1-8b-h100-vllm"
LARGE: Final = "llama-3.1-70b-h100x4"
GPUS: Final = {SMALL: 1, LARGE: 4}
DAY_S: Final = 86_400.0
STARTS: Final[Mapping[int, Mapping[str, Any]]] = {
    90: {
        "node": {"median_s": 20, "sigma": 0.3},
        "image": {"median_s": 10, "sigma": 0.3},
        "weights": {"median_s": 10, "sigma": 0.3},
        "compile": {"median_s": 0},
        "ready": {"median_s": 50, "sigma": 0.1},
    },
    300: {
        "node": {"median_s": 105, "sigma": 0.4},
        "image": {"median_s": 70, "sigma": 0.3},
        "weights": {"median_s": 33, "sigma": 0.3},
        "compile": {"median_s": 42, "sigma": 0.1},
        "ready": {"median_s": 50, "sigma": 0.1},
    },
}
"""Start-ups by their median: with a cached image and a warm compile cache, and with neither."""
CHAT: Final = {
    "prompt": {"mean_tokens": 1500, "cv": 0.8, "max_tokens": 5000},
    "output": {"mean_tokens": 350, "cv": 0.8},
}


@dataclass(frozen=True, slots=True)
class Source:
    """A trace: its file, its scale, and its training and test parts as (start, end) in the file's seconds.

    `maximum` is the workload's maximum, `initial` the replicas at the start (ample; the first 300 s do not count), and
    `in_work` the concurrent requests per replica that rivals are tuned over. `ttft_s` and `itl_s` are the SLO.
    """

    file: str
    model: str
    scale: float
    train: tuple[float, float]
    test: tuple[float, float]
    rates: bool = False
    maximum: int = 100
    initial: int = 12
    in_work: tuple[float, ...] = CONCURRENCIES
    ttft_s: float = 1.0
    itl_s: float = 0.05

    def slo(self, share: float) -> dict[str, float]:
        return {"ttft_s": self.ttft_s, "itl_s": self.itl_s, "share": share}

    def traffic(self, data: Path, part: str) -> dict[str, Any]:
        start_s, end_s = self.train if part == "train" else self.test
        file = str((data / self.file).resolve())
        if self.rates:
            span = {"start_s": start_s, "duration_s": end_s - start_s}
            return {"kind": "rates", "file": file, "scale": self.scale, **span, **CHAT}
        return {"kind": "trace", "file": file, "scale": self.scale, "start_s": start_s, "end_s": end_s}


def _day(file: str, scale: float, first: float) -> Source:
    """Return eighteen hours of rates: six for tuning and twelve for scoring."""
    begin, cut, end = first * DAY_S, (first + 0.25) * DAY_S, (first + 0.75) * DAY_S
    return Source(file, LARGE, scale, (begin, cut), (cut, end), rates=True)


SOURCES: Final[Mapping[str, Source]] = {
    "azure-conv": Source("requests/azure2023_conv.csv.gz", SMALL, 20, (0, 1166), (1166, 3499)),
    "azure-conv-large": Source(
        "requests/azure2023_conv.csv.gz", SMALL, 100, (0, 1166), (1166, 3499), maximum=200, initial=70
    ),
    "azure-code": Source(
        "requests/azure2023_code.csv.gz", SMALL, 4, (0, 1142), (1142, 3428), in_work=(0.4, 0.8, 1.5, 3, 6, 12, 25, 50)
    ),
    "servegen-small": _day("rates/servegen_m-small_10min_clean.csv.gz", 0.015, 8),
    "servegen-mid": _day("rates/servegen_m-mid_10min_clean.csv.gz", 0.012, 9),
    "nasa": _day("rates/nasa95_1min.csv.gz", 20, 4.25),
    "worldcup": _day("rates/worldcup98_1min.csv.gz", 0.06, 45.25),
    "taxi": _day("rates/nab_nyc_taxi_30min.csv.gz", 2.4, 10.25),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One trace with one start-up: a third for tuning (`train`) and the rest for scoring (`test`)."""

    name: str
    start_s: int

    @property
    def label(self) -> str:
        return f"{self.name}, {self.start_s} s"

    @property
    def mark(self) -> str:
        """Return the prefix of the keys of its runs."""
        return f"{self.name}|{self.start_s}"

    @property
    def source(self) -> Source:
        return SOURCES[self.name]

    def case(self, data: Path, part: str, share: float = 0.99) -> Case:
        """Return the scenario, with our policy as its own workload."""
        return _case(self, data, part, share)


def cells() -> list[Cell]:
    """Return every trace with the fast and with the slow start-up."""
    return [Cell(name, start_s) for start_s in STARTS for name in SOURCES]


@cache
def _case(cell: Cell, data: Path, part: str, share: float) -> Case:
    rates = saturation_rates(catalogue.load(cell.source.model))
    return read(scenario(cell, data, part, share), ours(rates, cell, share))


def scenario(cell: Cell, data: Path, part: str, share: float) -> dict[str, Any]:
    """Return the cell's scenario, with one on-demand pool."""
    source = cell.source
    return {
        "scenario": f"{cell.name}-{cell.start_s}",
        "workload": "ours.yaml",
        "traffic": source.traffic(data, part),
        "pools": {
            "gpus": {
                "model": source.model,
                "price_usd_per_hour": round(H100_USD_PER_HOUR * GPUS[source.model], 2),
                "start_up": STARTS[cell.start_s],
            }
        },
        "initial_replicas": {"gpus": source.initial},
        "warm_up_s": 300,
        "settle_s": 120,
        "slo": source.slo(share),
    }


def read(scenario: Mapping[str, Any], workload: Mapping[str, Any]) -> Case:
    """Load a scenario and its workload through files."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ours.yaml").write_text(yaml.safe_dump(workload))
        (Path(folder) / "scenario.yaml").write_text(yaml.safe_dump(scenario))
        return load(Path(folder) / "scenario.yaml")


def ours(rates: SaturationRates, cell: Cell, share: float) -> dict[str, Any]:
    """Return our workload, as a user would configure it for this engine."""
    read = ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"]
    engines = {"kind": "prometheus", "url": "http://prometheus:9090", "preset": "vllm", "window_s": 60}
    return {
        "workload": "forescale",
        "min_replicas": 1,
        "max_replicas": cell.source.maximum,
        "interval_s": 15,
        "tolerance": 0.0,
        "slo": cell.source.slo(share),
        "scale_up": {"max_replicas": 300},
        "scale_down": {"window_s": 60, "max_replicas": 300},
        "sources": {"engines": {**engines, "read": [*read, *QUANTITIES]}},
        "policies": {
            "predictive": {
                "kind": "predictive",
                "rate_window_s": 60,
                "prompt_tokens_per_s": math.floor(rates.prompt_tokens_per_s),
                "generation_tokens_per_s": math.floor(rates.generation_tokens_per_s),
            }
        },
        "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "namespace": "llm", "lead_time_s": cell.start_s}},
    }
