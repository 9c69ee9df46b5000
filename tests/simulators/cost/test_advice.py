"""Advice on scenarios and journals: figures that can be computed by hand, and reported gaps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.model import PoolName
from policies.model.spec import Slo
from simulators.cost import buying, headroom
from simulators.cost.advice import Advice, advice
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Basis, SourcedNumber
from simulators.cost.inputs import NO_OFFERS, LoadedOffers
from simulators.cost.offers import merge_offers
from simulators.cost.parity import comparable_models
from simulators.cost.recommendation import recommend
from tests.simulators.cost.inputs import (
    LADDER,
    MARKETS,
    MODEL,
    SCENARIO,
    SPOT,
    WORKLOAD,
    journal,
    recorded_evidence,
    simulated_evidence,
    write_offers,
    write_scenario,
)

pytestmark = pytest.mark.slow

TRIAL_REQUESTS = 2000
"""Requests of the engine trials: enough for these tests."""
OFFERS: dict[str, Any] = {
    "offers": {
        "h100": {"model": MODEL, "reserved_usd_per_hour": 3.0, "spot_usd_per_hour": 1.5,
                 "spot_losses_per_node_hour": 0.1, "spot_available_share": 0.8, "lead_time_s": 180},
        "a100": {"model": "llama-3.1-8b-a100", "on_demand_usd_per_hour": 3.4},
        "small": {"on_demand_usd_per_hour": 0.8},
    },
    "api": {"input_usd_per_million": 0.5, "output_usd_per_million": 1.5, "cached_input_usd_per_million": 0.1},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("advise")


@pytest.fixture(scope="module")
def file(folder: Path) -> LoadedOffers:
    return write_offers(folder, **OFFERS)


@pytest.fixture(scope="module")
def evidence(folder: Path, file: LoadedOffers) -> WorkloadEvidence:
    return simulated_evidence(write_scenario(folder), file)


@pytest.fixture(scope="module")
def advised(evidence: WorkloadEvidence, file: LoadedOffers) -> Advice:
    return advice(evidence, file, 1, TRIAL_REQUESTS)


@pytest.fixture(scope="module")
def live(folder: Path, file: LoadedOffers) -> Advice:
    return advice(recorded_evidence(journal(write_scenario(folder)), file), file, 1, TRIAL_REQUESTS)


def test_every_figure_has_a_formula_sources_and_a_finite_value(advised: Advice) -> None:
    for section in advised.sections:
        assert section.findings, section.key
        for figure in section.figures:
            assert figure.formula, figure
            assert figure.sources, figure
            assert np.isfinite(figure.value), figure
            assert figure.low is None or figure.high is None or figure.low <= figure.value <= figure.high, figure


def test_spot_price_includes_interruptions_and_the_on_demand_fallback(advised: Advice) -> None:
    spot = advised.section("buying").figure("spot_usd_per_hour", "h100")
    assert spot.value == pytest.approx(0.8 * 1.5 * (1 + 0.1 * 180 / 3600) + 0.2 * 5.0)


def test_purchase_plan_covers_the_peak_and_costs_less_than_on_demand(
    advised: Advice, evidence: WorkloadEvidence
) -> None:
    section = advised.section("buying")
    held = evidence.held
    mean = float(np.average(held, weights=evidence.recorded.over_s))
    assert section.figure("held_mean").value == pytest.approx(mean)
    assert section.figure("on_demand_usd").value == pytest.approx(mean * 5.0 * MONTH_H)
    assert section.figure("break_even_h", "on_demand").value == pytest.approx(MONTH_H * 3.0 / 5.0)
    counts = [section.figure(f"{m}_replicas").value for m in ("reserved", "spot", "on_demand")]
    assert sum(counts) == section.figure("held_most").value == held.max()
    assert section.figure("plan_usd").value < section.figure("on_demand_usd").value


def test_simulated_cost_is_close_to_the_requested_sizes_at_their_price(
    advised: Advice, evidence: WorkloadEvidence
) -> None:
    """The requested sizes at their price, plus the cost of draining replicas."""
    requested = float((evidence.held * evidence.recorded.over_s).sum()) / 3600 * 5.0
    assert evidence.cost is not None
    assert requested * 0.97 <= evidence.cost.value <= requested * 1.05
    uses = {f.about: f.value for f in advised.section("headroom").figures if f.key == "use_usd"}
    assert 0 < sum(uses.values()) < evidence.cost.value * MONTH_H


def test_cost_per_request_is_the_replica_price_over_its_goodput(advised: Advice) -> None:
    section = advised.section("sizing")
    rate, cost = (section.figure(key, "h100") for key in ("goodput_rps", "request_usd"))
    assert cost.value == pytest.approx(5.0 / (rate.value * 3600) * 1000)
    assert not cost.rests_on_prior
    assert any(s.basis is Basis.CALIBRATED for s in cost.sources)
    prior = section.figure("request_usd", "a100")
    assert prior.rests_on_prior
    assert prior.low is not None
    assert prior.high is not None
    assert prior.low < prior.value < prior.high
    assert any("small" in gap.what and "model" in gap.remedy for gap in section.gaps)


def test_replicas_needed_for_the_traffic_do_not_exceed_the_replicas_held(
    advised: Advice, evidence: WorkloadEvidence
) -> None:
    needed = advised.section("sizing").figure("month_usd", "h100").value / 5.0 / MONTH_H
    assert evidence.requests is not None
    rate = advised.section("sizing").figure("goodput_rps", "h100").value
    assert evidence.requests.rate_rps / rate <= needed <= evidence.held_curve.mean


def test_managed_api_cost_is_computed_from_the_recorded_tokens(advised: Advice, evidence: WorkloadEvidence) -> None:
    assert evidence.requests is not None
    trace = evidence.requests.trace
    usd = float((trace.prompt_tokens * 0.5 + trace.output_tokens * 1.5).sum()) / 1e6
    section = advised.section("managed")
    assert section.figure("api_usd").value == pytest.approx(usd / evidence.requests.span_s * 3600 * MONTH_H)
    assert section.figure("break_even").value < section.figure("volume").value


def test_cached_tokens_lower_both_the_api_cost_and_the_own_cost(
    folder: Path, file: LoadedOffers, advised: Advice
) -> None:
    half = simulated_evidence(write_scenario(folder, {**SCENARIO, "prefix_hit_share": 0.5}), file)
    cached = advice(half, file, 1, TRIAL_REQUESTS)
    api_cached, api_uncached = (c.section("managed").figure("api_request_usd").value for c in (cached, advised))
    assert api_uncached - api_cached == pytest.approx(
        0.5 * (0.5 - 0.1) * advised.rates["h100"].rate.prompt_tokens / 1000, rel=0.05
    )
    effects = {f.about: f.value for f in cached.section("effects").figures if f.key == "cache_usd"}
    assert effects["50%, observed"] == pytest.approx(effects["50%"], rel=0.02)
    assert effects["75%"] < effects["50%"] < effects["0%"]


def test_journal_and_scenario_of_the_same_run_give_the_same_advice(advised: Advice, live: Advice) -> None:
    """Requests are rebuilt from the daemon's readings: rates agree to a few percent, sizes are equal."""
    for key, figure, about, tolerance in (
        ("buying", "held_mean", "", 0.001),
        ("buying", "plan_usd", "", 0.001),
        ("buying", "paid_usd", "", 0.05),
        ("sizing", "goodput_rps", "h100", 0.1),
        ("managed", "volume", "", 0.05),
        ("managed", "api_usd", "", 0.05),
    ):
        simulated_value, live_value = (a.section(key).figure(figure, about).value for a in (advised, live))
        assert live_value == pytest.approx(simulated_value, rel=tolerance), figure
    assert any(s.basis is Basis.MEASURED for s in live.section("buying").figure("held_mean").sources)


