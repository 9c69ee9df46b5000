"""Shares of providers: the preferred ones first, within budgets and rate limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from policies.model.names import BackendName
from policies.model.route_spec import Overflow, Provider, Route
from policies.route.demand import INPUT_TOKENS, OUTPUT_TOKENS
from policies.route.ejection import BackendHealth

FILL: Final = 0.9
"""Share of a budget or rate limit to use: the rate of requests changes before the next tick."""
ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class ProviderOffer:
    """A provider that may take requests, with the price and tokens of one.

    `factor` is that of its ejection and slow start. A late provider may take more where no other one can: a late
    response is better than pools with more requests than they can carry.
    """

    name: BackendName
    provider: Provider
    usd_per_request: float
    tokens_per_request: float
    factor: float
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Market:
    """The providers that may take requests, the preferred ones first.

    `requests_per_s` is the rate of requests to the whole route.
    """

    overflow: Overflow
    requests_per_s: float
    offers: tuple[ProviderOffer, ...]

    def shares(self, wanted: float, fill: float = FILL) -> dict[BackendName, float]:
        """Return the share of each provider for a `wanted` share of all requests.

        Example: 40 % of 10 requests per second at 0.001 USD cost 14.4 USD per hour. A budget of 10 allows 27.8 %, of
        which 25 % are used.
        """
        usd, tokens = self._limit(self.overflow.max_usd_per_hour, 3600.0), self._limit(self._max_tokens, 60.0)
        usd, tokens, left = usd * fill, tokens * fill, wanted
        shares: dict[BackendName, float] = dict.fromkeys((offer.name for offer in self.offers), 0.0)
        last_resort = ((offer, 1.0) for offer in self.offers if offer.is_late)
        for offer, factor in (*((offer, offer.factor) for offer in self.offers), *last_resort):
            limits = (
                _ratio(usd, offer.usd_per_request),
                _ratio(tokens, offer.tokens_per_request),
                fill * self._own_limit(offer) - shares[offer.name],
            )
            share = max(0.0, min(left, factor - shares[offer.name], *limits))
            shares[offer.name] += share
            left -= share
            usd -= share * offer.usd_per_request
            tokens -= share * offer.tokens_per_request
        return shares

    def excess(self, applied: Mapping[BackendName, float]) -> str:
        """Return the limit that the applied shares exceed; empty for none."""
        offers = {offer.name: offer for offer in self.offers}
        used = [(offers[name], share) for name, share in applied.items() if name in offers]
        usd = sum(share * offer.usd_per_request for offer, share in used)
        tokens = sum(share * offer.tokens_per_request for offer, share in used)
        if usd > self._limit(self.overflow.max_usd_per_hour, 3600.0) + ROUNDING:
            return "the budget of max_usd_per_hour is used up"
        if tokens > self._limit(self._max_tokens, 60.0) + ROUNDING:
            return "the limit of max_tokens_per_min is reached"
        full = (offer.name for offer, share in used if share > self._own_limit(offer) + ROUNDING)
        return next((f"the rate limit of {name} is reached" for name in full), "")

    def usd_per_hour(self, shares: Mapping[BackendName, float]) -> float:
        """Return the cost of the shares."""
        per_request = sum(shares.get(offer.name, 0.0) * offer.usd_per_request for offer in self.offers)
        return per_request * self.requests_per_s * 3600.0

    @property
    def _max_tokens(self) -> float | None:
        return self.overflow.max_tokens_per_min

    def _limit(self, maximum: float | None, period_s: float) -> float:
        """Return a limit over a period as a mean per request of the whole route."""
        return math.inf if maximum is None else _ratio(maximum, self.requests_per_s * period_s)

    def _own_limit(self, offer: ProviderOffer) -> float:
        """Return the share that the rate limits of a provider allow."""
        tokens = _ratio(self._limit(offer.provider.max_tokens_per_min, 60.0), offer.tokens_per_request)
        return min(self._limit(offer.provider.max_requests_per_min, 60.0), tokens)


def _ratio(amount: float, per_unit: float) -> float:
    return amount / per_unit if per_unit > 0.0 else math.inf


def market_of(
    route: Route,
    requests_per_s: float,
    tokens: Mapping[str, float],
    health: Mapping[BackendName, BackendHealth],
    ranks: Mapping[BackendName, int],
) -> Market:
    """Return the providers that may take requests now, by rank, and of one rank by price.

    None may without permission, budget and known cost.
    """
    offers = sorted(_offers(route, tokens, health), key=lambda o: (ranks.get(o.name, 0), o.usd_per_request))
    return Market(route.overflow, requests_per_s, tuple(offers))


def _offers(
    route: Route, tokens: Mapping[str, float], health: Mapping[BackendName, BackendHealth]
) -> Iterator[ProviderOffer]:
    if not may_overflow(route):
        return
    providers = route.providers
    for name, usd in usd_per_request(route, tokens).items():
        factor, is_late = health[name].factor(route), bool(health[name].late)
        if factor > 0.0 or is_late:
            per_request = tokens[INPUT_TOKENS] + tokens[OUTPUT_TOKENS]
            yield ProviderOffer(name, providers[name], usd, per_request, factor, is_late)


def usd_per_request(route: Route, tokens: Mapping[str, float]) -> dict[BackendName, float]:
    """Return the price of a request to each provider; empty while its tokens are not known."""
    if not tokens.keys() >= {INPUT_TOKENS, OUTPUT_TOKENS}:
        return {}
    prompt, generated = tokens[INPUT_TOKENS], tokens[OUTPUT_TOKENS]
    return {
        name: (p.usd_per_million_input_tokens * prompt + p.usd_per_million_output_tokens * generated) / 1e6
        for name, p in route.providers.items()
    }


def may_overflow(route: Route) -> bool:
    """Return whether a provider may take requests at all."""
    return route.max_external_usd_per_hour > 0.0
