"""Who leads: the candidate with the smallest pinball loss of late, at each horizon, target and level.

The reactive candidate leads until another has beaten it by a margin on enough evidence, and again when none does.
"""

from __future__ import annotations

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
        shape = (len(overlap), 2, candidates, len(LEVELS))
        self._overlap = overlap
        self._loss = np.zeros(shape)
        self._reactive = np.zeros(shape)
        self._weight = np.zeros(shape[:3])
        self._surprise = np.zeros(candidates)
        self.leader = np.full((len(overlap), 2, len(LEVELS)), REACTIVE)
        """Index of the leading candidate: (horizon, target, level)."""

    def note(self, due: NDArray[np.int64], loss: NDArray[np.float64]) -> None:
        """Note losses (due, 2, candidates, levels) at the horizons `due`; NaN for those that took no part."""
        took_part = ~np.isnan(loss[..., 0] + loss[:, :, :1, 0])
        keep = np.where(took_part, KEEP, 1.0)
        self._weight[due] = keep * self._weight[due] + took_part
        keep, took_part = keep[..., None], took_part[..., None]
        self._loss[due] = keep * self._loss[due] + np.where(took_part, loss, 0.0)
        self._reactive[due] = keep * self._reactive[due] + np.where(took_part, loss[:, :, :1], 0.0)
        self._choose(due)

    def watch(self, units: NDArray[np.float64]) -> None:
        """Note each candidate's newest error at the shortest horizon, in units of what is usual; NaN for none."""
        grown = self._surprise + np.minimum(np.where(np.isnan(units), 0.0, units), CLIP) - SURPRISE
        self._surprise = np.clip(grown, 0.0, 2.0 * ALARM)

    def ruling(self, target: int, able: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Who speaks at each horizon and level: the leader, or while it is not able or off the track, the next best.

        `able` (candidates, H) tells who has something to go by. A candidate is off the track when demand has lately
        exceeded what it said beyond chance: a shift that it does not see. The reactive one cannot be.
        """
        on_track = self._surprise <= ALARM
        on_track[REACTIVE] = True
        able = able.T & on_track
        leader = self.leader[:, target]
        ratio = self.ratio(np.arange(len(leader)))[:, target]
        best = np.where(able[:, :, None], ratio, np.inf).argmin(axis=1)
        return np.where(np.take_along_axis(able, leader, 1), leader, best)

    def ratio(self, due: NDArray[np.int64]) -> NDArray[np.float64]:
        """Losses over the reactive one's (due, 2, candidates, levels); infinite on too little evidence."""
        reactive = self._reactive[due]
        enough = self._weight[due] >= LEAST_EVIDENCE * self._overlap[due, None, None]
        known = (reactive > 0.0) & enough[..., None]
        ratio: NDArray[np.float64] = np.divide(self._loss[due], reactive, out=np.full(known.shape, np.inf), where=known)
        ratio[:, :, REACTIVE] = 1.0
        return ratio

    def _choose(self, due: NDArray[np.int64]) -> None:
        ratio = self.ratio(due)
        leader = self.leader[due][:, :, None]
        best = ratio.argmin(axis=2)[:, :, None]
        ruling = np.take_along_axis(ratio, leader, 2)
        contending = np.take_along_axis(ratio, best, 2)
        chosen = np.where(contending < (1.0 - MARGIN) * ruling, best, leader)
        beaten = np.take_along_axis(ratio, chosen, 2) > 1.0
        self.leader[due] = np.where(beaten, REACTIVE, chosen)[:, :, 0]