def test_market_prices_and_interruption_rate_are_measured_from_the_run(folder: Path) -> None:
    evidence = simulated_evidence(write_scenario(folder, MARKETS, LADDER))
    offer = evidence.offer
    assert {m: getattr(offer, m).value for m in ("on_demand", "reserved", "spot")} == {
        "on_demand": 5.0, "reserved": 3.0, "spot": 2.0,
    }  # fmt: skip
    assert offer.losses is not None
    assert offer.losses.value == pytest.approx(2.0, rel=0.8), "the scenario's rate: two per node-hour"
    assert offer.available is not None
    assert 0.5 < offer.available.value <= 1.0
    assert {s.basis for s in offer.losses.sources} == {Basis.SIMULATED}


def test_zero_observed_interruptions_yield_a_rate_above_zero(folder: Path) -> None:
    pools = {**MARKETS["pools"], "spot": SPOT}
    evidence = simulated_evidence(write_scenario(folder, {**MARKETS, "pools": pools}, LADDER))
    losses = evidence.offer.losses
    assert losses is not None
    assert losses.value > 0.1, "three over the observed hours"
    assert Basis.PRIOR in {s.basis for s in losses.sources}


def test_unknown_prices_and_slo_are_reported_as_gaps(folder: Path) -> None:
    unpriced = {**WORKLOAD, "pools": {"gpus": {"kind": "kubernetes", "name": "vllm"}}, "slo": None}
    scenario = write_scenario(folder, SCENARIO, unpriced)
    advised = advice(recorded_evidence(journal(scenario)), NO_OFFERS, 1, TRIAL_REQUESTS)
    assert advised.purchase is None
    assert [g.what for g in advised.section("buying").gaps] == [
        "cheapest purchase plan", "replicas to reserve", "cost of spot replicas",
    ]  # fmt: skip
    assert advised.section("buying").figure("held_most").value >= 1, "known figures are reported"
    assert "the SLO is unknown" in advised.section("sizing").gaps[0].why
    assert not advised.section("managed").figures
    assert all(f.unit != "USD/month" for s in advised.sections for f in s.figures)


