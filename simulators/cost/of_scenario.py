"""A scenario, run, as what advice is given on."""

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
from simulators.cost.inputs import GivenFile, at
from simulators.experiments.results import summarize
from simulators.experiments.run import SimulationRun, simulate
from simulators.experiments.scenario import Case, Scenario
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.traffic.trace import RequestTrace, TraceError

MARKETS: Final = {"on_demand": "on_demand", "reserved": "reserved", "spot": "spot"}


@dataclass(frozen=True, slots=True, eq=False)
class ScenarioInputs:
    """The scenario: its file, what it says, and the requests and the seed that it is run with."""

    path: Path
    case: Case
    trace: RequestTrace
    seed: int


def of_scenario(told: ScenarioInputs, file: GivenFile, progress: Callable[[float], None]) -> WorkloadEvidence:
    """Run the scenario and look at it. Raises `ConfigError` and `TraceError`."""
    path, case = told.path, dataclasses.replace(told.case, scenario=_to_the_end_of_traffic(told.case.scenario))
    taken = TickColumns()

    def take(tick: Tick) -> None:
        if tick.workload == case.workload.name:
            taken.add(tick)

    run = simulate(case, told.seed, told.trace, record=[take], progress=progress)
    recorded = taken.to_run({case.workload.fingerprint: case.workload}, 0)
    if recorded is None:
        raise TraceError(f"{path}: no turn was taken: give it a longer duration_s")
    turns = Citation(Basis.SIMULATED, f"a run of {path} with seed {told.seed}, {len(recorded):,} turns")
    return _seen(path, run, recorded, turns, file)


def _to_the_end_of_traffic(scenario: Scenario) -> Scenario:
    """Return the scenario without the time in which its last requests may end.

    Money and requests of one and the same time.
    """
    return dataclasses.replace(scenario, settle_s=0.0)


def _seen(path: Path, run: SimulationRun, recorded: RecordedRun, turns: Citation, file: GivenFile) -> WorkloadEvidence:
    case, summary = run.case, summarize(run)
    tiers = {name: pool.tier for name, pool in recorded.spec.pools.items()}
    serving = [name for name in recorded.pools if tiers[name] == "serving"]
    pools = {name: case.scenario.pools[case.pools[name]].model for name in serving}
    found, held = _offers(path, case, recorded, turns)
    made, runs_on = offers.merged(found, held, file)
    renamed = {name: runs_on if model not in made else model for name, model in pools.items()}
    hours = run.end_s / evidence.HOUR_S
    told = Citation(Basis.SIMULATED, f"bills of {path}, seed {run.seed}, {hours:.4g} h")
    span_s = run.end_s
    own = file.given.slo
    promise = Citation(Basis.GIVEN, file.where("slo") if own else f"{path} slo")
    return WorkloadEvidence(
        name=case.scenario.scenario,
        recorded=recorded,
        turns=turns,
        pools=renamed,
        markets={name: case.scenario.pools[case.pools[name]].market for name in pools},
        offers=made,
        runs_on=runs_on,
        requests=RequestEvidence(
            run.trace, span_s, (Citation(Basis.GIVEN, f"traffic of {path}, {len(run.trace):,} requests"),)
        ),
        unknown="",
        slo=own or case.scenario.slo,
        promise=promise,
        cost=SourcedNumber(summary.cost_usd / hours, (told,)),
        uses={use: usd / hours for use, usd in summary.cost_by_use_usd.items() if usd},
        worlds={str(name): case.scenario.pools[case.pools[name]] for name in serving},
        cautions=tuple(w for w in summary.warnings if "settle_s" not in w),
    )


def _offers(
    path: Path, case: Case, recorded: RecordedRun, turns: Citation
) -> tuple[dict[str, offers.Buyable], dict[str, float]]:
    """Return the scenario's pools as offers, by their service models, and the replica-hours of each."""
    source = read_yaml(path)[0][0]
    made: dict[str, dict[str, object]] = {}
    held: dict[str, float] = {}
    for name in recorded.pools:
        if recorded.spec.pools[name].tier != "serving":
            continue
        world = case.pools[name]
        offer = case.scenario.pools[world]
        own = made.setdefault(offer.model, {"engine": _engine(case, offer)})
        held[offer.model] = held.get(offer.model, 0.0) + evidence.pool_hours(recorded, name)
        own.setdefault(MARKETS[offer.market], _price(offer, at(source, ("pools", world, "price_usd_per_hour"))))
        if offer.market == "spot":
            own |= _spot(recorded, name, turns)
        own.setdefault("lead_time_s", evidence.lead_time_s(recorded, name, turns))
    return {name: offers.Buyable(name, **known) for name, known in made.items()}, held  # type: ignore[arg-type]


def _spot(recorded: RecordedRun, pool: PoolName, turns: Citation) -> Mapping[str, object]:
    return {
        "losses": evidence.losses(recorded, pool, turns),
        "available": evidence.available(recorded, pool, turns),
        "lead_time_s": evidence.lead_time_s(recorded, pool, turns),
    }


def _engine(case: Case, offer: PoolOffer) -> offers.OfferedEngine:
    """Return the pool's model, as the scenario read it: a file is relative to that."""
    name = offer.model
    beside = case.folder / name
    return offers.engine(str(beside) if beside.is_file() else name)


def _price(offer: PoolOffer, where: str) -> SourcedNumber | None:
    """Return a node's price, the mean of its zones' where they differ; None for what costs nothing."""
    prices = [p for zone in offer.zones if (p := offer.price(zone)) is not None]
    mean = float(np.mean(prices))
    zones = f", the mean of {len(prices)} zones" if len(set(prices)) > 1 else ""
    return SourcedNumber(mean, (Citation(Basis.GIVEN, where + zones),)) if mean > 0 else None
