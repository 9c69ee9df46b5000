"""Price of the largest jump of the request rate within one start-up, and of the room for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import Figure, Gap, Section, sources, usd
from simulators.reporting.time_bins import Floats

TITLE: Final = "Cost of bursts"
DAY_H: Final = 24.0
BIN_S: Final = 60.0
"""Requests are counted over this time: a burst of seconds waits in the engines, and does not need a replica."""
MIN_REQUESTS: Final = 30.0
"""A jump from fewer requests per minute counts as one from these: fewer vary by a fifth and more by chance."""
NOTABLE: Final = 1.5
"""The smallest jump to report. Counts of 30 requests differ by as much by chance."""

SAME_JUMP: Final = 0.9
"""Minutes with this share of the largest ratio see the same jump; the one with most late requests counts."""


@dataclass(frozen=True, slots=True)
class Jump:
    """The largest rise of the request rate within one start-up.

    - `at_s`: the end of the minute before the rise, in seconds since the first request's trace began.
    - `ratio`: the requests of the busiest minute within a start-up over those of the minute before: 3.0 for 400 and
      then 1,200.
    - `late_share`: the share of all requests that arrived while the rate exceeded the one before. They are late if no
      replica is to spare.
    """

    at_s: float
    ratio: float
    late_share: float


def largest_jump(arrival_s: Floats, lead_s: float) -> Jump | None:
    """Return the largest jump within `lead_s` seconds; None for less than two minutes.

    `arrival_s` has the arrivals in seconds, in order.
    """
    minutes = int(arrival_s[-1] // BIN_S) + 1 if len(arrival_s) else 0
    if minutes < 2:
        return None
    counts = np.bincount((arrival_s // BIN_S).astype(np.int64), minlength=minutes).astype(np.float64)
    ahead = min(math.ceil(lead_s / BIN_S), minutes - 1)
    later = np.lib.stride_tricks.sliding_window_view(np.append(counts[1:], np.zeros(ahead - 1)), ahead)
    before = np.maximum(counts[:-1], MIN_REQUESTS)
    ratios = later.max(axis=1) / before
    late = np.where((later > before[:, None]) & (ratios >= SAME_JUMP * ratios.max())[:, None], later, 0.0).sum(axis=1)
    first = int(np.argmax(late))
    return Jump(BIN_S * (first + 1), float(ratios[first]), float(late[first] / counts.sum()))


def section(evidence: WorkloadEvidence) -> Section:
    """Return what the largest jump costs: late requests without room, money with it."""
    requests, lead, price = evidence.requests, evidence.offer.lead_time_s, evidence.replica_hour
    if requests is None:
        return _unknown(Gap("cost of bursts", evidence.missing_reason, "record or give the requests"))
    if lead is None:
        return _unknown(
            Gap("cost of bursts", "the time until a replica serves is unknown", "set the offer's lead_time_s")
        )
    jump = largest_jump(requests.trace.arrival_s, lead.value)
    if jump is None or jump.ratio < NOTABLE:
        text = f"The rate never rose by half within a start-up of {lead.value:.0f} s."
        return Section("bursts", TITLE, (text,))
    known = sources(lead, *requests.sources)
    within = f"within {lead.value:.0f} s after {jump.at_s:,.0f} s"
    share = f"requests of the minutes above the rate before, {within} / all requests"
    figures = [
        Figure("jump", "largest jump of the request rate within one start-up", jump.ratio, "x",
               f"requests of the busiest minute {within} / those of the minute before", known),
        Figure("late_share", "late requests of this jump without room, at most", 100.0 * jump.late_share, "%", share,
               known),
    ]  # fmt: skip
    costs = f"A {jump.ratio:.1f} x jump within one start-up costs up to {jump.late_share:.2%} late requests"
    if price is None:
        gap = Gap("cost of room for this jump", "no price is known", f"set a price of offer {evidence.runs_on}")
        return Section("bursts", TITLE, (f"{costs}.",), tuple(figures), (gap,))
    demand = evidence.needed_curve.mean
    value = DAY_H * (jump.ratio - 1.0) * demand * price.value
    formula = f"{DAY_H:g} h x {jump.ratio - 1.0:.2f} x {demand:.3f} replicas of demand x {price.value:.4g} USD/h"
    room = sources(price, lead, *requests.sources, evidence.recording)
    figures.append(Figure("room_usd", "room for this jump at any time", value, "USD/day", formula, room))
    finding = f"{costs}; keeping room for it costs {usd(value)} a day (slo.surge: {jump.ratio:.1f})."
    return Section("bursts", TITLE, (finding,), tuple(figures))


def _unknown(gap: Gap) -> Section:
    return Section("bursts", TITLE, ("No figure is known.",), gaps=(gap,))
