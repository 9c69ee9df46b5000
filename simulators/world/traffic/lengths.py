"""Token counts of requests: constant or log-normal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Final

import numpy as np

from policies.model.field_metadata import FieldMetadata
from simulators.world.traffic.trace import MAX_TOKENS, Ints

P95: Final = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Log-normal token counts.

    They are set by mean and coefficient of variation (0: constant), or by median and 95th percentile. A draw is rounded
    to whole tokens and clipped to the bounds, so tight bounds change the mean. A median of 100 and a p95 of 500 give a
    log deviation of ln(5) / 1.645 = 0.98.
    """

    mean_tokens: Annotated[
        float | None, FieldMetadata("Mean. Default: null, use p50 and p95 instead. Tokens.", ge=1)
    ] = None
    cv: Annotated[float, FieldMetadata("Coefficient of variation with mean_tokens; 0: constant.", ge=0, le=20)] = 1.0
    p50_tokens: Annotated[float | None, FieldMetadata("Median. Default: null, use the mean. Tokens.", ge=1)] = None
    p95_tokens: Annotated[
        float | None, FieldMetadata("95th percentile. Default: null, use the mean. Tokens.", ge=1)
    ] = None
    min_tokens: Annotated[int, FieldMetadata("Minimum length. Tokens.", ge=1, le=MAX_TOKENS)] = 1
    max_tokens: Annotated[int, FieldMetadata("Maximum length. Tokens.", ge=1, le=MAX_TOKENS)] = 131_072

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the distribution is undefined, as (key, rule broken)."""
        by_quantiles = self.p50_tokens is not None or self.p95_tokens is not None
        if self.mean_tokens is not None and by_quantiles:
            yield "mean_tokens", "cannot be combined with p50_tokens and p95_tokens"
        elif by_quantiles and (self.p50_tokens is None or self.p95_tokens is None):
            yield "p50_tokens", "p50_tokens and p95_tokens must be set together"
        elif self.mean_tokens is None and not by_quantiles:
            yield "mean_tokens", "is required: set it, or both p50_tokens and p95_tokens"
        if self.p50_tokens is not None and self.p95_tokens is not None and self.p95_tokens < self.p50_tokens:
            yield "p95_tokens", f"must not be below p50_tokens, {self.p50_tokens:g}"
        if self.max_tokens < self.min_tokens:
            yield "max_tokens", f"must not be below min_tokens, {self.min_tokens}"

    @property
    def log_mean(self) -> float:
        if self.p50_tokens is not None:
            return math.log(self.p50_tokens)
        return math.log(self.mean_tokens or 1.0) - self.log_deviation**2 / 2

    @property
    def log_deviation(self) -> float:
        if self.p50_tokens is not None and self.p95_tokens is not None:
            return math.log(self.p95_tokens / self.p50_tokens) / P95
        return math.sqrt(math.log1p(self.cv**2))

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """Return `count` token counts. Every distribution takes one draw per count."""
        tokens = np.rint(np.exp(self.log_mean + self.log_deviation * rng.standard_normal(count)))
        return np.clip(tokens, self.min_tokens, self.max_tokens).astype(np.int32)
