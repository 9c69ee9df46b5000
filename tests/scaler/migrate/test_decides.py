"""An imported workload decides like the original, by a second implementation of Kubernetes' arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policies.history.ticks import History
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from scaler.config.load import workload_from
from scaler.migrate.manifests import Imported
from tests.factories import NOW, fresh, seen, tick_of
from tests.scaler.migrate.importing import HPA, KEDA, SQS, changed, import_manifests, load_imported, workload

TOLERANCE = 0.1


def sizes(spec: WorkloadSpec, ticks: Sequence[Mapping[str, float]], size: int) -> list[int]:
    """Run ticks 15 s apart. Each decided size is in effect at the next tick."""
    history = History(7200.0)
    decided = []
    (pool,) = spec.pools
    for i, readings in enumerate(ticks):
        at = NOW + 15 * i
        status = seen({}, size, at=at).pools
        signals = {name: fresh(value, now=at) for name, value in readings.items()}
        observation = seen(signals, size, at=at, pools={pool: next(iter(status.values()))})
        decision = decide(spec, history, observation)
        history.append(tick_of(observation, decision))
        size = decision.target if decision.target is not None else size
        decided.append(size)
    return decided


def within_tolerance(ratio: float) -> bool:
    """Return whether a ratio is within Kubernetes' tolerances by direction (1.33), with its rounding."""
    return 1 - TOLERANCE <= ratio <= 1 + TOLERANCE


def average_value(total: float, target: float, size: int) -> int:
    """Return the size by ``GetExternalPerPodMetricReplicas``: ceil(total / target), unless within the tolerance."""
    return size if within_tolerance(total / (target * size)) else math.ceil(total / target)


def value(total: float, target: float, size: int) -> int:
    """Return the size by ``GetExternalMetricReplicas`` with every pod ready: ceil(ratio x pods)."""
    return size if within_tolerance(total / target) else math.ceil(total / target * size)


def scale_up_limit(size: int, desired: int, minimum: int, maximum: int) -> int:
    """Return the size of the default scale-up: at most twice the size or four, within the bounds (``scaleUpLimit``)."""
    return min(max(desired, minimum), maximum, max(2 * size, 4))


@pytest.fixture(scope="module")
def totals(tmp_path_factory: pytest.TempPathFactory) -> WorkloadSpec:
    return workload(tmp_path_factory.mktemp("totals"), HPA)


@pytest.fixture(scope="module")
def ratio(tmp_path_factory: pytest.TempPathFactory) -> WorkloadSpec:
    external = {"metric": {"name": "waiting"}, "target": {"type": "Value", "value": "5"}}
    metrics = [{"type": "External", "external": external}]
    return workload(tmp_path_factory.mktemp("ratio"), changed(HPA, spec__metrics=metrics))


@given(st.integers(1, 9), st.integers(0, 400))
def test_hpa_average_value_scales_out_like_kubernetes(totals: WorkloadSpec, size: int, waiting: int) -> None:
    desired = average_value(waiting, 5, size)
    (decided,) = sizes(totals, [{"prometheus.waiting": waiting}], size)
    assert decided == (scale_up_limit(size, desired, 1, 9) if desired > size else size), "scale-in waits for its window"


@given(st.integers(1, 9), st.integers(0, 60))
def test_hpa_value_scales_out_like_kubernetes(ratio: WorkloadSpec, size: int, waiting: int) -> None:
    desired = value(waiting, 5, size)
    (decided,) = sizes(ratio, [{"prometheus.waiting": waiting}], size)
    assert decided == (scale_up_limit(size, desired, 1, 9) if desired > size else size)


def test_imported_hpa_uses_the_stabilization_window_of_the_manifest(tmp_path: Path) -> None:
    down = {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 30}]}
    spec = workload(tmp_path, changed(HPA, spec__behavior={"scaleDown": down}))
    decided = sizes(spec, [{"prometheus.waiting": 45}] + [{"prometheus.waiting": 5}] * 12, 9)
    first = next(i for i, size in enumerate(decided) if size < 9)
    assert first * 15 == 60, "a recommendation counts until it is 60 s old"
    steps = [a - b for a, b in itertools.pairwise(decided)]
    assert max(steps) == 2, "two pods in a period"
    assert sum(decided[first - 1 + i] - decided[first + i] for i in range(2)) <= 2, (
        "and not two in each tick of a period"
    )
    assert decided[-1] < 5


def test_scaled_object_scales_from_and_to_zero_like_keda(tmp_path: Path) -> None:
    spec = workload(tmp_path, changed(KEDA, spec__cooldownPeriod=120, spec__advanced={
        "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}
    }, spec__triggers=[changed(SQS, metadata__activationQueueLength="3")]))  # fmt: skip

    def queue(visible: float) -> dict[str, float]:
        return {"queue.visible": visible, "queue.in_flight": 0}

    assert sizes(spec, [queue(3)] * 4, 0) == [0] * 4, "three are not above three"
    scaling_out = sizes(spec, [queue(4)] * 2 + [queue(60)] * 4, 0)
    assert scaling_out[0] == 1
    assert scaling_out[-1] == 12, "60 messages at 5"
    scaling_in = sizes(spec, [queue(60)] * 2 + [queue(0)] * 16, 12)
    assert scaling_in[-1] == 0
    assert scaling_in.index(1) < scaling_in.index(0), "the HPA scales to one, and KEDA to zero after its cooldown"


def test_imported_documents_equal_the_loaded_workloads(tmp_path: Path) -> None:
    result: Imported = import_manifests(tmp_path, KEDA, HPA)
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(result.text))
    assert [workload_from(d).spec for d in documents] == load_imported(tmp_path, result)
