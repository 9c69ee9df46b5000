"""Summary of a recorded period.

It has cost, idle cost, late requests, missing evidence, and the notable periods.

All figures have one value for each tick, so that they can be summed over any hours. An unknown value is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import PoolName
from policies.recommend.predictive.latency_model import P95
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.signals.latency_quantities import LATE_SHARE_BY_LIMIT, LATENCIES
from scaler.journal.explain import timestamp
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.supply import lead_times
from simulators.experiments.slo_outcome import LateRequests, SloStatus
from simulators.reporting.time_bins import Floats
from simulators.world.traffic.describe import duration

HOUR_S: Final = 3600.0
MAX_SHOWN: Final = 3
"""The notable periods shown of each kind."""
WIDTHS_S: Final = (3600.0, 600.0, 60.0)
"""The lengths of ranked periods: hours, or less if the record is short. Seconds."""
MIN_BINS: Final = 4
MIN_BLIND_S: Final = 60.0
"""The minimum time without evidence: a tick or two without it occur at every start. Seconds."""
ORDER: Final = (
    "SLO violations", "idle cost", "blind", "gap", "capacity shortage", "override", "rejected writes", "read errors"
)  # fmt: skip
"""The kinds of notable periods, in the order of the page."""
MIN_KNOWN_SHARE: Final = 0.97
"""The minimum known share of the period for its sum to be judged, or compared with a simulated one."""
MIN_AMOUNTS: Final = {"idle cost": 0.005, "override": 0.05}
"""The minimum amount of a notable period: half a cent, three minutes of a replica; 1 of any other kind."""


@dataclass(frozen=True, slots=True, eq=False)
class PeriodSummary:
    """The figures of a recorded period, one value for each tick.

    `paid` are the paid replicas of each pool, and `usd` is their cost until the next tick. `idle_usd` is the part of
    this cost beyond the work, as measured by a policy, else beyond the demand. `late` are the late requests until the
    next tick, and `requests` those among which they were counted.
    """

    recorded: RecordedRun
    paid: Mapping[PoolName, Floats]
    usd: Floats
    idle_usd: Floats
    late: Floats
    requests: Floats
    late_method: str
    unpriced: tuple[PoolName, ...]

    def total(self, values: Floats) -> float | None:
        """Return the sum of the known values; None if none is known."""
        known = values[np.isfinite(values)]
        return float(known.sum()) if known.size else None

    def known(self, values: Floats) -> float:
        """Return the share of the time in which the values are known."""
        over_s = self.recorded.over_s
        return float(over_s[np.isfinite(values)].sum() / self.recorded.span_s)

    @property
    def replica_hours(self) -> float | None:
        return self.total(self.recorded.desired() * self.recorded.over_s / HOUR_S)

    @property
    def api_usd(self) -> Floats:
        """The cost of requests to providers until the next tick; NaN where it is not known.

        It is not part of `usd`.
        """
        return np.asarray(self.recorded.columns["api_usd_per_hour"] * self.recorded.over_s / HOUR_S, np.float64)

    @property
    def late_requests(self) -> LateRequests | None:
        """The late requests of the period; None if known for `MIN_KNOWN_SHARE` or less of it."""
        late, requests = self.total(self.late), self.total(np.where(np.isfinite(self.late), self.requests, np.nan))
        known = late is not None and requests is not None and self.known(self.late) > MIN_KNOWN_SHARE
        return LateRequests(late, requests) if known and late is not None and requests is not None else None

    @property
    def late_reason(self) -> str:
        """Why `late_requests` is None."""
        if self.total(self.late) is None:
            return self.late_method
        return f"late requests are known for {self.known(self.late):.0%} of the time only"

    @property
    def slo_status(self) -> SloStatus:
        """Whether the period met the workload's SLO."""
        late = self.late_requests
        return SloStatus.UNKNOWN if late is None else late.status(self.recorded.spec.slo)

    @property
    def blind_share(self) -> float:
        """The share of the ticks' time without full evidence."""
        over_s = self.recorded.over_s
        return float((self.recorded.columns["blind"] * over_s).sum() / over_s.sum())


def summarize_period(recorded: RecordedRun) -> PeriodSummary:
    """Return the summary of a recorded period."""
    paid = {name: paid_replicas(recorded, name) for name in recorded.pools}
    hours = recorded.over_s / HOUR_S
    usd, unpriced = np.zeros(len(recorded)), []
    for name, replicas in paid.items():
        price = _price(recorded, name)
        usd += np.where(replicas == 0, 0.0, replicas * (np.nan if price is None else price)) * hours
        if price is None and np.nansum(replicas):
            unpriced.append(name)
    late, requests, method = _late(recorded)
    return PeriodSummary(recorded, paid, usd, _idle_usd(recorded, paid), late, requests, method, tuple(unpriced))


