"""A tree of minima over all replicas, and a heap of last steps within each replica.

Both are priority structures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel.jit import inlined

SLOT_BITS = 30
"""A heap key holds a step in its upper bits and a request's slot in these bits: step 12, slot 5 is 12 * 2**30 + 5."""
SLOT_MASK = (1 << SLOT_BITS) - 1


@inlined
def set_leaf(tree: NDArray[np.int64], leaf: int, value: int) -> None:
    """Change one leaf of a tree of minima.

    Node 1 is the root, the children of node n are 2n and 2n + 1, and the leaves fill the second half. The leaves
    5, 3, 9, 3 make the array ``[-, 3, 3, 3, 5, 3, 9, 3]``; entry 0 is unused.
    """
    node = (tree.shape[0] >> 1) + leaf
    tree[node] = value
    while node > 1:
        minimum = min(tree[node], tree[node ^ 1])
        node >>= 1
        if tree[node] == minimum:
            break
        tree[node] = minimum


@inlined
def min_leaf(tree: NDArray[np.int64]) -> int:
    """Return the number of the leaf with the minimum value.

    It is the lowest number among equals: 1 for 5, 3, 9, 3.
    """
    leaves = tree.shape[0] >> 1
    minimum = tree[1]
    node = 1
    while node < leaves:
        node <<= 1
        if tree[node] != minimum:
            node += 1
    return node - leaves


@inlined
def push(heap: NDArray[np.int64], size: int, key: int) -> None:
    """Add a key to a binary heap of `size` keys."""
    node = size
    while node > 0:
        parent = (node - 1) >> 1
        if heap[parent] <= key:
            break
        heap[node] = heap[parent]
        node = parent
    heap[node] = key


@inlined
def remove(heap: NDArray[np.int64], size: int, node: int) -> None:
    """Remove the key at index `node` from a binary heap of `size` keys."""
    last = size - 1
    key = heap[last]
    while True:
        child = 2 * node + 1
        if child >= last:
            break
        if child + 1 < last and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[node] = heap[child]
        node = child
    if node < last:
        push(heap, node, key)
