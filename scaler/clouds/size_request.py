"""A requested size, followed until the platform provides or refuses it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SizeRequest:
    """The last size that this process requested, until the platform provides or refuses it.

    `accepted`: the platform confirmed it, in the response or in a later read. `seen`: an update was seen in progress.
    """

    before: int
    replicas: int
    at: float
    accepted: bool = False
    seen: bool = False
