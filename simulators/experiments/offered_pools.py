"""The pools that a scenario offers: their service models, capacity traces and regions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from policies.model import PoolName
from policies.model.names import BackendName
from scaler.config.document import Document
from scaler.config.problems import ConfigError, Problem
from simulators.engine.models import catalogue
from simulators.engine.models.service import ServiceModel
from simulators.world.infrastructure import supply
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.routing.provider import SimulatedProvider

MAX_ROUND_TRIP_S: Final = 10.0
"""A longer time is in another unit: light around the Earth and back takes 0.3 s in fibre. Seconds."""


def models_of(
    pools: Mapping[PoolName, PoolOffer], folder: Path, source: Document
) -> tuple[dict[str, ServiceModel], list[Problem]]:
    """Return the pools' models by name, and their problems."""
    models: dict[str, ServiceModel] = {}
    problems: list[Problem] = []
    for pool, offer in pools.items():
        name, place = offer.model, ("pools", pool, "model")
        try:
            models[name] = catalogue.load(str(folder / name) if name.endswith(catalogue.SUFFIXES) else name)
        except ConfigError as e:
            unnamed = [p for p in e.problems if p.file == "catalogue"]
            problems += [source.problem(place, p.rule, p.hint, name) for p in unnamed] or e.problems
    blocks = {name: model.block_tokens for name, model in models.items()}
    if len(dict.fromkeys(blocks.values())) > 1:
        listing = ", ".join(f"{name} {tokens}" for name, tokens in blocks.items())
        problems.append(source.problem(("pools",), f"the models must have the same block_tokens; these have {listing}"))
    accepted = {name: model.accepted_per_step for name, model in models.items()}
    if len(dict.fromkeys(accepted.values())) > 1:
        listing = ", ".join(f"{name} {tokens:g}" for name, tokens in accepted.items())
        rule = f"the models must have the same accepted_per_step; these have {listing}"
        problems.append(source.problem(("pools",), rule))
    return models, problems


def supply_problems(pools: Mapping[PoolName, PoolOffer], folder: Path, source: Document) -> Iterator[Problem]:
    """Yield the problems of the zones' capacity traces."""
    for pool, offer in pools.items():
        for name, zone in offer.zones.items():
            if zone.trace is not None:
                try:
                    supply.replayed(zone.trace, folder)
                except ValueError as e:
                    yield source.problem(("pools", pool, "zones", name, "trace"), str(e))


def region_problems(
    round_trip_s: Mapping[str, float],
    pools: Mapping[PoolName, PoolOffer],
    providers: Mapping[BackendName, SimulatedProvider],
) -> Iterator[tuple[str, str]]:
    """Yield the problems of the round trips to regions, as (key, rule broken)."""
    for name, time_s in round_trip_s.items():
        if not 0.0 <= time_s <= MAX_ROUND_TRIP_S:
            yield "round_trip_s", f"{name}: must be 0 to {MAX_ROUND_TRIP_S:g} seconds, not {time_s:g}"
    if not round_trip_s:
        return
    places = {f"pools.{name}": offer.region for name, offer in pools.items()}
    places |= {f"providers.{name}": p.region for name, p in providers.items() if p.region is not None}
    for place, region in places.items():
        if region is None:
            yield place, f"needs a region, one of round_trip_s: {', '.join(round_trip_s)}"
        elif region not in round_trip_s:
            yield place, f"is in region {region}, which is missing in round_trip_s"
