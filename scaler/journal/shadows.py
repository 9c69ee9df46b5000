"""Turns of shadows to plain data and back. A record of theirs is a tick's under another type, with the sizes compared.

Readers that know no shadows pass these records over, and so does all that looks for ticks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.fields import flag, number, optional, text, whole
from scaler.shadow.counterfactual import ComparedSide, ShadowTurn

TYPE: Final = "shadow"


def encode_shadow(turn: ShadowTurn) -> dict[str, Any]:
    return {
        **encode_tick(turn.tick),
        "type": TYPE,
        "against": {
            "first": _encode_side(turn.first),
            "shadow": _encode_side(turn.shadow),
            "over_s": turn.over_s,
            "open_loop": turn.open_loop,
            "told_by": turn.told_by,
        },
    }


def decode_shadow(data: Mapping[str, Any]) -> ShadowTurn:
    """Raises one of `fields.DAMAGED` on anything that `encode_shadow` could not have written."""
    against = data["against"]
    return ShadowTurn(
        decode_tick(data),
        _decode_side(against["first"]),
        _decode_side(against["shadow"]),
        float(number(against["over_s"])),
        flag(against["open_loop"]),
        text(against["told_by"]),
    )


def _encode_side(side: ComparedSide) -> dict[str, Any]:
    """Return what is not known is left out."""
    known = {"usd_per_hour": side.usd_per_hour, "late": side.late}
    return {"asked": side.asked, "serving": side.serving, **{k: v for k, v in known.items() if v is not None}}


def _decode_side(data: Mapping[str, Any]) -> ComparedSide:
    price, late = (optional(number, data.get(key)) for key in ("usd_per_hour", "late"))
    return ComparedSide(whole(data["asked"]), float(number(data["serving"])), price, late)
