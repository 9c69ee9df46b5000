"""Writes of sizes on AWS: idempotency tokens, and AWS's own bounds of a size.

A token makes a write with a lost response safe to repeat.
"""

from __future__ import annotations

from uuid import uuid4

from scaler.ports import Misconfigured


class IdempotencyTokens:
    """Tokens of writes.

    A write whose response was lost is repeated under its token. Any other write gets a new token.
    """

    def __init__(self) -> None:
        self._lost: dict[tuple[int, object], str] = {}

    def token_for(self, present: int, write: object) -> str:
        """Return the token of a write at the size `present`.

        Its response counts as lost until `discard`.
        """
        return self._lost.setdefault((present, write), f"forescale-{uuid4().hex}")

    def discard(self, present: int, write: object) -> None:
        """Drop the token of a write that was accepted or refused."""
        self._lost.pop((present, write), None)

    def keep_only(self, present: int) -> None:
        """Drop the tokens of writes at another size than `present`: those writes are over."""
        self._lost = {key: token for key, token in self._lost.items() if key[0] == present}


def require_within(what: str, replicas: int, minimum: int, maximum: int, keys: str) -> None:
    """Raise `Misconfigured` where AWS would refuse the size.

    `keys` names the bounds as AWS does.
    """
    if not minimum <= replicas <= maximum:
        raise Misconfigured(
            f"{what} does not accept {replicas} replicas: its {keys} are {minimum} and {maximum}. Change them, or the"
            " pool's min_replicas and max_replicas"
        )
