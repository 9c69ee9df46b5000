"""Plan of one offer: the purchase, its alternatives, break-evens and risk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scaler.config.problems import ConfigError, Problem
from scaler.config.purchase import purchase_id
from simulators.cost.figures import MONTH_H, Basis, Citation
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.provisioned import risk
from simulators.provisioned.offers import NamedOffer
from simulators.provisioned.purchase import (
    TermPrice,
    UnitPurchase,
    break_even_load,
    break_even_use,
    buy,
    sizes,
)
from simulators.provisioned.samples import WEEK_HOURS, TokenSamples, unit_load
from simulators.provisioned.spillover import UnitLoad
from simulators.reporting.time_bins import Floats

FALL: Final = 0.2
"""Default fall of the load that a commitment must withstand."""
MIN_HOURS_SEEN: Final = 151
"""Hours of the week to be seen for a plan: 90 % of 168."""
MAX_SIZES: Final = 100_000
MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class TermPlan:
    """The purchase if all units had one term. Costs are USD per month."""

    name: str
    price: TermPrice
    units: int
    usd_per_month: float
    break_even_use: float

    @property
    def commitment_usd(self) -> float:
        """Amount that is due for the units until the end of the term. USD."""
        return self.units * self.price.usd_per_unit_hour * self.price.term_h


@dataclass(frozen=True, slots=True)
class LoadChange:
    """The purchase under the observed load times `factor`. Costs are USD per month."""

    factor: float
    usd_per_month: float
    pay_as_you_go: float
    spilled_share: float


@dataclass(frozen=True)
class ThroughputPlan:
    """A plan, its evidence and its risk."""

    named: NamedOffer
    samples: TokenSamples
    load: UnitLoad
    sizes: Floats
    terms: Mapping[str, TermPrice]
    purchase: UnitPurchase
    fall: float
    by_term: Sequence[TermPlan]
    changes: Sequence[LoadChange]
    spill: risk.Spill
    break_even_load: float
    weeks: Sequence[risk.WeekOutcome]
    check: risk.UtilizationCheck | None

    @property
    def plan_id(self) -> str:
        """Identifier of the purchase: equal for equal units, terms and prices."""
        unit, held = self.named.unit, self.purchase.held
        terms = {name: (self.terms[name].term_h, self.terms[name].usd_per_unit_hour) for name in held}
        return purchase_id(self.named.name, (unit.system, unit.unit, unit.sku), held, terms)

    @property
    def usd_per_month(self) -> float:
        return self.purchase.usd_per_hour(self.load) * MONTH_H

    @property
    def pay_as_you_go(self) -> float:
        """Cost without any unit. USD per month."""
        return self.load.pay_as_you_go * MONTH_H

    @property
    def recording(self) -> Citation:
        return Citation(Basis.MEASURED, self.samples.origin)


def require_week(samples: TokenSamples, *, allow_short: bool) -> None:
    """Raise `ConfigError` for less than a week of observations, unless that is allowed."""
    if allow_short or (samples.span_h >= WEEK_HOURS and samples.hours_seen >= MIN_HOURS_SEEN):
        return
    rule = (
        f"{samples.seen_h:,.1f} h of tokens in {samples.span_h / 24:,.1f} days cover {samples.hours_seen} of the"
        f" {WEEK_HOURS} hours of a week; a plan needs 7 days and {MIN_HOURS_SEEN} of these hours"
    )
    raise ConfigError([Problem(COMMAND_LINE, 1, "", "", rule, "observe a week, or accept the risk with --allow-short")])


def plan(samples: TokenSamples, named: NamedOffer, fall: float = FALL) -> ThroughputPlan:
    """Return the plan of an offer. Raises `ConfigError` if the sizes are too many to compare."""

    def load_of(observed: TokenSamples) -> UnitLoad:
        return unit_load(observed, named.unit, named.offer.pay_as_you_go)

    def bought(load: UnitLoad, withstand: float = fall) -> UnitPurchase:
        return buy(load, terms, _sizes(load, named), withstand)

    load = load_of(samples)
    terms = {name: TermPrice(term.term_h, term.usd_per_unit_hour) for name, term in named.offer.terms.items()}
    purchase = bought(load)
    return ThroughputPlan(
        named=named,
        samples=samples,
        load=load,
        sizes=_sizes(load, named),
        terms=terms,
        purchase=purchase,
        fall=fall,
        by_term=[_term_plan(name, price, load, named, fall) for name, price in terms.items()],
        changes=[_changed(purchase, load, factor) for factor in dict.fromkeys((1.0 - fall, 1.0, 1.0 + fall))],
        spill=risk.spill(samples, load, purchase.units),
        break_even_load=break_even_load(purchase, load),
        weeks=risk.weeks(samples, load_of, bought, lambda one: bought(one, 0.0)),
        check=risk.check_units(samples, load.units, named.offer.held_units),
    )


def _sizes(load: UnitLoad, named: NamedOffer) -> Floats:
    unit = named.unit
    if load.peak / unit.step_units > MAX_SIZES:
        rule = f"is too small: the peak of {load.peak:,.0f} units has more than {MAX_SIZES:,} sizes"
        problem = named.problem("step_units", rule, "raise it, or check the tokens", unit.step_units)
        raise ConfigError([problem])
    return sizes(load.peak, unit.min_units, unit.step_units, unit.max_units)


def _term_plan(name: str, price: TermPrice, load: UnitLoad, named: NamedOffer, fall: float) -> TermPlan:
    alone = buy(load, {name: price}, _sizes(load, named), fall)
    use = break_even_use(load, price.usd_per_unit_hour)
    return TermPlan(name, price, alone.units, alone.usd_per_hour(load) * MONTH_H, use)


def _changed(purchase: UnitPurchase, load: UnitLoad, factor: float) -> LoadChange:
    scaled = load.scaled(factor)
    spilled = scaled.spilled_share(float(purchase.units))
    return LoadChange(factor, purchase.usd_per_hour(scaled) * MONTH_H, scaled.pay_as_you_go * MONTH_H, spilled)


def cautions(result: ThroughputPlan) -> Iterator[str]:
    """Yield the limits of the plan."""
    samples = result.samples
    unseen = WEEK_HOURS - samples.hours_seen
    if unseen:
        yield (
            f"{unseen} of the {WEEK_HOURS} hours of the week were not observed. They are unknown, not 0: the plan"
            " assumes the mean of the observed hours"
        )
    if samples.span_h < 2 * WEEK_HOURS:
        yield "less than two weeks were observed, so no week tests a plan of the week before it"
    longest_s = float(samples.seconds.max())
    if longest_s > MINUTE_S:
        yield (
            f"samples of up to {longest_s:,.0f} s hide the peaks within them, but a unit's limit applies to each"
            " minute: the spilled share is a lower bound"
        )
    if samples.cached is None:
        yield "cached prompt tokens are not given: all prompt tokens count as uncached"
    if result.check is None:
        yield "the table of units was not compared with an observed utilization"
    elif result.check.differs:
        yield "the table of units differs from the observed utilization: correct it before you buy"
    if not result.named.offer.checked:
        yield "the prices have no date (checked): confirm them before you buy"
    yield f"a month is {MONTH_H:g} hours like the observed ones; growth is not in the figures"


def as_dict(result: ThroughputPlan) -> dict[str, Any]:
    """Return the plan as plain data."""
    samples, unit = result.samples, result.named.unit
    return {
        "plan_id": result.plan_id,
        "offer": result.named.name,
        "unit": {name: value for name, value in dataclasses.asdict(unit).items() if name != "sources"},
        "hold": {"units": result.purchase.units, "terms": dict(result.purchase.held)},
        "usd_per_month": result.usd_per_month,
        "pay_as_you_go_usd_per_month": result.pay_as_you_go,
        "fall": result.fall,
        "break_even_load": result.break_even_load,
        "terms": [{**dataclasses.asdict(t), "commitment_usd": t.commitment_usd} for t in result.by_term],
        "load_changes": [dataclasses.asdict(change) for change in result.changes],
        "spill": {**dataclasses.asdict(result.spill), "quantiles": list(risk.QUANTILES)},
        "weeks": [dataclasses.asdict(week) for week in result.weeks],
        "utilization_check": None if result.check is None else dataclasses.asdict(result.check),
        "observed": {
            "hours": samples.seen_h,
            "span_h": samples.span_h,
            "hours_of_week_seen": samples.hours_seen,
            "units_peak": result.load.peak,
            "units_mean": result.load.mean,
            "tokens_per_minute_by_hour_of_week": samples.mean_by_hour(samples.tokens).tolist(),
            "units_by_hour_of_week": samples.mean_by_hour(result.load.units).tolist(),
        },
        "sources": [{"basis": str(s.basis), "where": s.where} for s in sources(result)],
        "cautions": list(cautions(result)),
    }


def sources(result: ThroughputPlan) -> tuple[Citation, ...]:
    """Return the sources of the plan: the observation, the units and the prices."""
    return (result.recording, *result.named.unit.sources, *result.named.sources)
