"""The splits of a shadow's routes, compared with those that the gateway applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from policies.model import Tick
from policies.model.names import BackendName, RouteName
from policies.model.route import share_of

Splits: TypeAlias = Mapping[RouteName, Mapping[BackendName, int]]
"""The weights of each route; empty for a route that rejects requests."""


class ComparedSplits(NamedTuple):
    """The splits of one policy, and the cost of its requests to providers.

    The cost is None where it is not known.
    """

    splits: Splits
    api_usd_per_hour: float | None


def decided_splits(tick: Tick) -> ComparedSplits:
    """Return the splits that a tick decided."""
    routes = tick.decision.routes
    return ComparedSplits({name: split.weights for name, split in routes.items()}, _api_usd_per_hour(tick))


def live_splits(tick: Tick) -> ComparedSplits:
    """Return the splits that gateways apply after a live tick.

    In a dry run, they are those that it decided.
    """
    splits = dict(decided_splits(tick).splits)
    if not tick.dry_run:
        refused = (outcome for outcome in tick.route_outcomes if outcome.result.refused)
        splits |= {outcome.route: outcome.before for outcome in refused}
    return ComparedSplits(splits, _api_usd_per_hour(tick))


def _api_usd_per_hour(tick: Tick) -> float | None:
    prices = [split.usd_per_hour for split in tick.decision.routes.values()]
    return None if None in prices else sum(price for price in prices if price is not None)


def moved_share(live: Splits, shadow: Splits) -> float:
    """Return the share of the requests that a shadow sends to other backends.

    It is a mean of the routes. A route that rejects requests moves all of them. Example: 72 % and 28 % instead of 90 %
    and 10 % move 18 %.
    """
    moved = [_moved(live.get(name, {}), weights) for name, weights in shadow.items()]
    return sum(moved) / len(moved) if moved else 0.0


def _moved(live: Mapping[BackendName, int], shadow: Mapping[BackendName, int]) -> float:
    changes = [share_of(shadow, name) - share_of(live, name) for name in {**live, **shadow}]
    return max(sum(max(0.0, change) for change in changes), sum(max(0.0, -change) for change in changes))
