"""A regression on the recent and the seasonal past, one for each horizon, learnt as forecasts come true.

Direct forecasts (Marcellino, Stock & Watson, J. Econometrics 2006) from means over windows that double (the HAR model:
Corsi, J. Financial Econometrics 2009) and from the seasonal past, by recursive least squares with forgetting
(Ljung & Söderström 1983), a ridge towards the level, and Huber's weights for outliers. With the usual value of now
and of then among the features it holds the seasonal forecast with autoregressive residuals as a special case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORGET_S: Final = 30 * 86_400.0
"""What was learnt weighs half after a month: coefficients change more slowly than levels."""
RIDGE: Final = 0.1
"""The belief in the plain level weighs as much as a tenth of a typical observation."""
HUBER: Final = 2.0
"""Errors beyond so many mean absolute errors count by their size only, not its square (Huber 1964)."""
CLIPPED: Final = 6.0
"""No error moves the mean error by more than this many of it."""
ERROR_SHARE: Final = 0.01
"""What one error weighs in the mean error: about a hundred make it."""


BATCH: Final = 4
"""Coefficients are worked out anew after so many observations, and after each of the first `EAGER`."""
EAGER: Final = 64


class Regression:
    """Coefficients (H, 2, F) for H horizons, two targets (the value, the largest) and F features, the first the level.

    Features and targets come in units of one scale, so that quiet and busy hours teach alike.
    """

    def __init__(self, features: int, strides_s: NDArray[np.float64]) -> None:
        h = len(strides_s)
        self._features = features
        self._keep: list[float] = (0.5 ** (strides_s / FORGET_S)).tolist()
        self._moments = np.zeros((h, features, features + 2))
        """Products of features with features, and with both targets."""
        self._waiting = np.zeros((h, BATCH, features + 2))
        self._waits = [0] * h
        self._seen = [0] * h
        self._error = [0.0] * h
        self._belief = np.zeros(features)
        self._belief[0] = 1.0
        self._ridge = RIDGE * np.eye(features)
        self.coefficients = np.tile(self._belief, (h, 2, 1))

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of both targets (2, H) from features (H, F), in their unit."""
        predicted: NDArray[np.float64] = (self.coefficients @ features[:, :, None])[:, :, 0].T
        return predicted

    def learn(self, due: NDArray[np.int64], known: NDArray[np.float64]) -> None:
        """Learn from forecasts of the horizons `due` that came true: features then, and what came, (due, F + 2)."""
        which = due.tolist()
        self._waiting[due, [self._waits[i] for i in which]] = known
        for i in which:
            self._seen[i] += 1
            self._waits[i] += 1
            if self._waits[i] == BATCH or self._seen[i] <= EAGER:
                self._work_out(i, self._waiting[i, : self._waits[i]])
                self._waits[i] = 0

    def _work_out(self, i: int, known: NDArray[np.float64]) -> None:
        """Work out the coefficients of horizon `i` anew, with these observations, oldest first."""
        features, came = known[:, : self._features], known[:, self._features :]
        errors = np.abs(came - features @ self.coefficients[i].T).max(axis=1)
        weights = [self._weight(i, error) for error in errors.tolist()]
        n, keep = len(weights), self._keep[i]
        faded = np.array([weight * keep ** (n - 1 - k) for k, weight in enumerate(weights)])
        moments = self._moments[i]
        moments *= keep**n
        moments += (features.T * faded) @ known
        moment, product = moments[:, : self._features], moments[:, self._features :]
        change = np.linalg.solve(moment + self._ridge, product - (moment @ self._belief)[:, None])
        self.coefficients[i] = self._belief + change.T

    def _weight(self, i: int, error: float) -> float:
        """What an observation of this error weighs; the error is noted."""
        usual = self._error[i] or error
        self._error[i] = usual + ERROR_SHARE * (min(error, CLIPPED * usual) - usual)
        return min(1.0, HUBER * usual / max(error, 1e-12))