def test_reservation_is_evaluated_against_a_falling_load(advised: Advice) -> None:
    section = advised.section("buying")
    assert section.figure("reserved_replicas").value >= 1
    saved = section.figure("on_demand_usd").value - section.figure("plan_usd").value
    assert section.figure("if_load_falls_usd").value > -saved, "the saving is smaller"
    assert any("a term of 1 year" in finding for finding in section.findings)
    assert any("less than a week" in finding for finding in section.findings)


def test_spot_replicas_count_as_held_only_while_available(folder: Path) -> None:
    """The scenario specifies the market of each pool; the workload does not have to."""
    plain = {n: {k: v for k, v in pool.items() if k != "market"} for n, pool in LADDER["pools"].items()}
    few = {**MARKETS["pools"], "spot": {**SPOT, "zones": {"a": {"capacity": 1}}}}
    evidence = simulated_evidence(
        write_scenario(
            folder, {**MARKETS, "pools": few, "initial_replicas": {"reserved": 1}}, {**LADDER, "pools": plain}
        )
    )
    requested = sum(sizes["desired"] for sizes in evidence.recorded.pools.values())
    assert evidence.recorded.pools[PoolName("spot")]["desired"].max() > 1, "it requests more than the capacity"
    assert (requested - evidence.held).max() >= 1
    assert 0 < evidence.spot_share < 0.5
    assert evidence.offer.available is not None
    assert evidence.offer.available.value < 0.9


def test_a_gpu_that_cannot_meet_the_slo_has_no_break_even_price_instead_of_zero(evidence: WorkloadEvidence) -> None:
    strict = dataclasses.replace(evidence, slo=Slo(ttft_s=1.0, itl_s=0.016))
    section = advice(strict, NO_OFFERS, 1, TRIAL_REQUESTS).section("sizing")
    assert all(f.value > 0 for f in section.figures if f.key == "parity_usd")
    assert any(g.what.startswith("break-even price of llama-3.1-8b-a6000") for g in section.gaps)


