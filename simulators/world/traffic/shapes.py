"""Shapes of a rate over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final

import numpy as np

from policies.model.field_metadata import FieldMetadata
from simulators.world.rng import RngFor
from simulators.world.traffic import rates
from simulators.world.traffic.generate import CHUNK_S, HOUR_S, MAX_RPS, Synthetic
from simulators.world.traffic.trace import Floats

DAY_S: Final = 86_400.0
DAYS: Final = 7
SATURDAY: Final = 5


@dataclass(frozen=True, kw_only=True)
class Poisson(Synthetic):
    """A constant rate."""

    rps: Annotated[float, FieldMetadata("Rate. Requests per second.", ge=0, le=MAX_RPS)] = 1.0

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the rate, at any time."""
        return np.full(np.shape(t_s), self.rps)


@dataclass(frozen=True, kw_only=True)
class Daily(Synthetic):
    """A daily wave, lower at the weekend, with noise that changes slowly.

    With a mean of 10 requests/s, a swing of 0.6 and a peak at 14 h, a weekday has 16 at 14 h and 4 at 2 h.
    """

    mean_rps: Annotated[float, FieldMetadata("Mean rate of a weekday. Requests per second.", ge=0, le=MAX_RPS)] = 1.0
    swing: Annotated[
        float, FieldMetadata("Amplitude of the daily wave as a share of the mean rate. Share.", ge=0, le=1)
    ] = 0.6
    peak_hour: Annotated[float, FieldMetadata("Time of the daily peak. Hour of the day.", ge=0, lt=24)] = 14.0
    weekend_share: Annotated[
        float, FieldMetadata("Rate at the weekend as a share of the weekday rate. Share.", ge=0, le=10)
    ] = 0.7
    first_day: Annotated[int, FieldMetadata("Day of the week at time 0, midnight; 0: Monday.", ge=0, lt=DAYS)] = 0
    noise_cv: Annotated[
        float,
        FieldMetadata(
            "Coefficient of variation of the noise: a factor drawn every ten minutes, linear in between.", ge=0, le=3
        ),
    ] = 0.1

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the wave without its noise. The noise is a factor with mean 1."""
        wave = 1 + self.swing * np.cos(2 * np.pi * (t_s / DAY_S - self.peak_hour * HOUR_S / DAY_S))
        weekend = (np.floor(t_s / DAY_S) + self.first_day) % DAYS >= SATURDAY
        return np.asarray(self.mean_rps * wave * np.where(weekend, self.weekend_share, 1.0))

    def drawn_rps(self, t_s: Floats, rng_for: RngFor) -> Floats:
        """Return the wave with its noise.

        The noise has log-normal knots of mean 1 at the edges of chunks, and is linear between them.
        """
        first = int(t_s[0] // CHUNK_S)
        numbers = range(first, int(t_s[-1] // CHUNK_S) + 2)
        deviation = np.sqrt(np.log1p(self.noise_cv**2))
        normal = [rng_for(f"noise/{number}").standard_normal() for number in numbers]
        knots = np.exp(deviation * np.array(normal) - deviation**2 / 2)
        return np.asarray(self.rate_rps(t_s) * np.interp(t_s, np.array(numbers) * CHUNK_S, knots))


@dataclass(frozen=True, kw_only=True)
class FlashCrowd(Synthetic):
    """A base rate with one spike: a linear rise, a plateau, a linear fall.

    Shape: Bodik et al., "Characterizing, modeling, and generating workload spikes for stateful services", SoCC'10.
    """

    base_rps: Annotated[float, FieldMetadata("Base rate. Requests per second.", ge=0, le=MAX_RPS)] = 1.0
    factor: Annotated[float, FieldMetadata("Peak rate over the base rate. Factor.", ge=1, le=1000)] = 10.0
    at_s: Annotated[float, FieldMetadata("Start of the rise. Seconds.", ge=0)] = 600.0
    rise_s: Annotated[float, FieldMetadata("Duration of the rise. Seconds.", ge=0)] = 60.0
    hold_s: Annotated[float, FieldMetadata("Duration of the peak. Seconds.", ge=0)] = 300.0
    fall_s: Annotated[float, FieldMetadata("Duration of the fall. Seconds.", ge=0)] = 600.0

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the rate at times since the start."""
        corners = self.at_s + np.cumsum([0.0, self.rise_s, self.hold_s, self.fall_s])
        return np.asarray(self.base_rps * np.interp(t_s, corners, [1.0, self.factor, self.factor, 1.0]))


