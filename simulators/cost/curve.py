"""The load-duration curve: the share of time for each number of replicas, held or needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.reporting.time_bins import Floats


@dataclass(frozen=True, slots=True, eq=False)
class LoadDurationCurve:
    """Load-duration curve: the share of time in which more than k replicas were held.

    `shares[k]` is this share of the observed time. 1 replica for 5 h, 3 for 1 h and 2 for 4 h give the shares 1.0, 0.5,
    0.1. Fractions of a replica count as fractions. `seen_h` is the observed time in hours.
    """

    shares: Floats
    seen_h: float

    @property
    def mean(self) -> float:
        """Mean number of replicas."""
        return float(self.shares.sum())

    @property
    def maximum(self) -> int:
        """Maximum number of replicas."""
        return len(self.shares)

    def held_above(self, share: float) -> int:
        """Return the number of replicas that are held for more than this share of the time."""
        return int((self.shares > share).sum())

    def scaled(self, factor: float) -> LoadDurationCurve:
        """Return the curve of a load that is `factor` times as large at all times.

        Replicas are divisible.
        """
        edges = np.concatenate(([0.0], np.cumsum(self.shares)))
        levels = np.arange(self.maximum + 1) * factor
        area = np.interp(np.arange(int(np.ceil(self.maximum * factor - 1e-9)) + 1), levels, edges * factor)
        return LoadDurationCurve(np.diff(area), self.seen_h)


def curve(replicas: Floats, over_s: Floats) -> LoadDurationCurve:
    """Return the curve of `replicas`, each held for `over_s`.

    NaN is unobserved time, which is left out.
    """
    known = np.isfinite(replicas)
    held, time_s = replicas[known], over_s[known]
    total_s = float(time_s.sum())
    if not total_s:
        return LoadDurationCurve(np.zeros(0), 0.0)
    layers = np.arange(int(np.ceil(held.max() - 1e-9)))
    parts = np.clip(held[:, None] - layers[None, :], 0.0, 1.0) if len(layers) else np.zeros((len(held), 0))
    return LoadDurationCurve((parts * time_s[:, None]).sum(axis=0) / total_s, total_s / 3600.0)
