"""Selection of the leader: the candidate with the smallest recent pinball loss.

Each horizon, target and level has its own leader. The reactive candidate leads until another has beaten it by a margin
on enough evidence, and again when none does.

Example: the leader loses 0.80 of the reactive candidate's loss. A candidate that loses 0.77 replaces it, since 0.77 is
below (1 - 0.03) * 0.80 = 0.776. One that loses 0.78 does not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS: Final = np.array([0.5, 0.75, 0.9, 0.95, 0.99])
"""Levels at which candidates are scored; a level in between uses the leader of the next higher one."""
MEDIAN, P90 = 0, 2
"""The indices of 0.5 and 0.9 in `LEVELS`."""
REACTIVE: Final = 0
LOSS_DECAY: Final = 0.5 ** (1.0 / 64.0)
"""Factor on the weight of a loss per later loss, 0.989: half after 64 losses."""
MARGIN: Final = 0.03
"""A leader changes only for a loss that is smaller by this share: below it, the order of candidates is random."""
MIN_EVIDENCE: Final = 3.0
"""Independent scores that a candidate needs before it may lead: 12 scores if 4 overlap."""
CUSUM_ALLOWANCE: Final = 1.0
CUSUM_CLIP: Final = 3.0
CUSUM_ALARM: Final = 3.0
"""Page's CUSUM test (Biometrika 1954) on errors, in units of the distance from their median to their 0.9 quantile. Each
error adds its units, at most three, less an allowance of one, so that a single error never raises the alarm. Example:
errors of 2.5 units add 1.5 each, and the third one exceeds 3. The test is one-sided: an undetected shift down costs
some idle replicas until the losses show it, an undetected shift up costs SLO violations."""


class Selection:
    """Exponentially weighted losses of each candidate.

    The losses of the reactive candidate over the same ticks are recorded with them.
    """

    def __init__(self, candidates: int, overlap: NDArray[np.float64]) -> None:
        h, n = len(overlap), len(LEVELS)
        self._min_evidence = MIN_EVIDENCE * overlap[:, None, None]
        self._sums = np.zeros((h, 2, candidates, 2 * n + 1))
        """For (horizon, target, candidate): its losses at the levels, the reactive candidate's, and their weight."""
        self._cusum = np.zeros(candidates)
        self.leader = np.full((h, 2, n), REACTIVE)
        """Index of the leading candidate: (horizon, target, level)."""

    def note(self, due: NDArray[np.int64], loss: NDArray[np.float64]) -> None:
        """Add losses at the horizons `due`.

        The shape of `loss` is (due, 2, candidates, levels), with NaN for a candidate without a forecast.
        """
        n = len(LEVELS)
        has_loss = ~np.isnan(loss[..., :1] + loss[:, :, :1, :1])
        new = np.empty((*loss.shape[:3], 2 * n + 1))
        new[..., :n] = loss
        new[..., n : 2 * n] = loss[:, :, :1]
        new[..., 2 * n] = 1.0
        sums = self._sums[due]
        sums = np.where(has_loss, LOSS_DECAY * sums + new, sums)
        self._sums[due] = sums
        self._update_leaders(due, self._ratio(sums, self._min_evidence[due]))

    def note_error(self, units: NDArray[np.float64]) -> None:
        """Add each candidate's newest error at the shortest horizon.

        Errors are in units of the candidate's usual error, with NaN for none.
        """
        cusum = self._cusum + np.minimum(np.where(np.isnan(units), 0.0, units), CUSUM_CLIP) - CUSUM_ALLOWANCE
        self._cusum = np.minimum(np.maximum(cusum, 0.0), 2.0 * CUSUM_ALARM)

    def leaders(self, target: int, has_forecast: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the candidate to use at each horizon and level.

        It is the leader, or the best usable candidate if the leader is not usable. `has_forecast` (candidates, H) is
        whether a candidate has a forecast. A candidate is not usable while its CUSUM alarm is raised: demand has
        exceeded its forecasts by more than chance. The reactive one has no alarm.
        """
        on_track = self._cusum <= CUSUM_ALARM
        on_track[REACTIVE] = True
        has_forecast = has_forecast.T & on_track
        horizons = np.arange(len(has_forecast))
        leader: NDArray[np.int64] = self.leader[:, target].copy()
        is_usable = has_forecast[horizons[:, None], leader]
        if is_usable.all():
            return leader
        best = np.where(has_forecast[:, :, None], self.ratio(horizons)[:, target], np.inf).argmin(axis=1)
        return np.where(is_usable, leader, best)

    def ratio(self, due: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return losses relative to those of the reactive candidate.

        The shape is (due, 2, candidates, levels). A ratio is infinite while there is little evidence.
        """
        return self._ratio(self._sums[due], self._min_evidence[due])

    def _ratio(self, sums: NDArray[np.float64], min_evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        n = len(LEVELS)
        reactive = sums[..., n : 2 * n]
        has_evidence = (reactive > 0.0) & (sums[..., 2 * n] >= min_evidence)[..., None]
        ratio = np.full(has_evidence.shape, np.inf)
        np.divide(sums[..., :n], reactive, out=ratio, where=has_evidence)
        ratio[:, :, REACTIVE] = 1.0
        return ratio

    def _update_leaders(self, due: NDArray[np.int64], ratio: NDArray[np.float64]) -> None:
        """Replace each leader that another candidate beats by the margin.

        The reactive candidate leads again where no candidate beats it.
        """
        leader = self.leader[due]
        leader_ratio = ratio.ravel()[_first(len(due), ratio.shape[2]) + len(LEVELS) * leader]
        best_ratio = ratio.min(axis=2)
        is_better = best_ratio < (1.0 - MARGIN) * leader_ratio
        chosen = np.where(is_better, ratio.argmin(axis=2), leader)
        is_beaten = np.where(is_better, best_ratio, leader_ratio) > 1.0
        self.leader[due] = np.where(is_beaten, REACTIVE, chosen)


@lru_cache(maxsize=64)
def _first(due: int, candidates: int) -> NDArray[np.int64]:
    """Return the flat indices of the first candidates, of shape (due, 2, levels).

    They index an array of shape (due, 2, candidates, levels).
    """
    n = len(LEVELS)
    return candidates * n * np.arange(2 * due).reshape(due, 2, 1) + np.arange(n)