@dataclass(frozen=True, kw_only=True)
class OnOff(Synthetic):
    """Alternation of two rates."""

    on_rps: Annotated[float, FieldMetadata("Rate in an on period. Requests per second.", ge=0, le=MAX_RPS)] = 10.0
    off_rps: Annotated[float, FieldMetadata("Rate in an off period. Requests per second.", ge=0, le=MAX_RPS)] = 0.0
    on_s: Annotated[float, FieldMetadata("Duration of an on period. Seconds.", gt=0)] = 300.0
    off_s: Annotated[float, FieldMetadata("Duration of an off period. Seconds.", gt=0)] = 1500.0

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the rate at times since the start, which begins an on period."""
        return np.where(np.mod(t_s, self.on_s + self.off_s) < self.on_s, self.on_rps, self.off_rps)


@dataclass(frozen=True, kw_only=True)
class Ramp(Synthetic):
    """A rate that changes linearly to another one, and stays there."""

    from_rps: Annotated[float, FieldMetadata("Rate at the start. Requests per second.", ge=0, le=MAX_RPS)] = 0.0
    to_rps: Annotated[float, FieldMetadata("Rate at the end. Requests per second.", ge=0, le=MAX_RPS)] = 10.0
    over_s: Annotated[float, FieldMetadata("Duration of the change. Seconds.", gt=0)] = 3600.0

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the rate at times since the start."""
        return np.asarray(np.interp(t_s, [0.0, self.over_s], [self.from_rps, self.to_rps]))


@dataclass(frozen=True, kw_only=True)
class Sine(Synthetic):
    """A sine wave between two rates, as Dynamo's load generator sends it."""

    min_rps: Annotated[float, FieldMetadata("Lowest rate. Requests per second.", ge=0, le=MAX_RPS)] = 1.0
    max_rps: Annotated[float, FieldMetadata("Highest rate. Requests per second.", ge=0, le=MAX_RPS)] = 10.0
    period_s: Annotated[float, FieldMetadata("Duration of one wave. Seconds.", gt=0)] = 900.0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the wave is impossible, as (key, rule broken)."""
        if self.max_rps < self.min_rps:
            yield "max_rps", f"must be at least min_rps, {self.min_rps:g}"

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the rate at times since the start, which begins at the lowest rate."""
        wave = (1 - np.cos(2 * np.pi * np.asarray(t_s) / self.period_s)) / 2
        return np.asarray(self.min_rps + (self.max_rps - self.min_rps) * wave)


@dataclass(frozen=True, kw_only=True)
class RateSteps(Synthetic):
    """One rate after another; the last one stays."""

    rates_rps: Annotated[tuple[float, ...], FieldMetadata("Rates. Requests per second.", example=(1.0, 5.0, 2.0))] = (
        1.0,
        5.0,
    )
    step_s: Annotated[float, FieldMetadata("Duration of each rate. Seconds.", gt=0)] = 600.0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the steps are impossible, as (key, rule broken)."""
        if not self.rates_rps:
            yield "rates_rps", "must have at least one rate"
        if any(not 0 <= rate <= MAX_RPS for rate in self.rates_rps):
            yield "rates_rps", f"must each be 0 to {MAX_RPS:g}"

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the rate at times since the start."""
        step = np.clip(np.floor(np.asarray(t_s) / self.step_s).astype(np.int64), 0, len(self.rates_rps) - 1)
        return np.array(self.rates_rps)[step]


@dataclass(frozen=True, kw_only=True)
class Rates(Synthetic):
    """The rates of a series in a file, once or repeated."""

    file: Annotated[str, FieldMetadata("CSV with t_s and rate_rps, or a ServeGen client.", example="rates.csv")]
    speed: Annotated[
        float, FieldMetadata("Replay speed of the series; the rates stay the same. Factor.", gt=0, le=1000)
    ] = 1.0
    scale: Annotated[float, FieldMetadata("Factor for all rates. Factor.", ge=0, le=1e6)] = 1.0
    start_s: Annotated[float, FieldMetadata("Start in the file. Seconds.", ge=0)] = 0.0
    repeat: Annotated[bool, FieldMetadata("Whether the series repeats without end.")] = False

    @property
    def length_s(self) -> float:
        """`duration_s`, or the duration of the file from `start_s` on, at its speed. Seconds."""
        remaining_s = (load(self.file).duration_s - self.start_s) / self.speed
        return max(remaining_s, 0.0) if self.duration_s is None else self.duration_s

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the rate at times since the start; 0 after the file's end unless it repeats."""
        series = load(self.file)
        file_s = np.asarray(t_s) * self.speed + self.start_s
        return self.scale * series.at(np.mod(file_s, series.duration_s) if self.repeat else file_s)


@lru_cache(maxsize=8)
def load(file: str) -> rates.RateSeries:
    """Return the series in a file. Cached per process."""
    return rates.read(Path(file))
