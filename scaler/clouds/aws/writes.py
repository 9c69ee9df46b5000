"""Writes of sizes on AWS: idempotency tokens for lost answers, and the bounds that AWS itself keeps."""

from __future__ import annotations

from uuid import uuid4

from scaler.ports import Misconfigured


class IdempotencyTokens:
    """Tokens of writes: one whose answer was lost is repeated under the same token, any other has a new one."""

    def __init__(self) -> None:
        self._lost: dict[tuple[int, object], str] = {}

    def of(self, present: int, write: object) -> str:
        """Return the token of a write that finds the size `present`.

        It counts as lost until `answered`.
        """
        return self._lost.setdefault((present, write), f"forescale-{uuid4().hex}")

    def answered(self, present: int, write: object) -> None:
        """Forget the token of a write that was accepted or refused."""
        self._lost.pop((present, write), None)

    def keep_only(self, present: int) -> None:
        """Forget the tokens of writes that were to change another size than `present`.

        Those are over.
        """
        self._lost = {key: token for key, token in self._lost.items() if key[0] == present}


def require_within(what: str, replicas: int, least: int, most: int, keys: str) -> None:
    """Raise `Misconfigured` where AWS would refuse the size.

    `keys` names the bounds as AWS does.
    """
    if not least <= replicas <= most:
        raise Misconfigured(
            f"{what} cannot be {replicas}: its {keys} are {least} and {most}. Change them, or the pool's min_replicas"
            " and max_replicas"
        )
