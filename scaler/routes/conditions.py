"""Conditions by which a gateway reports that it has applied a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scaler.ports import Misconfigured, Unavailable

CONFIRMED: Final = ("Accepted", "ResolvedRefs")


def check_parents(what: str, body: Mapping[str, Any]) -> list[str]:
    """Return the controllers that have accepted an HTTPRoute as it is.

    Raises `Unavailable` where none has, or one has not observed it yet, and `Misconfigured` where one refuses it.
    """
    parents: Sequence[Mapping[str, Any]] = (body.get("status") or {}).get("parents") or ()
    if not parents:
        remedy = "check spec.parentRefs, and that the gateway's controller runs"
        raise Unavailable(f"{what}: no gateway has accepted it yet (status.parents is empty); {remedy}")
    generation = int(body["metadata"]["generation"])
    for parent in parents:
        by = f"{parent['controllerName']} for {parent['parentRef']['name']}"
        conditions = {c["type"]: c for c in parent.get("conditions") or ()}
        for kind in CONFIRMED:
            check_condition(f"{what}: {by}", kind, conditions.get(kind, {}), generation)
    return [str(parent["controllerName"]) for parent in parents]


def check_condition(what: str, kind: str, condition: Mapping[str, Any], generation: int) -> None:
    """Check that a condition is true for a generation. Raises port errors."""
    observed = condition.get("observedGeneration", 0)
    if observed < generation:
        raise Unavailable(f"{what}: {kind} is reported for generation {observed}, and not for {generation} yet")
    if condition.get("status") != "True":
        raise Misconfigured(f"{what}: {kind} is {condition.get('status')}: {reason_of(condition)}")


def reason_of(condition: Mapping[str, Any]) -> str:
    """Return reason and message of a condition."""
    return f"{condition.get('reason')}: {condition.get('message')}"


def check_owner(what: str, body: Mapping[str, Any]) -> None:
    """Check that no controller generates an object. Raises `Misconfigured`."""
    for owner in body["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            remedy = "use kind ai_gateway_route" if owner["kind"] == "AIGatewayRoute" else "set the weights there"
            raise Misconfigured(
                f"{what}: {owner['kind']} {owner['name']} generates it and would revert each write; {remedy}"
            )
