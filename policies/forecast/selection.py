"""Who leads: the candidate with the smallest pinball loss of late, at each horizon, target and level.

The reactive candidate leads until another has beaten it by a margin on enough evidence, and again when none does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS: Final = np.array([0.5, 0.75, 0.9, 0.95, 0.99])
"""Levels at which candidates are scored; a level in between goes by the next higher one."""
MEDIAN, USUAL = 0, 2
"""The places of 0.5 and 0.9 among them."""
REACTIVE: Final = 0
KEEP: Final = 0.5 ** (1.0 / 64.0)
"""What a loss keeps of its weight with each one after it: half after 64."""
MARGIN: Final = 0.03
"""A leader changes only for a loss smaller by this share: below it, the order of candidates is chance."""
LEAST_EVIDENCE: Final = 3.0
"""Independent scores that a candidate needs before it may lead."""


SURPRISE: Final = 1.0
CLIP: Final = 3.0
ALARM: Final = 3.0
"""Page's CUSUM test (Biometrika 1954) on errors in units of the distance from their median to their 0.9 quantile: an
error is allowed one unit and counts for three at most, so that one alone, however large, raises no alarm. Upwards
only: a shift down that goes unseen costs some money until the losses tell, a shift up costs promises."""


class Selection:
    """Exponentially forgotten losses of each candidate, beside the reactive one's over the same turns."""

    def __init__(self, candidates: int, overlap: NDArray[np.float64]) -> None:
        h, n = len(overlap), len(LEVELS)
        self._least = LEAST_EVIDENCE * overlap[:, None, None]
        self._sums = np.zeros((h, 2, candidates, 2 * n + 1))
        """For (horizon, target, candidate): its losses at the levels, the reactive one's, and their weight."""
        self._surprise = np.zeros(candidates)
        self.leader = np.full((h, 2, n), REACTIVE)
        """Index of the leading candidate: (horizon, target, level)."""

    def note(self, due: NDArray[np.int64], loss: NDArray[np.float64]) -> None:
        """Note losses (due, 2, candidates, levels) at the horizons `due`; NaN for those that took no part."""
        n = len(LEVELS)
        took_part = ~np.isnan(loss[..., :1] + loss[:, :, :1, :1])
        new = np.empty((*loss.shape[:3], 2 * n + 1))
        new[..., :n] = loss
        new[..., n : 2 * n] = loss[:, :, :1]
        new[..., 2 * n] = 1.0
        sums = self._sums[due]
        sums = np.where(took_part, KEEP * sums + new, sums)
        self._sums[due] = sums
        self._choose(due, self._ratio(sums, self._least[due]))

    def watch(self, units: NDArray[np.float64]) -> None:
        """Note each candidate's newest error at the shortest horizon, in units of what is usual; NaN for none."""
        grown = self._surprise + np.minimum(np.where(np.isnan(units), 0.0, units), CLIP) - SURPRISE
        self._surprise = np.minimum(np.maximum(grown, 0.0), 2.0 * ALARM)

    def ruling(self, target: int, able: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Who speaks at each horizon and level: the leader, or while it is not able or off the track, the next best.

        `able` (candidates, H) tells who has something to go by. A candidate is off the track when demand has lately
        exceeded what it said beyond chance: a shift that it does not see. The reactive one cannot be.
        """
        on_track = self._surprise <= ALARM
        on_track[REACTIVE] = True
        able = able.T & on_track
        every = np.arange(len(able))
        leader: NDArray[np.int64] = self.leader[:, target].copy()
        fit = able[every[:, None], leader]
        if fit.all():
            return leader
        best = np.where(able[:, :, None], self.ratio(every)[:, target], np.inf).argmin(axis=1)
        return np.where(fit, leader, best)

    def ratio(self, due: NDArray[np.int64]) -> NDArray[np.float64]:
        """Losses over the reactive one's (due, 2, candidates, levels); infinite on too little evidence."""
        return self._ratio(self._sums[due], self._least[due])

    def _ratio(self, sums: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.float64]:
        n = len(LEVELS)
        reactive = sums[..., n : 2 * n]
        known = (reactive > 0.0) & (sums[..., 2 * n] >= least)[..., None]
        ratio = np.full(known.shape, np.inf)
        np.divide(sums[..., :n], reactive, out=ratio, where=known)
        ratio[:, :, REACTIVE] = 1.0
        return ratio

    def _choose(self, due: NDArray[np.int64], ratio: NDArray[np.float64]) -> None:
        """Change leaders where another does better by the margin; back to the reactive one where none beats it."""
        leader = self.leader[due]
        ruling = ratio.ravel()[_first(len(due), ratio.shape[2]) + len(LEVELS) * leader]
        contending = ratio.min(axis=2)
        better = contending < (1.0 - MARGIN) * ruling
        chosen = np.where(better, ratio.argmin(axis=2), leader)
        beaten = np.where(better, contending, ruling) > 1.0
        self.leader[due] = np.where(beaten, REACTIVE, chosen)


@lru_cache(maxsize=64)
def _first(due: int, candidates: int) -> NDArray[np.int64]:
    """Return where in a flat array (due, 2, candidates, levels) the first candidates are: (due, 2, levels)."""
    n = len(LEVELS)
    return candidates * n * np.arange(2 * due).reshape(due, 2, 1) + np.arange(n)
