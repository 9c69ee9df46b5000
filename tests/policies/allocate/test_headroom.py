"""Headroom: the number of waiting replicas, and their tier."""

from __future__ import annotations

import pytest

from policies.allocate.headroom import exceedance_probability
from policies.model import Fresh, PoolName, PoolStatus, Reading, Stale
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from tests.factories import NOW, seen, spec
from tests.policies.allocate.worlds import FixedRecommendation, Simulation

PEAKS = ((0.5, 4.0), (0.8, 5.0), (0.9, 6.0), (0.95, 7.0), (0.99, 9.0))
GPUS, SLEPT = PoolName("gpus"), PoolName("slept")
POOLS = {
    "gpus": Pool(price_usd_per_hour=4.0, lead_time_s=100.0),
    "awake": Pool(tier="awake_spare", serves=GPUS, price_usd_per_hour=4.0, lead_time_s=0.0),
    "slept": Pool(tier="slept", serves=GPUS, price_usd_per_hour=2.0, lead_time_s=1.0),
    "warm": Pool(tier="warm_node", serves=GPUS, price_usd_per_hour=1.0, lead_time_s=70.0),
}


def workload_with_peaks(
    peaks: tuple[tuple[float, float], ...] = PEAKS, *, need: float = 4.0, ratio: float = 19.0, **pools: Pool
) -> WorkloadSpec:
    return spec(
        {"fixed": FixedRecommendation(replicas=need, peaks=peaks)}, {**POOLS, **pools}, slo_violation_cost_ratio=ratio
    )


def headroom_sizes(workload: WorkloadSpec, **current: int) -> dict[str, int]:
    """Return the sizes of the tiers when 4 replicas serve."""
    sizes = {"gpus": 4, **current}
    pools = {str(n): Fresh(PoolStatus(sizes.get(n, 0), sizes.get(n, 0)), NOW) for n in workload.pools}
    decision = decide(workload, Simulation.of(workload).history, seen({}, pools={**pools}))
    assert (decision.current, decision.target) == (4, 4), "headroom does not count in the size"
    return {str(n): size for n, size in decision.targets.items() if size and n != "gpus"}


@pytest.mark.parametrize(("work", "chance"), [(3.0, 0.5), (4.0, 0.5), (4.5, 0.35), (6.0, 0.1), (9.0, 0.01), (9.1, 0.0)])
def test_exceedance_probability_interpolates_the_peaks(work: float, chance: float) -> None:
    assert exceedance_probability(PEAKS, work) == pytest.approx(chance)


def test_slept_engine_at_half_the_price_beats_an_awake_spare() -> None:
    assert headroom_sizes(workload_with_peaks()) == {"slept": 5}, (
        "needed with 0.5, 0.2, 0.1, 0.05, 0.03, each above 2 / (76 * 0.99)"
    )


def test_slowly_waking_engine_is_replaced_by_awake_spares() -> None:
    slow_to_wake = Pool(tier="slept", serves=GPUS, price_usd_per_hour=3.9, lead_time_s=40.0)
    assert headroom_sizes(workload_with_peaks(slept=slow_to_wake)) == {"awake": 3, "warm": 1}


def test_cheaper_tier_covers_the_less_likely_demand() -> None:
    node = Pool(tier="warm_node", serves=GPUS, price_usd_per_hour=0.1, lead_time_s=70.0)
    assert headroom_sizes(workload_with_peaks(warm=node)) == {"slept": 4, "warm": 2}


@pytest.mark.parametrize(("ratio", "count"), [(0.5, 0), (5.0, 2), (19.0, 5), (1000.0, 6)])
def test_headroom_grows_with_the_cost_of_slo_violations(ratio: float, count: int) -> None:
    assert sum(headroom_sizes(workload_with_peaks(ratio=ratio)).values()) == count


def test_headroom_stays_within_forecast_peaks_and_max_replicas() -> None:
    flat_peaks = ((0.5, 4.0), (0.99, 4.0))
    assert headroom_sizes(workload_with_peaks(flat_peaks)) == {}
    assert sum(headroom_sizes(workload_with_peaks(((0.1, 4.0), (0.2, 500.0)))).values()) == 96


def test_tiers_keep_their_size_within_bounds_without_a_forecast() -> None:
    with_minimum = Pool(tier="slept", serves=GPUS, min_replicas=2, lead_time_s=1.0)
    assert headroom_sizes(workload_with_peaks(()), slept=3) == {"slept": 3}
    assert headroom_sizes(workload_with_peaks((), slept=with_minimum)) == {"slept": 2}


def test_headroom_stays_while_it_is_nearly_worth_its_price() -> None:
    peaks = ((0.5, 4.0), (0.98, 5.0), (0.99, 5.1))
    workload = workload_with_peaks(peaks)
    assert headroom_sizes(workload) == {"slept": 1}
    assert headroom_sizes(workload, slept=2) == {"slept": 2}
    assert headroom_sizes(workload, slept=5) == {"slept": 2}


@pytest.mark.parametrize("blind", [False, True], ids=["seeing", "blind"])
def test_tier_scales_in_only_with_evidence_and_no_other_writer(blind: bool) -> None:
    workload = workload_with_peaks(((0.5, 4.0), (0.99, 4.0)))
    serves = PoolStatus(4, 4)
    pools: dict[str, Reading[PoolStatus]] = {
        "gpus": Stale(serves, NOW - 90, 90) if blind else Fresh(serves, NOW),
        "awake": Fresh(PoolStatus(1, 1, "a person"), NOW),
        "slept": Fresh(PoolStatus(3, 3), NOW),
        "warm": Fresh(PoolStatus(0, 0), NOW),
    }
    decision = decide(workload, Simulation.of(workload).history, seen({}, pools=pools))
    assert decision.targets[SLEPT] == (3 if blind else 0)
    assert "awake" not in decision.targets
