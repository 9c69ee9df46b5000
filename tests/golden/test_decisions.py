"""Golden decisions of every shipped scenario over whole runs: a refactoring must not change one of them.

Each file in ``decisions/`` begins with a digest of all ticks and lists those in which a target or a split changed, so
that a difference can be read. After an intended change of behaviour: ``python -m tests.golden.test_decisions``, and say
in the changelog what changed.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import yaml

from policies.model import Decision, Tick
from policies.model.names import BackendName
from policies.model.route import WEIGHT_TOTAL
from simulators.experiments.run import simulate, traffic_of
from simulators.experiments.scenario import Case, load
from tests.golden.runs import SCENARIOS

pytestmark = pytest.mark.slow

CASES: Final = {
    **{path.stem: path.stem for path in sorted(SCENARIOS.glob("*.yaml")) if path.stem != "trace"},
    "chat-predictive": "chat",
    "batch-queue-predictive": "batch-queue",
    "trap-hpa-value": "trap",
    "trap-hpa-average-value": "trap",
}
"""Scenario of each case. If the two names differ, the case is the name of another shipped workload to run in it.

``trace.yaml`` needs a file of the user's own.
"""
FOLDER: Final = Path(__file__).parent / "decisions"


def case_of(name: str) -> Case:
    """Return a shipped scenario, with another of the shipped workloads where `name` is one."""
    file = SCENARIOS / f"{CASES[name]}.yaml"
    if CASES[name] == name:
        return load(file)
    scenario = yaml.safe_load(file.read_text(encoding="utf-8"))
    scenario["workload"] = str(SCENARIOS / "workloads" / f"{name}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.yaml"
        path.write_text(yaml.safe_dump(scenario), encoding="utf-8")
        return load(path)


def lines(name: str) -> Iterator[str]:
    """Yield the digest of a case's decisions, and one line for each in which a target or a split changed."""
    case = case_of(name)
    ticks: list[Tick] = []
    seed = case.scenario.seed
    simulate(case, seed, traffic_of(case, seed), record=[ticks.append])
    rows = [(tick, _row(tick.decision, tick.at - case.scenario.epoch_s)) for tick in ticks]
    yield f"{len(rows)} ticks, sha256 {hashlib.sha256(chr(10).join(row for _, row in rows).encode()).hexdigest()}"
    last: dict[str, dict[str, int]] = {}
    for tick, row in rows:
        targets = {str(pool): size for pool, size in tick.decision.targets.items()}
        for route, split in tick.decision.routes.items():
            targets |= {f"{route} {backend}": weight for backend, weight in split.weights.items() if weight}
        if targets != last.get(tick.workload):
            last[tick.workload] = targets
            yield f"{tick.workload} {row}"


def _row(d: Decision, at_s: float) -> str:
    """Return a decision without its reasons. Needs have six digits: the seventh may differ between processors."""
    needs = " ".join("-" if r.need is None else f"{r.need:.6g}" for r in d.recommendations)
    targets = " ".join(f"{pool}={size}" for pool, size in sorted(d.targets.items()))
    flags = f"{'active' if d.active else 'idle'} {'may lower' if d.may_scale_in else 'may not lower'}"
    sizes = f"{d.current} ({d.ready} ready) -> {d.target}: {targets}"
    splits = "".join(_split(name, split.weights) for name, split in sorted(d.routes.items()))
    return f"{at_s:.3f} s: {sizes}; wanted {d.capped_need} of {needs}; {flags}{splits}"


def _split(route: str, weights: Mapping[BackendName, int]) -> str:
    """Return the split in percent: more digits may differ between processors, as those of needs."""
    shares = " ".join(f"{name}={weight / WEIGHT_TOTAL:.0%}" for name, weight in sorted(weights.items()) if weight)
    return f"; {route} {shares or 'rejects'}"


@pytest.mark.parametrize("name", CASES)
def test_decisions_equal_the_recorded_ones(name: str) -> None:
    recorded = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    actual = list(lines(name))
    assert actual[1:] == recorded[1:]
    assert actual[0] == recorded[0]


if __name__ == "__main__":
    for case_name in CASES:
        (FOLDER / f"{case_name}.txt").write_text("\n".join(lines(case_name)) + "\n", encoding="utf-8")
