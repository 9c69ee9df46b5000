"""All sections of the advice on one workload."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.cost import api_vs_self_hosted, batching_cache, buying, headroom, sizing
from simulators.cost.buying import Purchase
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Basis, Citation, Figure, Known, Section
from simulators.cost.goodput import REQUESTS
from simulators.cost.inputs import GivenFile
from simulators.cost.trial import Rated, rates, ready, trial


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """The sections, what they were made from, and what must be known of all of them."""

    seen: WorkloadEvidence
    sections: tuple[Section, ...]
    purchase: Purchase | None
    rates: Mapping[str, Rated]
    cautions: tuple[str, ...]

    def section(self, key: str) -> Section:
        return next(s for s in self.sections if s.key == key)


def advice(seen: WorkloadEvidence, file: GivenFile, seed: int, count: int = REQUESTS) -> Advice:
    """Return the advice on cost. `seed` draws `count` requests, on which engines are tried."""
    spot_share = file.given.spot_max_share
    limit = Known(spot_share, (Citation(Basis.GIVEN, file.where("spot_max_share")),))
    if not file.source.file:
        limit = Known(spot_share, (Citation(Basis.PRIOR, "spot_max_share 0.5, where --offers gives none"),))
    tried = trial(seen, seed, count)
    found_rates = rates(seen, tried)
    own = ready(seen, found_rates).get(seen.runs_on)
    bought = buying.purchase(seen, spot_share)
    found = (
        buying.section(seen, bought, limit),
        sizing.section(seen, tried, found_rates),
        batching_cache.section(seen, tried, own),
        headroom.section(seen),
        api_vs_self_hosted.section(seen, tried, own, bought, file),
    )
    return Advice(seen, found, bought, found_rates, tuple(_cautions(seen, found)))


def _cautions(seen: WorkloadEvidence, sections: tuple[Section, ...]) -> list[str]:
    """Return the reasons why the figures mean less than they seem to."""
    found = [*seen.cautions]
    found.append(f"a month is {MONTH_H:g} hours like those seen: growth, and what the period lacked, is not in it")
    priors = dict.fromkeys(s.where for section in sections for f in section.figures for s in f.sources if _prior(s))
    found += [f"not measured here: {where}" for where in priors]
    for name, offer in seen.offers.items():
        if offer.engine is not None and offer.engine.model.provenance:
            found.append(f"{name}: {offer.engine.model.provenance}")
    return found


def _prior(source: Citation) -> bool:
    return source.basis is Basis.PRIOR


def as_dict(found: Advice) -> dict[str, Any]:
    """Return the advice as plain data, with the curves behind it."""
    bought = found.purchase
    curves = (
        {}
        if bought is None
        else {
            "held_share": bought.curve.shares.tolist(),
            "needed_share": bought.needed.shares.tolist(),
            "seen_h": bought.curve.seen_h,
            "markets": list(bought.plan.markets),
        }
    )
    return {
        "name": found.seen.name,
        "workload": str(found.seen.recorded.name),
        "runs_on": found.seen.runs_on,
        "month_h": MONTH_H,
        "curve": curves,
        "sections": [_section(s) for s in found.sections],
        "cautions": list(found.cautions),
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
