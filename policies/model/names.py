"""Types of the names of workloads, pools, policies and signals."""

from __future__ import annotations

from typing import NewType

WorkloadName = NewType("WorkloadName", str)
PoolName = NewType("PoolName", str)
PolicyName = NewType("PolicyName", str)
SignalName = NewType("SignalName", str)
"""``source.quantity``, as in ``queue.visible``."""