def paid_replicas(recorded: RecordedRun, pool: PoolName) -> Floats:
    """Return the paid replicas of a pool at each tick; NaN where unknown.

    Paid are the ready replicas, and the desired ones that became ready within the usual lead time: replicas without
    capacity are not paid. With 4 desired and 2 ready, of which 3 become ready in time, 3 are paid. A reservation is
    paid in full.
    """
    desired, ready = (recorded.pools[pool][size] for size in ("desired", "ready"))
    spec = recorded.spec.pools.get(pool)
    if spec is not None and spec.market == "reserved":
        return np.maximum(desired, recorded.reservation(pool))
    prior_s = 0.0 if spec is None else spec.lead_time_s
    lead_ticks = math.ceil(lead_times(recorded, pool).usual_s(prior_s) / recorded.interval_s)
    served = ready.copy()
    for ticks in range(1, min(lead_ticks, len(ready) - 1) + 1):
        served[:-ticks] = np.fmax(served[:-ticks], ready[ticks:])
    served[max(0, len(served) - lead_ticks) :] = np.inf  # the last starts may have become ready after the end
    return np.asarray(np.where(np.isfinite(ready), np.fmax(ready, np.minimum(desired, served)), np.nan), np.float64)


def _price(recorded: RecordedRun, pool: PoolName) -> float | None:
    spec = recorded.spec.pools.get(pool)
    return None if spec is None else spec.price_usd_per_hour


def _idle_usd(recorded: RecordedRun, paid: Mapping[PoolName, Floats]) -> Floats:
    """Return the cost of replica equivalents beyond the work, without reserved replicas.

    Reserved replicas are paid anyway. 5 on-demand replicas at 6 USD per hour with work for 3 cost 2 / 5 of 30 USD idle,
    12 USD per hour.
    """
    work = recorded.columns["work"]
    need = np.where(np.isfinite(work), work, recorded.columns["demand"])
    held, removable, usd = (np.zeros(len(recorded)) for _ in range(3))
    for name, replicas in paid.items():
        spec = recorded.spec.pools.get(name)
        if spec is None or spec.tier != "serving":
            continue
        held += replicas * spec.work_per_replica
        if spec.market != "reserved":
            price = spec.price_usd_per_hour
            removable += replicas * spec.work_per_replica
            usd += np.where(replicas == 0, 0.0, replicas * (np.nan if price is None else price))
    beyond = np.minimum(np.maximum(held - need, 0.0), removable)
    share = np.divide(beyond, removable, out=np.where(np.isfinite(need), 0.0, np.nan), where=removable > 0)
    return np.asarray(share * usd * recorded.over_s / HOUR_S, np.float64)


def _late(recorded: RecordedRun) -> tuple[Floats, Floats, str]:
    """Return the late requests and the requests of each tick, and the method as text.

    They come from the reported late shares, else from the tail that fits the P95 of a latency.
    """
    unknown = np.full(len(recorded), np.nan)
    if recorded.spec.slo is None:
        return unknown, unknown, "the workload has no slo"
    late_by_source: list[Floats] = []
    requests_by_source: list[Floats] = []
    quantities: set[str] = set()
    for source in recorded.spec.sources:
        rate = recorded.reading(source, "requests_per_s")
        shares = []
        for key, limit_s in recorded.spec.slo_limits_s.items():
            late, latency = recorded.reading(source, LATE_SHARE_BY_LIMIT[key]), LATENCIES.get(key)
            p95_s = None if latency is None else recorded.reading(source, latency.p95)
            if late is not None:
                shares.append(late)
                quantities.add(LATE_SHARE_BY_LIMIT[key])
            elif latency is not None and p95_s is not None:
                tail = LatencyTail.of(latency.spread)
                means_s = (tail.mean_s(value, P95) for value in p95_s.tolist())
                shares.append(np.array([m if math.isnan(m) else tail.late_share(limit_s, m) for m in means_s]))
                quantities.add(latency.p95)
        if rate is not None and shares:
            late_by_source.append(rate * np.fmax.reduce(shares) * recorded.over_s)
            requests_by_source.append(rate * recorded.over_s)
    if not late_by_source:
        return unknown, unknown, "no source provides requests_per_s with a late_share or p95_s of a latency"
    tails = sorted(quantity for quantity in quantities if quantity.endswith("p95_s"))
    parts = [f"from {' and '.join(sorted(quantities - {*tails}))}"] if quantities - {*tails} else []
    parts += [f"estimated from {' and '.join(tails)} and the usual tail of the latency"] if tails else []
    method = "; ".join(parts)
    late, requests = (np.asarray(np.sum(v, axis=0), np.float64) for v in (late_by_source, requests_by_source))
    return late, requests, method


