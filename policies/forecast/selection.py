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
REACTIVE: Final = 0
HALF_LIFE: Final = 64.0
"""Scores after which one weighs half."""
MARGIN: Final = 0.03
"""A leader changes only for a loss smaller by this share: below it, the order of candidates is chance."""
LEAST_EVIDENCE: Final = 3.0
"""Independent scores that a candidate needs before it may lead."""


class Selection:
    """Exponentially forgotten losses of each candidate, beside the reactive one's over the same turns."""

    def __init__(self, candidates: int, overlap: NDArray[np.float64]) -> None:
        shape = (len(overlap), 2, candidates, len(LEVELS))
        self._overlap = overlap
        self._loss = np.zeros(shape)
        self._reactive = np.zeros(shape)
        self._weight = np.zeros(shape[:3])
        self.leader = np.full((len(overlap), 2, len(LEVELS)), REACTIVE)
        """Index of the leading candidate: (horizon, target, level)."""

    def note(self, horizon: int, target: int, loss: NDArray[np.float64]) -> None:
        """Note the losses (candidates, levels) of forecasts for one moment; NaN rows took no part."""
        took_part = ~np.isnan(loss[:, 0])
        if not took_part[REACTIVE]:
            return
        keep = 0.5 ** (1.0 / HALF_LIFE)
        decay = np.where(took_part, keep, 1.0)
        self._loss[horizon, target] = decay[:, None] * self._loss[horizon, target] + np.where(
            took_part[:, None], loss, 0.0
        )
        self._reactive[horizon, target] = decay[:, None] * self._reactive[horizon, target] + np.where(
            took_part[:, None], loss[REACTIVE], 0.0
        )
        self._weight[horizon, target] = decay * self._weight[horizon, target] + took_part
        self._choose(horizon, target)

    def ratio(self, horizon: int, target: int) -> NDArray[np.float64]:
        """Each candidate's loss over the reactive one's (candidates, levels); infinite without enough evidence."""
        loss, reactive = self._loss[horizon, target], self._reactive[horizon, target]
        enough = self._weight[horizon, target] >= LEAST_EVIDENCE * self._overlap[horizon]
        known = (reactive > 0.0) & enough[:, None]
        ratio: NDArray[np.float64] = np.divide(loss, reactive, out=np.full(loss.shape, np.inf), where=known)
        ratio[REACTIVE] = 1.0
        return ratio

    def _choose(self, horizon: int, target: int) -> None:
        ratio = self.ratio(horizon, target)
        every = np.arange(len(LEVELS))
        leader = self.leader[horizon, target]
        best = np.argmin(ratio, axis=0)
        better = ratio[best, every] < (1.0 - MARGIN) * ratio[leader, every]
        chosen = np.where(better, best, leader)
        self.leader[horizon, target] = np.where(ratio[chosen, every] > 1.0, REACTIVE, chosen)
