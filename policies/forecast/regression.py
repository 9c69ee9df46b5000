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

FORGET_S: Final = 7 * 86_400.0
"""What was learnt weighs half after a week: the season's own length."""
RIDGE: Final = 1.0
"""The belief in the plain level weighs as much as this many typical observations."""
HUBER: Final = 2.0
"""Errors beyond so many mean absolute errors count by their size only, not its square (Huber 1964)."""
ERROR_HALF_LIFE: Final = 64.0


class Regression:
    """Coefficients (H, 2, F) for H horizons, two targets (the value, the largest) and F features, the first the level.

    Features and targets come in units of one scale, so that quiet and busy hours teach alike.
    """

    def __init__(self, features: int, strides_s: NDArray[np.float64]) -> None:
        h = len(strides_s)
        self._keep = 0.5 ** (strides_s / FORGET_S)
        self._moment = np.zeros((h, 2, features, features))
        self._product = np.zeros((h, 2, features))
        self._error = np.zeros((h, 2))
        self._belief = np.zeros(features)
        self._belief[0] = 1.0
        self.coefficients = np.tile(self._belief, (h, 2, 1))

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of both targets (2, H) from features (H, F), in their unit."""
        predicted: NDArray[np.float64] = np.einsum("hkf,hf->kh", self.coefficients, features)
        return predicted

    def learn(self, horizon: int, target: int, features: NDArray[np.float64], actual: float) -> None:
        """Learn from one forecast that came true: features (F,) then, and what came, both in the scale then."""
        error = abs(actual - float(self.coefficients[horizon, target] @ features))
        usual = float(self._error[horizon, target])
        weight = min(1.0, HUBER * usual / error) if usual and error else 1.0
        share = 1.0 - 0.5 ** (1.0 / ERROR_HALF_LIFE)
        self._error[horizon, target] = usual + share * (min(error, 3.0 * HUBER * usual) - usual) if usual else error
        moment, product = self._moment[horizon, target], self._product[horizon, target]
        moment *= self._keep[horizon]
        product *= self._keep[horizon]
        moment += np.outer(features, weight * features)
        product += weight * actual * features
        ridge = RIDGE * np.eye(len(features))
        self.coefficients[horizon, target] = self._belief + np.linalg.solve(
            moment + ridge, product - moment @ self._belief
        )
