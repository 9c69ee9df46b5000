"""Random bits that are the same on every machine: a hash from integers to integers."""

from __future__ import annotations

import numpy as np

from simulators.engine.kernel.jit import inlined

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
SECOND_FACTOR = np.uint64(0x94D049BB133111EB)
S27, S30, S31, S54 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(54)


@inlined
def splitmix64(number: int) -> np.uint64:
    """Return 64 mixed bits of a number.

    Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
    """
    z = np.uint64(number) + GOLDEN
    z = (z ^ (z >> S30)) * FIRST_FACTOR
    z = (z ^ (z >> S27)) * SECOND_FACTOR
    return z ^ (z >> S31)
