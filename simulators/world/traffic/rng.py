"""Streams of chance, one a cause, told apart by name: what one cause draws never moves what another draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

RngFor: TypeAlias = Callable[[str], np.random.Generator]
"""The stream of a name, from its beginning: the same name gives the same numbers, whoever asks and whenever."""


def streams(seed: int) -> RngFor:
    """The streams of a seed.

    Philox is counter-based: a stream needs no state but its 128-bit key, taken from SHA-256 over seed and name, so that
    it is the same on any machine (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
    """

    def rng_for(name: str) -> np.random.Generator:
        key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))

    return rng_for


def within(rng_for: RngFor, place: str) -> RngFor:
    """The streams below `place`, for a part that names its own causes."""
    return lambda name: rng_for(f"{place}/{name}")