# --- notable periods


@dataclass(frozen=True, slots=True)
class NotablePeriod:
    """A notable period: its kind, start (Unix time), length and amount, and the same as text.

    `worst` is the time of its worst tick, for `explain`.
    """

    kind: str
    since: float
    over_s: float
    amount: float
    text: str
    worst: float

    def as_dict(self) -> Mapping[str, object]:
        return {
            "what": self.kind,
            "since": timestamp(self.since),
            "over_s": self.over_s,
            "amount": round(self.amount, 4),
            "text": self.text,
            "worst": timestamp(self.worst),
        }


def notable_periods(summary: PeriodSummary) -> list[NotablePeriod]:
    """Return the notable periods, the worst of each kind first."""
    recorded = summary.recorded
    columns = recorded.columns
    kinds: Sequence[tuple[str, Floats, str]] = (
        ("SLO violations", summary.late, "{:,.0f} late request{s}"),
        ("idle cost", summary.idle_usd, "{:,.2f} USD for idle replicas"),
        ("capacity shortage", columns["short"], "{:,.0f} tick{s} without capacity or quota"),
        (
            "override",
            columns["override_change"] * recorded.over_s / HOUR_S,
            "{:,.1f} replica-hours changed by a manual override",
        ),
        ("rejected writes", columns["refused"], "{:,.0f} rejected write{s}"),
        ("read errors", columns["errors"], "{:,.0f} failed read{s} of sources and pools"),
    )
    ranked = [period for kind, values, template in kinds for period in _ranked(recorded, kind, values, template)]
    return sorted([*ranked, *_blind(recorded)], key=lambda period: ORDER.index(period.kind))


def width_s(recorded: RecordedRun) -> float:
    """Return the length of the ranked periods. Seconds.

    It is an hour from 4 hours on and 10 minutes from 40 minutes on.
    """
    return next((w for w in WIDTHS_S if recorded.span_s / w >= MIN_BINS), WIDTHS_S[-1])


def binned(recorded: RecordedRun, values: Floats) -> tuple[Floats, Floats]:
    """Return the starts of the ranked periods, and the sum of the known values in each.

    The sum is NaN where no value is known.
    """
    width = width_s(recorded)
    bins = np.floor(recorded.at / width).astype(np.int64)
    bins -= bins[0]
    known = np.isfinite(values)
    counts = np.bincount(bins[known], minlength=bins[-1] + 1)
    sums = np.bincount(bins[known], values[known], minlength=bins[-1] + 1)
    begins = (np.floor(recorded.at[0] / width) + np.arange(bins[-1] + 1)) * width
    return begins, np.where(counts > 0, sums, np.nan)


def _ranked(recorded: RecordedRun, kind: str, values: Floats, template: str) -> Iterator[NotablePeriod]:
    begins, sums = binned(recorded, values)
    bin_of = np.searchsorted(begins, recorded.at, side="right") - 1
    order = np.argsort(-np.nan_to_num(sums), kind="stable")
    for k in order[:MAX_SHOWN]:
        if np.nan_to_num(sums[k]) >= MIN_AMOUNTS.get(kind, 1.0):
            worst = int(np.argmax(np.where(bin_of == k, np.nan_to_num(values), -1.0)))
            text = template.format(sums[k], s="" if round(sums[k]) == 1 else "s")
            yield NotablePeriod(
                kind, float(begins[k]), width_s(recorded), float(sums[k]), text, float(recorded.at[worst])
            )


def _blind(recorded: RecordedRun) -> list[NotablePeriod]:
    """Return the longest periods without full evidence, and those without any tick.

    Periods without full evidence are at least `MIN_BLIND_S` long.
    """
    time_s, over_s = recorded.at, recorded.over_s
    blind = recorded.columns["blind"] > 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], blind.astype(np.int8), [0]))))
    periods = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        length_s = float(time_s[last - 1] - time_s[first] + over_s[last - 1])
        text = f"incomplete observations for {duration(length_s)}"
        if length_s < MIN_BLIND_S:
            continue
        periods.append(NotablePeriod("blind", float(time_s[first]), length_s, length_s, text, float(time_s[first])))
    gaps = np.append(np.diff(time_s), 0.0) - over_s
    for k in np.flatnonzero(gaps > recorded.interval_s / 2):
        since = float(time_s[k] + over_s[k])
        length_s = float(gaps[k])
        periods.append(
            NotablePeriod("gap", since, length_s, length_s, f"no tick for {duration(length_s)}", float(time_s[k]))
        )
    periods.sort(key=lambda period: -period.over_s)
    return [
        period
        for kind in ("blind", "gap")
        for period in [period for period in periods if period.kind == kind][:MAX_SHOWN]
    ]
