"""Scenario files for command-line tests: a scenario with its workload, service model and trace."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from tests.simulators.world.makers import STEADY, document

SCENARIO: Final[dict[str, Any]] = {
    "scenario": "told",
    "workload": "workload.yaml",
    "traffic": {
        "kind": "poisson",
        "rps": 2.0,
        "duration_s": 120.0,
        "prompt": {"mean_tokens": 100.0},
        "output": {"mean_tokens": 100.0, "max_tokens": 1000},
    },
    "pools": {
        "gpus": {
            "model": "steady.yaml",
            "price_usd_per_hour": 3.6,
            "start_up": {"node": {"median_s": 20.0}, "image": {"median_s": 5.0}},
        }
    },
    "settle_s": 60.0,
}
TRACE: Final = "arrival_s,prompt_tokens,output_tokens\n0,10,2\n1.5,20,3\n"
Change = Callable[[dict[str, Any]], object]


def nothing(_: dict[str, Any]) -> None:
    """Change nothing."""


def files(folder: Path, change: Change = nothing, change_workload: Change = nothing) -> Path:
    """Write the files of a small scenario after the changes, and return the scenario's path."""
    scenario, workload = copy.deepcopy(SCENARIO), document()
    change(scenario)
    change_workload(workload)
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    (folder / "workload.yaml").write_text(yaml.safe_dump(workload, sort_keys=False), encoding="utf-8")
    (folder / "steady.yaml").write_text(yaml.safe_dump(dataclasses.asdict(STEADY)), encoding="utf-8")
    (folder / "told.csv").write_text(TRACE, encoding="utf-8")
    return path
