"""Encodes and decodes the ticks of shadows.

A record is that of a tick with another type, and the compared sizes.

Readers of ticks skip these records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.model.names import RouteName
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.fields import flag, integer, number, optional, text
from scaler.journal.route_codec import decode_weights
from scaler.shadow.counterfactual import ComparedSide, ShadowTick

TYPE: Final = "shadow"
EARLIER_NAMES: Final = {"requested": "asked", "estimated_by": "told_by"}
"""Names of fields in records of schema 2 that were written before these fields were renamed."""


def encode_shadow(shadow_tick: ShadowTick) -> dict[str, Any]:
    return {
        **encode_tick(shadow_tick.tick),
        "type": TYPE,
        "against": {
            "first": _encode_side(shadow_tick.first),
            "shadow": _encode_side(shadow_tick.shadow),
            "over_s": shadow_tick.interval_s,
            "open_loop": shadow_tick.open_loop,
            "estimated_by": shadow_tick.estimated_by,
        },
    }


def decode_shadow(data: Mapping[str, Any]) -> ShadowTick:
    """Return the tick of a shadow's record.

    Raises one of `fields.DAMAGED` on anything that `encode_shadow` could not have written.
    """
    against = data["against"]
    return ShadowTick(
        decode_tick(data),
        _decode_side(against["first"]),
        _decode_side(against["shadow"]),
        float(number(against["over_s"])),
        flag(against["open_loop"]),
        text(_field(against, "estimated_by")),
    )


def _encode_side(side: ComparedSide) -> dict[str, Any]:
    """Return the record of a side without its unknown values."""
    known = {"usd_per_hour": side.usd_per_hour, "late": side.late}
    if side.splits:
        known["api_usd_per_hour"] = side.api_usd_per_hour
    splits = {"splits": {name: dict(weights) for name, weights in side.splits.items()}} if side.splits else {}
    return {
        "requested": side.requested,
        "serving": side.serving,
        **{k: v for k, v in known.items() if v is not None},
        **splits,
    }


def _decode_side(data: Mapping[str, Any]) -> ComparedSide:
    price, late = (optional(number, data.get(key)) for key in ("usd_per_hour", "late"))
    requested, serving = integer(_field(data, "requested")), float(number(data["serving"]))
    if "splits" not in data:
        return ComparedSide(requested, serving, price, late)
    splits = {RouteName(name): decode_weights(weights) for name, weights in data["splits"].items()}
    return ComparedSide(requested, serving, price, late, splits, optional(number, data.get("api_usd_per_hour")))


def _field(data: Mapping[str, Any], name: str) -> object:
    """Return a field by its name or its earlier name. Raises `KeyError` where both are missing."""
    return data[name] if name in data else data[EARLIER_NAMES[name]]
