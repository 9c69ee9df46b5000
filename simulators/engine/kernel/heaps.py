"""The two orders the kernel keeps: a tree of minima over the replicas, and a heap of last steps within one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel.jit import inlined

SLOT_BITS = 30
"""A heap's key is the step in its upper bits and the request's slot in so many lower ones."""


@inlined
def set_leaf(tree: NDArray[np.int64], leaf: int, value: int) -> None:
    """Change one leaf of a tree of minima (the root stands at 1, the leaves in the second half)."""
    node = (tree.shape[0] >> 1) + leaf
    tree[node] = value
    while node > 1:
        least = min(tree[node], tree[node ^ 1])
        node >>= 1
        if tree[node] == least:
            break
        tree[node] = least


@inlined
def least_leaf(tree: NDArray[np.int64]) -> int:
    """Return the leaf with the least value, the lowest among equals."""
    leaves = tree.shape[0] >> 1
    least = tree[1]
    node = 1
    while node < leaves:
        node <<= 1
        if tree[node] != least:
            node += 1
    return node - leaves


@inlined
def push(heap: NDArray[np.int64], size: int, key: int) -> None:
    """Add a key to a binary heap of `size` keys."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent] <= key:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = key


@inlined
def remove(heap: NDArray[np.int64], size: int, at: int) -> None:
    """Take the key at place `at` out of a binary heap of `size` keys."""
    last = size - 1
    key = heap[last]
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        if child + 1 < last and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
    if at < last:
        push(heap, at, key)
