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


class Regression:
    """Coefficients (H, 2, F) for H horizons, two targets (the value, the largest) and F features, the first the level.

    Features and targets come in units of one scale, so that quiet and busy hours teach alike.
    """

    def __init__(self, features: int, strides_s: NDArray[np.float64]) -> None:
        h = len(strides_s)
        self._features = features
        self._keep = 0.5 ** (strides_s / FORGET_S)[:, None, None]
        self._moments = np.zeros((h, features, features + 2))
        """Products of features with features, and with both targets."""
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
        features, came = known[:, : self._features], known[:, self._features :]
        errors = np.abs(came - (self.coefficients[due] @ features[:, :, None])[:, :, 0]).max(axis=1)
        weight = np.array([self._weight(i, e) for i, e in zip(due.tolist(), errors.tolist(), strict=True)])
        moments = self._keep[due] * self._moments[due]
        moments += (features * weight[:, None])[:, :, None] * known[:, None, :]
        self._moments[due] = moments
        moment, product = moments[:, :, : self._features], moments[:, :, self._features :]
        change = np.linalg.solve(moment + self._ridge, product - (moment @ self._belief)[:, :, None])
        self.coefficients[due] = self._belief + change.transpose(0, 2, 1)

    def _weight(self, i: int, error: float) -> float:
        """Return what an observation of this error weighs; the error is noted."""
        usual = self._error[i] or error
        self._error[i] = usual + ERROR_SHARE * (min(error, CLIPPED * usual) - usual)
        return min(1.0, HUBER * usual / max(error, 1e-12))
