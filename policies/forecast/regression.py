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
        self._keep = 0.5 ** (strides_s / FORGET_S)
        self._moment = np.zeros((h, features, features))
        self._product = np.zeros((h, features, 2))
        self._error = np.zeros(h)
        self._belief = np.zeros(features)
        self._belief[0] = 1.0
        self._ridge = RIDGE * np.eye(features)
        self.coefficients = np.tile(self._belief, (h, 2, 1))

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of both targets (2, H) from features (H, F), in their unit."""
        predicted: NDArray[np.float64] = np.einsum("hkf,hf->kh", self.coefficients, features)
        return predicted

    def learn(self, due: NDArray[np.int64], features: NDArray[np.float64], came: NDArray[np.float64]) -> None:
        """Learn from forecasts of the horizons `due` that came true: features (due, F) then, and what came (due, 2)."""
        error = np.abs(came - np.einsum("dkf,df->dk", self.coefficients[due], features)).max(axis=1)
        usual = np.where(self._error[due] > 0.0, self._error[due], error)
        weight = np.minimum(1.0, HUBER * usual / np.maximum(error, 1e-12))
        self._error[due] = usual + ERROR_SHARE * (np.minimum(error, CLIPPED * usual) - usual)
        weighted = features * weight[:, None]
        keep = self._keep[due, None, None]
        self._moment[due] = moment = keep * self._moment[due] + weighted[:, :, None] * features[:, None, :]
        self._product[due] = product = keep * self._product[due] + weighted[:, :, None] * came[:, None, :]
        change = np.linalg.solve(moment + self._ridge, product - (moment @ self._belief)[:, :, None])
        self.coefficients[due] = self._belief + change.transpose(0, 2, 1)
