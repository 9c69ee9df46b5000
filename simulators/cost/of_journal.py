"""Evidence from a journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policies.model import PoolName
from policies.model.pool import Pool
from scaler.config.problems import ConfigError, Problem
from simulators.backtest import engines, reconstruct
from simulators.backtest.journals import read
from simulators.backtest.period_summary import summarize_period
from simulators.backtest.reconstruct import AssumedLengths as Lengths
from simulators.backtest.recorded_run import RecordedRun
from simulators.cost import evidence, offers
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import Basis, Citation, SourcedNumber
from simulators.cost.inputs import LoadedOffers
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.world.traffic.describe import duration

OWN = "replica"
"""Name of the offer of pools without an accelerator."""


@dataclass(frozen=True, slots=True)
class JournalInputs:
    """The user's statements about a journal: its workload, model and lengths.

    A workload of None is the only one of the journal. A model of None is inferred.
    """

    workload: str | None = None
    model: str | None = None
    lengths: Lengths = field(default_factory=Lengths)

    def by(self, file: LoadedOffers) -> JournalInputs:
        """Return the inputs with the model of the file's `runs_on` offer, unless they name a model."""
        offer = file.content.offers.get(file.content.runs_on or "")
        return self if offer is None or self.model else dataclasses.replace(self, model=offer.model)


def of_journal(path: Path, inputs: JournalInputs, seed: int, file: LoadedOffers) -> WorkloadEvidence:
    """Return the one workload of a journal, or the one named.

    Raises `JournalError` and `ConfigError`.
    """
    period = read([path], -np.inf, np.inf, inputs.workload)
    if len(period.recorded) > 1:
        names = ", ".join(str(r.name) for r in period.recorded)
        problem = Problem(
            COMMAND_LINE, 1, "--workload", "", "is required: the journal has several workloads", f"use one of {names}"
        )
        raise ConfigError([problem])
    (recorded,) = period.recorded
    recording = Citation(Basis.MEASURED, f"{path}, {len(recorded):,} ticks of {recorded.name}")
    requests, served, unknown = _requests(recorded, inputs.by(file), recording, seed)
    pool_offers, held, pools = _offers(recorded, served, recording)
    merged, runs_on = offers.merge_offers(pool_offers, held, file)
    totals = summarize_period(recorded)
    hours = float(recorded.over_s.sum()) / evidence.HOUR_S
    paid = Citation(Basis.MEASURED, f"{path}: recorded sizes at the prices of their pools, {hours:.4g} h")
    unpriced = bool(totals.unpriced) or not np.isfinite(totals.usd).any()
    file_slo = file.content.slo
    where = file.where("slo") if file_slo else f"slo of the specification in {path}"
    return WorkloadEvidence(
        name=str(recorded.name),
        recorded=recorded,
        recording=recording,
        pools={name: runs_on if offer not in merged else offer for name, offer in pools.items()},
        markets={name: recorded.spec.pools[name].market for name in pools},
        offers=merged,
        runs_on=runs_on,
        requests=requests,
        missing_reason=unknown,
        slo=file_slo or recorded.spec.slo,
        slo_citation=Citation(Basis.GIVEN, where),
        cost=None if unpriced else SourcedNumber(float(np.nansum(totals.usd)) / hours, (paid,)),
        late=None if file_slo else totals.late_requests,
        late_reason="the journal has no late requests by the slo of --offers" if file_slo else totals.late_reason,
        cautions=tuple(_cautions(recorded, {name: recorded.spec.pools[name].market for name in pools})),
    )


def _requests(
    recorded: RecordedRun, inputs: JournalInputs, recording: Citation, seed: int
) -> tuple[RequestEvidence | None, offers.OfferedEngine | None, str]:
    """Return the rebuilt requests, their service model, and why one of the two is not known."""
    try:
        means = reconstruct.mean_lengths(recorded, inputs.lengths)
        served = _engine(engines.infer_engine(recorded, inputs.model, means), inputs.model, recording)
    except engines.EngineUnknown as e:
        return None, None, str(e)
    try:
        rebuilt = reconstruct.rebuild(recorded, served.model, inputs.lengths, seed)
    except reconstruct.ArrivalsUnknown as e:
        return None, served, str(e)
    if not len(rebuilt.trace):
        return None, served, "no request arrived"
    basis = Basis.PRIOR if rebuilt.default_lengths else recording.basis
    sources = (Citation(basis, "; ".join(rebuilt.assumptions)), recording)
    return RequestEvidence(rebuilt.trace, recorded.span_s, sources), served, ""


def _engine(inferred: engines.InferredEngine, named: str | None, recording: Citation) -> offers.OfferedEngine:
    if inferred.name is None:
        return offers.OfferedEngine(inferred.model, Citation(recording.basis, f"service model {inferred.origin}"))
    return offers.engine(inferred.name, "" if named is None else ", set as the journal's model")


def _offers(
    recorded: RecordedRun, served: offers.OfferedEngine | None, recording: Citation
) -> tuple[dict[str, offers.ReplicaOffer], dict[str, float], dict[Any, str]]:
    """Return the pools that serve as offers, by accelerator.

    Also return the replica-hours of each offer, and the offer of each pool.
    """
    values: dict[str, dict[str, Any]] = {}
    held: dict[str, float] = {}
    pools: dict[Any, str] = {}
    for name, pool in recorded.spec.pools.items():
        if pool.tier != "serving" or name not in recorded.pools:
            continue
        offer = pool.accelerator or OWN
        own = values.setdefault(offer, {})
        pools[name] = offer
        held[offer] = held.get(offer, 0.0) + evidence.pool_hours(recorded, name)
        price = _price(pool, f"price_usd_per_hour of pool {name} in {recorded.name}'s specification")
        if price is not None:
            own.setdefault(pool.market, price)
        if pool.market == "spot":
            own |= {
                "losses": evidence.losses(recorded, name, recording),
                "available": evidence.available(recorded, name, recording),
            }
        own.setdefault("lead_time_s", evidence.lead_time_s(recorded, name, recording))
    most = max(held, key=lambda offer: held[offer])
    values[most]["engine"] = served
    return {name: offers.ReplicaOffer(name, **known) for name, known in values.items()}, held, pools


def _price(pool: Pool, where: str) -> SourcedNumber | None:
    price = pool.price_usd_per_hour
    return SourcedNumber(price, (Citation(Basis.GIVEN, where),)) if price else None


def _cautions(recorded: RecordedRun, markets: Mapping[PoolName, str]) -> list[str]:
    found = []
    if recorded.silent_s:
        found.append(f"no ticks for {duration(recorded.silent_s)}: the replicas of this time are unknown, not 0")
    if recorded.damaged:
        found.append(f"{recorded.damaged} lines of the journal could not be read")
    unseen = ~np.isfinite(evidence.held_of(recorded, markets))
    if unseen.any():
        share = float(recorded.over_s[unseen].sum() / recorded.over_s.sum())
        found.append(f"for {share:.1%} of the time a pool's size is unknown: this time is excluded, not counted as 0")
    if recorded.columns["dry_run"].any():
        found.append("some ticks were dry runs: another writer set their sizes")
    return found
