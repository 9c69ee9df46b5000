"""Named random streams: a draw for one purpose never changes a draw for another.

Common random numbers (Law, Simulation Modeling and Analysis, 5th ed., ch. 11): the n-th node of a pool gets the same
start-up time, life and notices under every policy with the same seed. Philox is counter-based: a stream needs no state
but its key (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11), and is the same on every machine.

There are two derivations, because seeded results depend on both and must not change:

- `streams` takes the Philox key from SHA-256 of ``seed/name``. Traffic and other parts with nested names use it.
- `stream` spawns a `SeedSequence` by (purpose, entity, number). Nodes, zones and faults use it: `Draws` counts its
  blocks by `number`.

New code uses `streams`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

ROWS: Final = 64
"""Rows of a block. To create a generator costs 20 microseconds, a row of a block less than 1."""
RngFor: TypeAlias = Callable[[str], np.random.Generator]
"""Function that returns the stream of a name from its beginning: the same name gives the same numbers."""
Distribution = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def streams(seed: int) -> RngFor:
    """Return the named streams of a seed: each key is 128 bits of SHA-256 over seed and name."""

    def rng_for(name: str) -> np.random.Generator:
        key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))

    return rng_for


def within(rng_for: RngFor, prefix: str) -> RngFor:
    """Return the streams of ``prefix/name``, for a part that names its own purposes."""
    return lambda name: rng_for(f"{prefix}/{name}")


def derived_seed(seed: int, *names: object) -> int:
    """Return a seed below 2**56 for one of several parts that share a seed."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def stream(seed: int, purpose: str, entity: str, number: int = 0) -> np.random.Generator:
    """Return the stream of one purpose for one entity.

    `number`, below 2**32, counts blocks of draws.
    """
    key = (crc32(purpose.encode()), crc32(entity.encode()), number)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


class Draws:
    """An unbounded table of independent draws.

    Row n belongs to node n, in whatever order rows are read.

    Row 130 is row 2 of block 2 (130 = 2 * 64 + 2).
    """

    def __init__(self, seed: int, purpose: str, entity: str, columns: int, distribution: Distribution) -> None:
        def block(number: int) -> list[list[float]]:
            rows: list[list[float]] = distribution(stream(seed, purpose, entity, number), (ROWS, columns)).tolist()
            return rows

        self._block = lru_cache(maxsize=256)(block)

    def row(self, n: int) -> list[float]:
        """Return the draws of node n."""
        return self._block(n // ROWS)[n % ROWS]


def normals(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return standard normals."""
    return rng.standard_normal(shape)


def uniforms(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return numbers uniform in [0, 1)."""
    return rng.random(shape)
