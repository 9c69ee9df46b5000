"""Types of the names of workloads, pools, policies and signals."""

from __future__ import annotations

from typing import Final, NewType

WorkloadName = NewType("WorkloadName", str)
PoolName = NewType("PoolName", str)
PolicyName = NewType("PolicyName", str)
SignalName = NewType("SignalName", str)
"""``source.quantity``, as in ``queue.visible``."""
RATE_WINDOW: Final = "rate_window_s"
"""Quantity with the window of a source's rates, where the source chooses it by the scrapes that it sees. Seconds."""
