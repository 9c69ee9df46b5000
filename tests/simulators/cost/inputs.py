"""Small scenarios, offers files and journals for the advice tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from simulators.commands.simulate import simulate_to_journal
from simulators.cost import of_journal, of_scenario
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.inputs import NO_OFFERS, LoadedOffers, load
from simulators.experiments import run as running
from simulators.experiments.scenario import load as load_scenario

MODEL = "llama-3.1-8b-h100-vllm"
WORKLOAD: dict[str, Any] = {
    "workload": "chat",
    "min_replicas": 1,
    "max_replicas": 12,
    "interval_s": 15,
    "slo": {"ttft_s": 1.0, "itl_s": 0.05},
    "sources": {
        "engines": {
            "kind": "prometheus",
            "url": "http://localhost",
            "preset": "vllm",
            "window_s": 60,
            "read": ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"],
        }
    },
    "policies": {"concurrency": {"kind": "concurrency", "target_per_replica": 24}},
    "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "price_usd_per_hour": 5.0}},
}
SCENARIO: dict[str, Any] = {
    "scenario": "hour",
    "workload": "workload.yaml",
    "traffic": {"kind": "daily", "mean_rps": 30, "swing": 0.7, "peak_hour": 0.5, "duration_s": 3600},
    "pools": {"gpus": {"model": MODEL, "price_usd_per_hour": 5.0, "start_up": {"node": {"median_s": 20}}}},
    "initial_replicas": {"gpus": 3},
    "settle_s": 0,
    "slo": WORKLOAD["slo"],
}
LADDER: dict[str, Any] = {
    **WORKLOAD,
    "pools": {
        name: {"kind": "kubernetes", "name": name, "market": market, "max_replicas": most, "price_usd_per_hour": usd}
        for name, market, most, usd in (
            ("reserved", "reserved", 1, 3.0),
            ("spot", "spot", 4, 2.0),
            ("on-demand", "on_demand", 12, 5.0),
        )
    },
}
SPOT: dict[str, Any] = {"model": MODEL, "market": "spot", "price_usd_per_hour": 2.0}
MARKETS: dict[str, Any] = {
    **SCENARIO,
    "pools": {
        "reserved": {"model": MODEL, "market": "reserved", "price_usd_per_hour": 3.0, "zones": {"a": {"capacity": 1}}},
        "spot": {**SPOT, "zones": {"a": {"losses_per_node_hour": 2.0}}},
        "on-demand": {"model": MODEL, "price_usd_per_hour": 5.0},
    },
    "initial_replicas": {"reserved": 1, "spot": 2},
}


def write_scenario(folder: Path, scenario: dict[str, Any] = SCENARIO, workload: dict[str, Any] = WORKLOAD) -> Path:
    """Write a scenario and its workload, and return the scenario's path."""
    (folder / "workload.yaml").write_text(yaml.safe_dump(workload))
    file = folder / "scenario.yaml"
    file.write_text(yaml.safe_dump(scenario, sort_keys=False))
    return file


def write_offers(folder: Path, **document: Any) -> LoadedOffers:
    """Write and load a file of offers."""
    file = folder / "offers.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return load(file)


def simulated_evidence(scenario: Path, file: LoadedOffers = NO_OFFERS) -> WorkloadEvidence:
    """Run the scenario and return its evidence."""
    case = load_scenario(scenario)
    trace = running.traffic_of(case, 1)
    return of_scenario.of_scenario(of_scenario.ScenarioInputs(scenario, case, trace, 1), file, lambda _: None)


def journal(scenario: Path) -> Path:
    """Run the scenario and return the folder of its journal."""
    case = load_scenario(scenario)
    folder = scenario.parent / "journal"
    simulate_to_journal(case, 1, running.traffic_of(case, 1), folder, lambda _: None)
    return folder


def recorded_evidence(folder: Path, file: LoadedOffers = NO_OFFERS, **inputs: Any) -> WorkloadEvidence:
    """Return the evidence of a journal."""
    return of_journal.of_journal(folder, of_journal.JournalInputs(**inputs), 1, file)
