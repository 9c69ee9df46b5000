"""The load-duration curve: for what share of the time so many replicas were held, or needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.reporting.time_bins import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """`shares[k]` is the share of the time seen in which replica k + 1 was held, counted from the bottom.

    The shares fall. A part of a replica counts as a part. `seen_h` is how long was seen, in hours.
    """

    shares: Floats
    seen_h: float

    @property
    def mean(self) -> float:
        """Replicas held in the mean."""
        return float(self.shares.sum())

    @property
    def most(self) -> int:
        return len(self.shares)

    def held_at_least(self, share: float) -> int:
        """How many replicas are held for more than this share of the time."""
        return int((self.shares > share).sum())

    def stretched(self, factor: float) -> Curve:
        """Return the curve of a load that is `factor` times as large at every moment, as if replicas were divisible."""
        edges = np.concatenate(([0.0], np.cumsum(self.shares)))
        levels = np.arange(self.most + 1) * factor
        area = np.interp(np.arange(int(np.ceil(self.most * factor - 1e-9)) + 1), levels, edges * factor)
        return Curve(np.diff(area), self.seen_h)


def curve(replicas: Floats, over_s: Floats) -> Curve:
    """Return the curve of `replicas`, each held for `over_s`. What is NaN was not seen, and does not count as 0."""
    seen = np.isfinite(replicas)
    held, time_s = replicas[seen], over_s[seen]
    total_s = float(time_s.sum())
    if not total_s:
        return Curve(np.zeros(0), 0.0)
    layers = np.arange(int(np.ceil(held.max() - 1e-9)))
    parts = np.clip(held[:, None] - layers[None, :], 0.0, 1.0) if len(layers) else np.zeros((len(held), 0))
    return Curve((parts * time_s[:, None]).sum(axis=0) / total_s, total_s / 3600.0)