def test_a_run_that_cost_less_than_the_plan_is_recommended(folder: Path) -> None:
    """Nearly all replicas are on spot, which the plan may not use."""
    pools = {**LADDER["pools"], "spot": {**LADDER["pools"]["spot"], "max_replicas": 12}}
    cheap = {**MARKETS["pools"], "spot": {**SPOT, "price_usd_per_hour": 0.5}}
    evidence = simulated_evidence(write_scenario(folder, {**MARKETS, "pools": cheap}, {**LADDER, "pools": pools}))
    advised = buying.section(evidence, recommend(evidence, SourcedNumber(0.0, ())))
    assert advised.figure("spot_replicas").value == 0
    assert advised.findings[0].startswith("Keep what ran: ")
    assert advised.figure("recommended_usd").value == advised.figure("run_usd").value
    assert advised.figure("recommended_usd").value < advised.figure("plan_usd").value


def test_scale_to_zero_costs_less_than_a_minimum_of_one_replica(folder: Path) -> None:
    quiet = {
        **SCENARIO,
        "traffic": {"kind": "flash_crowd", "base_rps": 0.001, "at_s": 1800, "factor": 1000, "duration_s": 3600},
    }
    advised = {
        minimum: advice(
            simulated_evidence(write_scenario(folder, quiet, {**WORKLOAD, "min_replicas": minimum})),
            NO_OFFERS,
            1,
            TRIAL_REQUESTS,
        )
        for minimum in (0, 1)
    }
    months = {minimum: a.section("sizing").figure("month_usd", MODEL).value for minimum, a in advised.items()}
    assert months[0] < months[1]
    assert months[1] >= 5.0 * MONTH_H


def test_headroom_policy_cost_is_its_share_of_the_needed_replicas(folder: Path) -> None:
    room = {**WORKLOAD, "policies": {**WORKLOAD["policies"], "room": {"kind": "headroom", "share": 0.3}}}
    evidence = simulated_evidence(write_scenario(folder, SCENARIO, room))
    figure = headroom.section(evidence).figure("policy_usd", "room")
    assert evidence.replica_hour is not None
    assert figure.value == pytest.approx(0.3 * evidence.needed_curve.mean * evidence.replica_hour.value * MONTH_H)


def test_at_the_parity_price_another_gpu_costs_the_same_per_request(
    folder: Path, advised: Advice, evidence: WorkloadEvidence
) -> None:
    section = advised.section("sizing")
    parity = {f.about: f for f in section.figures if f.key == "parity_usd"}
    assert "llama-3.1-8b-a100" not in parity, "an offered GPU needs no parity price"
    assert all(name.startswith("llama-3.1-8b-") and f.rests_on_prior for name, f in parity.items())
    price = parity["llama-3.1-8b-l40s"].value
    offers = {**OFFERS["offers"], "l40s": {"model": "llama-3.1-8b-l40s", "on_demand_usd_per_hour": price}}
    offers, _ = merge_offers({evidence.runs_on: evidence.offer}, {}, write_offers(folder, offers=offers))
    repeated = advice(dataclasses.replace(evidence, offers=offers), NO_OFFERS, 1, TRIAL_REQUESTS).section("sizing")
    assert repeated.figure("request_usd", "l40s").value == pytest.approx(section.figure("request_usd", "h100").value)


def test_comparable_models_have_the_same_weights_and_the_default_engine() -> None:
    assert comparable_models("llama-3.1-70b-h100x4", {"llama-3.1-70b-h100x4", "llama-3.1-8b-b200"}) == [
        "llama-3.1-70b-a100x4", "llama-3.1-70b-a100x8", "llama-3.1-70b-b200x2", "llama-3.1-70b-h100x8",
        "llama-3.1-70b-h200x2", "llama-3.1-70b-h200x4",
    ]  # fmt: skip
    assert "llama-3.1-8b-h100" not in comparable_models(MODEL, {MODEL}), "the same GPU"
    assert comparable_models("a-model-of-my-own", set()) == []
