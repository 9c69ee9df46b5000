"""Cost advice on one workload: all sections together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.cost import api_vs_self_hosted, batching_cache, bursts, buying, headroom, sizing
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Basis, Citation, Figure, Section, SourcedNumber
from simulators.cost.goodput import REQUESTS
from simulators.cost.inputs import LoadedOffers
from simulators.cost.recommendation import Purchase, recommend
from simulators.cost.trial import RatedEngine, make_trial, rated_offers, rates


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """The sections of the advice, their inputs, and cautions that apply to all of them."""

    evidence: WorkloadEvidence
    sections: tuple[Section, ...]
    purchase: Purchase | None
    rates: Mapping[str, RatedEngine]
    cautions: tuple[str, ...]

    def section(self, key: str) -> Section:
        return next(s for s in self.sections if s.key == key)


def advice(evidence: WorkloadEvidence, file: LoadedOffers, seed: int, count: int = REQUESTS) -> Advice:
    """Return the advice on cost. `seed` draws the `count` requests of the engine trials."""
    trial = make_trial(evidence, seed, count)
    engine_rates = rates(evidence, trial)
    current = rated_offers(evidence, engine_rates).get(evidence.runs_on)
    purchase = recommend(evidence, _spot_limit(file))
    sections = (
        buying.section(evidence, purchase),
        sizing.section(evidence, trial, engine_rates),
        batching_cache.section(evidence, trial, current),
        headroom.section(evidence),
        bursts.section(evidence),
        api_vs_self_hosted.section(evidence, trial, current, purchase, file),
    )
    return Advice(evidence, sections, purchase, engine_rates, tuple(_cautions(evidence, sections)))


def _spot_limit(file: LoadedOffers) -> SourcedNumber:
    """Return the maximum spot share: a limit of the user, or the default."""
    share = file.content.spot_max_share
    if "spot_max_share" in (file.source.data or {}):
        return SourcedNumber(share, (Citation(Basis.GIVEN, file.where("spot_max_share")),))
    return SourcedNumber(share, (Citation(Basis.PRIOR, f"spot_max_share {share:g}, the default"),))


def _cautions(evidence: WorkloadEvidence, sections: tuple[Section, ...]) -> list[str]:
    """Return the limitations of the figures."""
    cautions = [*evidence.cautions]
    cautions.append(f"a month is {MONTH_H:g} hours like the observed period: growth and unobserved peaks are excluded")
    priors = dict.fromkeys(s.where for section in sections for f in section.figures for s in f.sources if _prior(s))
    cautions += [f"assumed, not measured: {where}" for where in priors]
    for name, offer in evidence.offers.items():
        if offer.engine is not None and offer.engine.model.provenance:
            cautions.append(f"{name}: {offer.engine.model.provenance}")
    return cautions


def _prior(source: Citation) -> bool:
    return source.basis is Basis.PRIOR


def as_dict(advised: Advice) -> dict[str, Any]:
    """Return the advice as plain data, with the curves behind it."""
    purchase = advised.purchase
    curves = (
        {}
        if purchase is None
        else {
            "held_share": purchase.curve.shares.tolist(),
            "needed_share": purchase.needed.shares.tolist(),
            "seen_h": purchase.curve.seen_h,
            "markets": list(purchase.plan.markets),
        }
    )
    return {
        "name": advised.evidence.name,
        "workload": str(advised.evidence.recorded.name),
        "runs_on": advised.evidence.runs_on,
        "month_h": MONTH_H,
        "recommendation": None if purchase is None else _recommendation(advised.evidence, purchase),
        "curve": curves,
        "sections": [_section(s) for s in advised.sections],
        "cautions": list(advised.cautions),
    }


def _recommendation(evidence: WorkloadEvidence, purchase: Purchase) -> dict[str, Any]:
    """Return the choice with both costs on one basis, and whether what ran met its SLO."""
    run, late = purchase.as_run, evidence.late
    return {
        "choice": purchase.choice.name.lower(),
        "text": str(purchase.choice),
        "usd_per_month": purchase.usd_per_hour * MONTH_H,
        "plan_usd_per_month": purchase.plan.usd_per_hour * MONTH_H,
        "as_run_usd_per_month": None if run is None else run.usd_per_hour * MONTH_H,
        "as_run_spot_peak": None if run is None else run.spot_peak,
        "as_run_slo": str(evidence.slo_status),
        "as_run_late": None if late is None else dataclasses.asdict(late),
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "key": section.key,
        "title": section.title,
        "findings": list(section.findings),
        "figures": [_figure(f) for f in section.figures],
        "gaps": [dataclasses.asdict(gap) for gap in section.gaps],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        **dataclasses.asdict(figure),
        "sources": [{"basis": str(s.basis), "where": s.where} for s in figure.sources],
        "rests_on_prior": figure.rests_on_prior,
    }
