"""Chance by name: what happens to the n-th node of a pool is the same whatever a policy did before it came.

Common random numbers (Law, Simulation Modeling and Analysis, ch. 11): one stream for each purpose and entity, from a
counter-based generator, so that two policies under one seed meet the same start-up times, lives and notices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

ROWS: Final = 64
"""Rows drawn at once: a generator costs 20 microseconds, a row of a block less than 1."""

Law = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def stream(seed: int, purpose: str, entity: str, number: int = 0) -> np.random.Generator:
    """The generator of one purpose for one entity. `number` is below 2**32."""
    key = (crc32(purpose.encode()), crc32(entity.encode()), number)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


class Draws:
    """A table of independent draws without end: row n belongs to node n, whenever and in whatever order it is read."""

    def __init__(self, seed: int, purpose: str, entity: str, columns: int, law: Law) -> None:
        def block(number: int) -> list[list[float]]:
            rows: list[list[float]] = law(stream(seed, purpose, entity, number), (ROWS, columns)).tolist()
            return rows

        self._block = lru_cache(maxsize=256)(block)

    def row(self, n: int) -> list[float]:
        """The draws of node n."""
        return self._block(n // ROWS)[n % ROWS]


def normals(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Standard normals."""
    return rng.standard_normal(shape)


def uniforms(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Uniform in [0, 1)."""
    return rng.random(shape)
