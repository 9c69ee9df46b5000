"""Evidence from a run of a scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from policies.model import PoolName, Tick
from scaler.config.document import read as read_yaml
from simulators.backtest.columns import TickColumns
from simulators.backtest.recorded_run import RecordedRun
from simulators.cost import evidence, offers
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import Basis, Citation, SourcedNumber
from simulators.cost.inputs import LoadedOffers, location
from simulators.experiments.results import CountedRequests, summarize
from simulators.experiments.run import SimulationRun, simulate
from simulators.experiments.scenario import Case, Scenario
from simulators.experiments.slo_outcome import LateRequests
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.traffic.trace import RequestTrace, TraceError

MARKETS: Final = {"on_demand": "on_demand", "reserved": "reserved", "spot": "spot"}


@dataclass(frozen=True, slots=True, eq=False)
class ScenarioInputs:
    """A scenario: its file, its case, and the requests and seed of the run."""

    path: Path
    case: Case
    trace: RequestTrace
    seed: int


def of_scenario(inputs: ScenarioInputs, file: LoadedOffers, progress: Callable[[float], None]) -> WorkloadEvidence:
    """Run the scenario and return its evidence. Raises `ConfigError` and `TraceError`."""
    path, scenario = inputs.path, _without_settling(inputs.case.scenario)
    if file.content.slo is not None:
        scenario = dataclasses.replace(scenario, slo=file.content.slo)
    case = dataclasses.replace(inputs.case, scenario=scenario)
    ticks = TickColumns()

    def take(tick: Tick) -> None:
        if tick.workload == case.workload.name:
            ticks.add(tick)

    run = simulate(case, inputs.seed, inputs.trace, record=[take], progress=progress)
    recorded = ticks.to_run({case.workload.fingerprint: case.workload}, 0)
    if recorded is None:
        raise TraceError(f"{path}: the run has no tick: set a longer duration_s")
    recording = Citation(Basis.SIMULATED, f"a run of {path} with seed {inputs.seed}, {len(recorded):,} ticks")
    return _evidence(path, run, recorded, recording, file)


def _without_settling(scenario: Scenario) -> Scenario:
    """Return the scenario without its settle time.

    So cost and requests cover the same time.
    """
    return dataclasses.replace(scenario, settle_s=0.0)


def _evidence(
    path: Path, run: SimulationRun, recorded: RecordedRun, recording: Citation, file: LoadedOffers
) -> WorkloadEvidence:
    case, summary = run.case, summarize(run)
    tiers = {name: pool.tier for name, pool in recorded.spec.pools.items()}
    serving = [name for name in recorded.pools if tiers[name] == "serving"]
    pools = {name: case.scenario.pools[case.pools[name]].model for name in serving}
    pool_offers, held = _offers(path, case, recorded, recording)
    merged, runs_on = offers.merge_offers(pool_offers, held, file)
    renamed = {name: runs_on if model not in merged else model for name, model in pools.items()}
    hours = run.end_s / evidence.HOUR_S
    bills = Citation(Basis.SIMULATED, f"bills of {path}, seed {run.seed}, {hours:.4g} h")
    span_s = run.end_s
    file_slo = file.content.slo
    promise = Citation(Basis.GIVEN, file.where("slo") if file_slo else f"{path} slo")
    return WorkloadEvidence(
        name=case.scenario.scenario,
        recorded=recorded,
        recording=recording,
        pools=renamed,
        markets={name: case.scenario.pools[case.pools[name]].market for name in pools},
        offers=merged,
        runs_on=runs_on,
        requests=RequestEvidence(
            run.trace, span_s, (Citation(Basis.GIVEN, f"traffic of {path}, {len(run.trace):,} requests"),)
        ),
        missing_reason="",
        slo=case.scenario.slo,
        slo_citation=promise,
        cost=SourcedNumber(summary.cost_usd / hours, (bills,)),
        late=_late(run),
        cost_by_use={use: usd / hours for use, usd in summary.cost_by_use_usd.items() if usd},
        simulated_pools={str(name): case.scenario.pools[case.pools[name]] for name in serving},
        cautions=tuple(w for w in summary.warnings if "settle_s" not in w),
    )


def _late(run: SimulationRun) -> LateRequests:
    """Return the late requests.

    Those in work at the end are left out, since the run has no time to settle.
    """
    requests = CountedRequests(run)
    judged = requests.judged(run.end_s)
    return LateRequests(int((judged & ~requests.met["all"]).sum()), int(judged.sum()))


def _offers(
    path: Path, case: Case, recorded: RecordedRun, recording: Citation
) -> tuple[dict[str, offers.ReplicaOffer], dict[str, float]]:
    """Return the scenario's pools as offers, and the replica-hours of each.

    Offers are named by their service models.
    """
    source = read_yaml(path)[0][0]
    values: dict[str, dict[str, object]] = {}
    held: dict[str, float] = {}
    for name in recorded.pools:
        if recorded.spec.pools[name].tier != "serving":
            continue
        world = case.pools[name]
        offer = case.scenario.pools[world]
        own = values.setdefault(offer.model, {"engine": _engine(case, offer)})
        held[offer.model] = held.get(offer.model, 0.0) + evidence.pool_hours(recorded, name)
        own.setdefault(MARKETS[offer.market], _price(offer, location(source, ("pools", world, "price_usd_per_hour"))))
        if offer.market == "spot":
            own |= _spot(recorded, name, recording)
        own.setdefault("lead_time_s", evidence.lead_time_s(recorded, name, recording))
    return {name: offers.ReplicaOffer(name, **known) for name, known in values.items()}, held  # type: ignore[arg-type]


def _spot(recorded: RecordedRun, pool: PoolName, recording: Citation) -> Mapping[str, object]:
    return {
        "losses": evidence.losses(recorded, pool, recording),
        "available": evidence.available(recorded, pool, recording),
        "lead_time_s": evidence.lead_time_s(recorded, pool, recording),
    }


def _engine(case: Case, offer: PoolOffer) -> offers.OfferedEngine:
    """Return the pool's engine. A model file is relative to the scenario."""
    name = offer.model
    file = case.folder / name
    return offers.engine(str(file) if file.is_file() else name)


def _price(offer: PoolOffer, where: str) -> SourcedNumber | None:
    """Return a node's price, the mean over its zones; None if it is 0."""
    prices = [p for zone in offer.zones if (p := offer.price(zone)) is not None]
    mean = float(np.mean(prices))
    zones = f", the mean of {len(prices)} zones" if len(set(prices)) > 1 else ""
    return SourcedNumber(mean, (Citation(Basis.GIVEN, where + zones),)) if mean > 0 else None
