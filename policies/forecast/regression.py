"""A regression on recent and seasonal values for each horizon.

It learns from a forecast when its horizon has passed.

Direct forecasts (Marcellino, Stock & Watson, J. Econometrics 2006) from means over windows that double (the HAR model:
Corsi, J. Financial Econometrics 2009) and from earlier days, by recursive least squares with forgetting (Ljung &
Söderström 1983), a ridge towards the level, and Huber's weights for outliers. The usual values of now and of the
horizon are among the features, so the seasonal forecast with autoregressive residuals is a special case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORGET_S: Final = 30 * 86_400.0
"""Half-life of an observation's weight, 30 days: coefficients change more slowly than levels. Seconds."""
RIDGE: Final = 0.1
"""Weight of the prior (the level alone): a tenth of a typical observation."""
HUBER: Final = 2.0
"""Errors above this many mean absolute errors count linearly, not squared (Huber 1964)."""
MAX_ERROR_RATIO: Final = 6.0
"""An error counts as at most this many mean errors in the mean error."""
ERROR_SHARE: Final = 0.01
"""Weight of one error in the mean error, a moving average over about a hundred."""


class Regression:
    """Regression coefficients of shape (H, 2, F).

    H is the number of horizons. The two targets are the value and the largest value. The first of the F features is the
    level. Features and targets have one common unit, so that quiet and busy hours count alike.
    """

    def __init__(self, features: int, strides_s: NDArray[np.float64]) -> None:
        h = len(strides_s)
        self._features = features
        self._decay = 0.5 ** (strides_s / FORGET_S)[:, None, None]
        self._moments = np.zeros((h, features, features + 2))
        """Products of features with features, and with both targets."""
        self._mean_error = [0.0] * h
        self._prior = np.zeros(features)
        self._prior[0] = 1.0
        self._ridge = RIDGE * np.eye(features)
        self.coefficients = np.tile(self._prior, (h, 2, 1))

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the means of both targets (2, H) from features (H, F), in the same unit."""
        predicted: NDArray[np.float64] = (self.coefficients @ features[:, :, None])[:, :, 0].T
        return predicted

    def learn(self, due: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
        """Learn from past forecasts of the horizons `due`.

        `rows` (due, F + 2) are the features and the actual values.
        """
        features, targets = rows[:, : self._features], rows[:, self._features :]
        errors = np.abs(targets - (self.coefficients[due] @ features[:, :, None])[:, :, 0]).max(axis=1)
        weight = np.array([self._weight(i, e) for i, e in zip(due.tolist(), errors.tolist(), strict=True)])
        moments = self._decay[due] * self._moments[due]
        moments += (features * weight[:, None])[:, :, None] * rows[:, None, :]
        self._moments[due] = moments
        moment, product = moments[:, :, : self._features], moments[:, :, self._features :]
        change = np.linalg.solve(moment + self._ridge, product - (moment @ self._prior)[:, :, None])
        self.coefficients[due] = self._prior + change.transpose(0, 2, 1)

    def _weight(self, i: int, error: float) -> float:
        """Return the weight of an observation with this error, and add the error to the mean error.

        Example: an error of 4 mean errors has a weight of 2 / 4 = 0.5, one of 1 mean error a weight of 1.
        """
        mean_error = self._mean_error[i] or error
        self._mean_error[i] = mean_error + ERROR_SHARE * (min(error, MAX_ERROR_RATIO * mean_error) - mean_error)
        return min(1.0, HUBER * mean_error / max(error, 1e-12))
