"""The recommended purchase never costs more than what ran, unless what ran missed its SLO or the user's limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.model import PoolName
from policies.model.spec import Slo
from simulators.cost import of_scenario
from simulators.cost.buying import section
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import Basis, Citation, SourcedNumber
from simulators.cost.inputs import NO_OFFERS
from simulators.cost.offers import ReplicaOffer
from simulators.cost.recommendation import Choice, Purchase, recommend
from simulators.cost.recommendation_text import sentences
from simulators.experiments import run as running
from simulators.experiments.scenario import load
from simulators.experiments.slo_outcome import LateRequests, SloStatus, fine_percent
from tests.simulators.backtest.recorded_runs import make_recorded_run
from tests.simulators.cost.inputs import LADDER, MARKETS, SPOT, write_scenario

RECORDING = Citation(Basis.SIMULATED, "a run")
DEFAULT_LIMIT = SourcedNumber(0.5, (Citation(Basis.PRIOR, "the default"),))
USER_LIMIT = SourcedNumber(0.5, (Citation(Basis.GIVEN, "offers.yaml:1 spot_max_share"),))
MET, MISSED = LateRequests(122, 1_904_332), LateRequests(31, 1000)
SLO = Slo(ttft_s=1.0, itl_s=0.05, share=0.99)
POOLS = {"reserved": "reserved", "spot": "spot", "on-demand": "on_demand"}


def given_number(value: float) -> SourcedNumber:
    return SourcedNumber(value, (Citation(Basis.GIVEN, "a price"),))


def evidence_of(
    sizes: Sequence[tuple[int, int, int]],
    *,
    demand: float = 1.0,
    late: LateRequests | None = MET,
    slo: Slo | None = SLO,
    billed: float | None = None,
    **offer: float,
) -> WorkloadEvidence:
    """Return evidence of a run with these reserved, spot and on-demand replicas at each tick."""
    columns = np.array(sizes, np.float64).T
    recorded = make_recorded_run(
        len(sizes),
        columns={"demand": [demand] * len(sizes)},
        pools={name: {"desired": list(c), "ready": list(c)} for name, c in zip(POOLS, columns, strict=True)},
        workload_pools={
            name: {"kind": "kubernetes", "name": name, "market": market, "max_replicas": int(max(*c, 1))}
            for (name, market), c in zip(POOLS.items(), columns, strict=True)
        },
    )
    prices = {"on_demand": 6.88, "reserved": 4.13, "spot": 2.75, "losses": 0.9, "available": 0.65, "lead_time_s": 300}
    values: dict[str, Any] = {key: given_number(value) for key, value in (prices | offer).items()}
    return WorkloadEvidence(
        name="case",
        recorded=recorded,
        recording=RECORDING,
        pools=dict.fromkeys(map(PoolName, POOLS), "gpu"),
        markets={PoolName(name): market for name, market in POOLS.items()},
        offers={"gpu": ReplicaOffer("gpu", **values)},
        runs_on="gpu",
        requests=None,
        missing_reason="not needed",
        slo=slo,
        slo_citation=None,
        cost=None if billed is None else given_number(billed),
        late=late,
    )


def recommended(evidence: WorkloadEvidence, limit: SourcedNumber = DEFAULT_LIMIT) -> Purchase:
    purchase = recommend(evidence, limit)
    assert purchase is not None
    return purchase


def assert_never_dearer(evidence: WorkloadEvidence, purchase: Purchase) -> None:
    """Check the invariant, and that the text names the exception."""
    run, text = purchase.as_run, " ".join(sentences(evidence, purchase))
    assert run is not None
    if purchase.usd_per_hour <= run.usd_per_hour * (1 + 1e-9):
        return
    assert evidence.slo_status is SloStatus.MISSED or "more than your spot_max_share" in text
    if evidence.slo_status is SloStatus.MISSED:
        assert f"but {evidence.late}: what ran missed its SLO" in text


SIZES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 4)), min_size=2, max_size=12
).filter(lambda sizes: any(sum(s) for s in sizes))  # fmt: skip


@settings(deadline=None)
@given(
    SIZES,
    st.sampled_from([MET, MISSED, None]),
    st.sampled_from([SLO, None]),
    st.floats(0.0, 12.0),
    st.fixed_dictionaries({"reserved": st.floats(0.1, 20.0), "spot": st.floats(0.1, 20.0),
                           "available": st.floats(0.01, 1.0)}),
    st.none() | st.floats(0.1, 90.0),
    st.sampled_from([DEFAULT_LIMIT, USER_LIMIT]),
)  # fmt: skip
def test_the_recommendation_never_costs_more_than_what_ran(
    sizes: list[tuple[int, int, int]],
    late: LateRequests | None,
    slo: Slo | None,
    demand: float,
    prices: dict[str, float],
    billed: float | None,
    limit: SourcedNumber,
) -> None:
    evidence = evidence_of(sizes, demand=demand, late=late, slo=slo, billed=billed, **prices)
    purchase = recommended(evidence, limit)
    assert_never_dearer(evidence, purchase)
    run = purchase.as_run
    assert run is not None
    if purchase.choice is Choice.PLAN and billed is not None and abs(billed / run.usd_per_hour - 1) < 0.09:
        assert purchase.usd_per_hour < billed, "a bill at these prices"


MANY_ON_SPOT = [(2, 4, 0)] * 8


def test_a_run_mostly_on_spot_is_kept_and_its_cost_is_on_the_plans_basis() -> None:
    purchase = recommended(evidence := evidence_of(MANY_ON_SPOT))
    assert purchase.choice is Choice.KEEP
    assert purchase.as_run is not None
    assert purchase.as_run.usd_per_hour == pytest.approx(2 * 4.13 + 4 * 2.75 * (1 + 0.9 * 300 / 3600))
    text = " ".join(sentences(evidence, purchase))
    assert "Keep what ran: 2 reserved, 4 spot replicas" in text
    assert "SLO as run: met, 122 late of 1,904,332 (0.0064%), 1% allowed." in text


def test_a_run_that_missed_its_slo_is_no_alternative_and_the_plan_covers_the_demand() -> None:
    purchase = recommended(evidence := evidence_of(MANY_ON_SPOT, late=MISSED, demand=8.0))
    assert purchase.choice is Choice.RUN_MISSED_SLO
    assert purchase.curve.mean == pytest.approx(8.0)
    backlog = recommended(evidence_of(MANY_ON_SPOT, late=MISSED, demand=120.0))
    assert backlog.curve.maximum == evidence.recorded.spec.max_replicas
    assert "31 late of 1,000 (3.10%): what ran missed its SLO" in " ".join(sentences(evidence, purchase))


def test_a_limit_of_the_user_excludes_what_ran_but_the_default_does_not() -> None:
    evidence = evidence_of(MANY_ON_SPOT)
    assert recommended(evidence, USER_LIMIT).choice is Choice.RUN_OVER_SPOT_LIMIT
    assert recommended(evidence, DEFAULT_LIMIT).choice is Choice.KEEP


def test_an_expensive_run_is_replaced_by_the_plan_with_the_saving_over_what_ran() -> None:
    purchase = recommended(evidence := evidence_of([(1, 0, 3)] * 8, spot=6.0))
    assert purchase.choice is Choice.PLAN
    assert purchase.usd_per_hour == pytest.approx(4 * 4.13)
    assert "The plan saves 33.3%" in " ".join(sentences(evidence, purchase))


def test_no_plan_above_the_bill_is_recommended_unless_the_bill_has_other_prices() -> None:
    """The plan costs 4 * 4.13 = 16.52 USD/h, what ran 4.13 + 3 * 4.2 = 16.73."""
    sizes = [(1, 0, 3)] * 8
    below = evidence_of(sizes, on_demand=4.2, spot=6.0, billed=16.4)
    assert recommended(below).choice is Choice.KEEP
    assert "costs no less than the bill" in " ".join(sentences(below, recommended(below)))
    other_prices = evidence_of(sizes, on_demand=4.2, spot=6.0, billed=8.0)
    assert recommended(other_prices).choice is Choice.PLAN


def test_an_unknown_demand_is_no_figure_instead_of_zero() -> None:
    evidence = evidence_of(MANY_ON_SPOT, demand=float("nan"))
    keys = {f.key for f in section(evidence, recommended(evidence)).figures}
    assert "held_mean" in keys
    assert not keys & {"needed_mean", "short_share"}


def test_an_unknown_slo_or_price_is_said_and_is_not_zero() -> None:
    evidence = evidence_of(MANY_ON_SPOT, slo=None)
    assert "SLO as run: unknown, no SLO is given." in list(sentences(evidence, recommended(evidence)))
    offer = dataclasses.replace(evidence.offer, spot=None)
    unpriced = dataclasses.replace(evidence, offers={"gpu": offer})
    purchase = recommended(unpriced)
    assert purchase.choice is Choice.UNCOMPARED
    assert any("a price of the replicas that ran is unknown" in s for s in sentences(unpriced, purchase))


def test_demand_above_the_replicas_held_is_explained() -> None:
    evidence = evidence_of([(2, 4, 0), (2, 0, 0)] * 4, demand=5.0)
    text = " ".join(sentences(evidence, recommended(evidence)))
    assert "On average 4.00 replicas were held and 5.00 demanded by the policies." in text
    assert "For 50% of the time fewer were held than demanded." in text


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("capacity", [1, 4, None])
def test_the_invariant_holds_for_simulated_runs(tmp_path: Path, seed: int, capacity: int | None) -> None:
    zone = {"losses_per_node_hour": 2.0} | ({} if capacity is None else {"capacity": capacity})
    pools = {**MARKETS["pools"], "spot": {**SPOT, "zones": {"a": zone}}}
    traffic = {**MARKETS["traffic"], "duration_s": 1200}
    path = write_scenario(tmp_path, {**MARKETS, "pools": pools, "traffic": traffic}, LADDER)
    case = load(path)
    inputs = of_scenario.ScenarioInputs(path, case, running.traffic_of(case, seed), seed)
    evidence = of_scenario.of_scenario(inputs, NO_OFFERS, lambda _: None)
    assert evidence.late is not None
    assert_never_dearer(evidence, recommended(evidence))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (122 / 1_904_332, "0.0064%"), (0.00085, "0.085%"), (0.031, "3.10%"), (1.0, "100.00%"),
     (float("nan"), "unknown")],
)  # fmt: skip
def test_a_share_never_rounds_to_zero_unless_it_is_zero(share: float, text: str) -> None:
    assert fine_percent(share) == text
