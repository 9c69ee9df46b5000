"""Identifiers of purchases of provisioned throughput, and of plans that a person approves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

ID_DIGITS: Final = 12
DAY_H: Final = 24.0
COMMITMENTS: Final = ((672.0, 744.0, "OneMonth"), (4320.0, 4416.0, "SixMonths"))
"""Bedrock's commitments: the shortest and longest term in hours that stand for each."""


def purchase_id(
    offer: str, unit: Sequence[str], held: Mapping[str, int], terms: Mapping[str, tuple[float, float]]
) -> str:
    """Return the identifier of a purchase: equal for equal units, terms and prices.

    `unit` is its system, name and SKU; `held` the units of each term; `terms` the hours and the USD per unit and hour
    of each.
    """
    parts = {"offer": offer, "unit": list(unit), "held": dict(held), "terms": dict(terms)}
    return _digest(parts)


def pool_plan_id(purchase: str, place: Mapping[str, str | Sequence[str]]) -> str:
    """Return the identifier of a purchase by one pool: equal for equal purchases and places.

    `place` names the pool, the account and the model.
    """
    return _digest({"purchase": purchase, "place": dict(place)})


def _digest(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:ID_DIGITS]


def bedrock_commitment(term_h: float) -> str | None:
    """Return Bedrock's commitment for a term.

    It is empty for no commitment, and None for a term that Bedrock does not have. 730 hours are OneMonth; an hour is no
    commitment.
    """
    if term_h <= DAY_H:
        return ""
    return next((name for low, high, name in COMMITMENTS if low <= term_h <= high), None)
