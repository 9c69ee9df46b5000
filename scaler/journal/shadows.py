"""Turns of shadows to plain data and back. A record of theirs is a tick's under another type, with the sizes compared.

Readers that know no shadows pass these records over, and so does all that looks for ticks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scaler.counterfactual import ShadowTurn, Side
from scaler.journal.codec import decode_tick, encode_tick

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
    """Raises `KeyError`, `TypeError` or `ValueError` on anything that `encode_shadow` did not write."""
    against = data["against"]
    return ShadowTurn(
        decode_tick(data),
        _decode_side(against["first"]),
        _decode_side(against["shadow"]),
        float(against["over_s"]),
        bool(against["open_loop"]),
        str(against["told_by"]),
    )


def _encode_side(side: Side) -> dict[str, Any]:
    """What is not known is left out."""
    known = {"usd_per_hour": side.usd_per_hour, "late": side.late}
    return {"asked": side.asked, "serving": side.serving, **{k: v for k, v in known.items() if v is not None}}


def _decode_side(data: Mapping[str, Any]) -> Side:
    return Side(int(data["asked"]), float(data["serving"]), data.get("usd_per_hour"), data.get("late"))
