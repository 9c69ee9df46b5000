"""What a live period came to: money, idleness, lateness, blindness, and where in it to look.

Everything is a value a turn, so that it can be added up over any hours. What is not known is NaN, and told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import PoolName
from policies.recommend.predictive.latency_model import P95, slo_limits_s
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.signals.latency_quantities import LATENCIES
from scaler.journal.explain import timestamp
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.supply import lead_times
from simulators.reporting.time_bins import Floats
from simulators.world.traffic.describe import duration

HOUR_S: Final = 3600.0
SHOWN: Final = 3
"""Stretches shown of each kind: the first ones are worth a look, the rest is in the plots."""
WIDTHS_S: Final = (3600.0, 600.0, 60.0)
"""Of the stretches that are ranked: hours, and less where the period is short."""
LEAST_BINS: Final = 4
LEAST_BLIND_S: Final = 60.0
"""A turn or two without evidence happen at every start, and hold nothing for long."""
ORDER: Final = (
    "most late", "most idle money", "blind", "gap", "out of capacity", "overridden", "refused writes", "errors"
)  # fmt: skip
"""What is looked at first."""
LEAST: Final = {"most idle money": 0.005, "overridden": 0.05}
"""Less of it is nothing to look at: half a cent, three minutes of a replica; of all else, one."""


@dataclass(frozen=True, slots=True, eq=False)
class Happened:
    """A period, tick by tick.

    `paid` are the replicas of each pool that are paid, `usd` their cost until the next tick, `idle_usd` its part beyond
    the work (measured where a policy reports it, else the need found), `late` the late requests of that time.
    """

    recorded: RecordedRun
    paid: Mapping[PoolName, Floats]
    usd: Floats
    idle_usd: Floats
    late: Floats
    late_how: str
    unpriced: tuple[PoolName, ...]

    def total(self, values: Floats) -> float | None:
        """Return the sum over the turns in which it is known; None where it is in none."""
        known = values[np.isfinite(values)]
        return float(known.sum()) if known.size else None

    def known(self, values: Floats) -> float:
        """Return the share of the time in which it is known."""
        over_s = self.recorded.over_s
        return float(over_s[np.isfinite(values)].sum() / self.recorded.span_s)

    @property
    def replica_hours(self) -> float | None:
        return self.total(self.recorded.asked() * self.recorded.over_s / HOUR_S)

    @property
    def blind_share(self) -> float:
        """The share of the turns' time without full evidence."""
        over_s = self.recorded.over_s
        return float((self.recorded.columns["blind"] * over_s).sum() / over_s.sum())


def happened(recorded: RecordedRun) -> Happened:
    """Return the summary of a recorded period."""
    paid = {name: paid_for(recorded, name) for name in recorded.pools}
    over_h = recorded.over_s / HOUR_S
    usd, unpriced = np.zeros(len(recorded)), []
    for name, replicas in paid.items():
        price = _price(recorded, name)
        usd += np.where(replicas == 0, 0.0, replicas * (np.nan if price is None else price)) * over_h
        if price is None and np.nansum(replicas):
            unpriced.append(name)
    late, how = _late(recorded)
    return Happened(recorded, paid, usd, _idle_usd(recorded, paid), late, how, tuple(unpriced))


def paid_for(recorded: RecordedRun, pool: PoolName) -> Floats:
    """Return the replicas of a pool that each turn pays; NaN where not known.

    They are those that serve, and of those asked for as many as served within the usual start: what the cloud had no
    room for is not paid. A reservation is paid whole.
    """
    desired, ready = (recorded.pools[pool][what] for what in ("desired", "ready"))
    spec = recorded.spec.pools.get(pool)
    if spec is not None and spec.market == "reserved":
        return np.maximum(desired, recorded.reservation(pool))
    prior_s = 0.0 if spec is None else spec.lead_time_s
    ahead = math.ceil(lead_times(recorded, pool).usual_s(prior_s) / recorded.interval_s)
    came = ready.copy()
    for turns in range(1, min(ahead, len(ready) - 1) + 1):
        came[:-turns] = np.fmax(came[:-turns], ready[turns:])
    came[max(0, len(came) - ahead) :] = np.inf  # what started last may have come after the end
    return np.asarray(np.where(np.isfinite(ready), np.fmax(ready, np.minimum(desired, came)), np.nan), np.float64)


def _price(recorded: RecordedRun, pool: PoolName) -> float | None:
    spec = recorded.spec.pools.get(pool)
    return None if spec is None else spec.price_usd_per_hour


def _idle_usd(recorded: RecordedRun, paid: Mapping[PoolName, Floats]) -> Floats:
    """Return the cost of replica equivalents beyond the work.

    Reserved replicas are not among them: they are paid either way.
    """
    work = recorded.columns["work"]
    need = np.where(np.isfinite(work), work, recorded.columns["demand"])
    held, given_back, usd = (np.zeros(len(recorded)) for _ in range(3))
    for name, replicas in paid.items():
        spec = recorded.spec.pools.get(name)
        if spec is None or spec.tier != "serving":
            continue
        held += replicas * spec.work_per_replica
        if spec.market != "reserved":
            price = spec.price_usd_per_hour
            given_back += replicas * spec.work_per_replica
            usd += np.where(replicas == 0, 0.0, replicas * (np.nan if price is None else price))
    beyond = np.minimum(np.maximum(held - need, 0.0), given_back)
    share = np.divide(beyond, given_back, out=np.where(np.isfinite(need), 0.0, np.nan), where=given_back > 0)
    return np.asarray(share * usd * recorded.over_s / HOUR_S, np.float64)


def _late(recorded: RecordedRun) -> tuple[Floats, str]:
    """The requests of each turn that broke the promise, and how that was told: as read, or by latencies' tails."""
    nobody = np.full(len(recorded), np.nan)
    if recorded.spec.slo is None:
        return nobody, "not known: nothing is promised (slo)"
    found: list[Floats] = []
    told: set[str] = set()
    for source in recorded.spec.sources:
        rate = recorded.reading(source, "requests_per_s")
        shares = []
        for key, latency in LATENCIES.items():
            late, p95_s = recorded.reading(source, latency.late_share), recorded.reading(source, latency.p95)
            limit_s = slo_limits_s(recorded.spec).get(key)
            if late is not None:
                shares.append(late)
                told.add(latency.late_share)
            elif p95_s is not None and limit_s is not None:
                tail = LatencyTail.of(latency.spread)
                means_s = (tail.mean_s(p, P95) for p in p95_s.tolist())
                shares.append(np.array([m if math.isnan(m) else tail.late_share(limit_s, m) for m in means_s]))
                told.add(latency.p95)
        if rate is not None and shares:
            found.append(rate * np.fmax.reduce(shares) * recorded.over_s)
    if not found:
        return nobody, "not known: no source tells requests_per_s beside a latency's late_share or p95_s"
    tails = sorted(quantity for quantity in told if quantity.endswith("p95_s"))
    ways = [f"as {' and '.join(sorted(told - {*tails}))} told"] if told - {*tails} else []
    ways += [f"by the tails of {' and '.join(tails)}, above which 5% of the requests lay"] if tails else []
    how = "; ".join(ways)
    return np.asarray(np.sum(found, axis=0), np.float64), how


# --- where to look


@dataclass(frozen=True, slots=True)
class NotablePeriod:
    """A stretch that deserves a look: its kind, start, length and amount, and the same in words.

    `worst` is the time of its worst tick, for `explain`.
    """

    what: str
    since: float
    over_s: float
    amount: float
    words: str
    worst: float

    def as_dict(self) -> Mapping[str, object]:
        return {
            "what": self.what,
            "since": timestamp(self.since),
            "over_s": self.over_s,
            "amount": round(self.amount, 4),
            "words": self.words,
            "worst": timestamp(self.worst),
        }


def looks(found: Happened) -> list[NotablePeriod]:
    """Return the stretches worth a look, the worst of each kind first."""
    recorded = found.recorded
    columns = recorded.columns
    kinds: Sequence[tuple[str, Floats, str]] = (
        ("most late", found.late, "{:,.0f} request{s} late"),
        ("most idle money", found.idle_usd, "{:,.2f} USD for replicas beyond the work"),
        ("out of capacity", columns["short"], "{:,.0f} turn{s} without capacity or quota"),
        ("overridden", columns["by_hand"] * recorded.over_s / HOUR_S, "{:,.1f} replica-hours moved by an override"),
        ("refused writes", columns["refused"], "{:,.0f} write{s} refused"),
        ("errors", columns["errors"], "{:,.0f} read{s} of sources and pools failed"),
    )
    ranked = [look for what, values, words in kinds for look in _ranked(recorded, what, values, words)]
    return sorted([*ranked, *_blind(recorded)], key=lambda look: ORDER.index(look.what))


def width_s(recorded: RecordedRun) -> float:
    """How long the stretches are that are ranked."""
    return next((w for w in WIDTHS_S if recorded.span_s / w >= LEAST_BINS), WIDTHS_S[-1])


def binned(recorded: RecordedRun, values: Floats) -> tuple[Floats, Floats]:
    """Return the beginnings of the stretches, and the sum of the values known in each; NaN where none is."""
    width = width_s(recorded)
    number = np.floor(recorded.at / width).astype(np.int64)
    number -= number[0]
    known = np.isfinite(values)
    counts = np.bincount(number[known], minlength=number[-1] + 1)
    sums = np.bincount(number[known], values[known], minlength=number[-1] + 1)
    begins = (np.floor(recorded.at[0] / width) + np.arange(number[-1] + 1)) * width
    return begins, np.where(counts > 0, sums, np.nan)


def _ranked(recorded: RecordedRun, what: str, values: Floats, words: str) -> Iterator[NotablePeriod]:
    begins, sums = binned(recorded, values)
    place = np.searchsorted(begins, recorded.at, side="right") - 1
    order = np.argsort(-np.nan_to_num(sums), kind="stable")
    for k in order[:SHOWN]:
        if np.nan_to_num(sums[k]) >= LEAST.get(what, 1.0):
            worst = int(np.argmax(np.where(place == k, np.nan_to_num(values), -1.0)))
            said = words.format(sums[k], s="" if round(sums[k]) == 1 else "s")
            yield NotablePeriod(
                what, float(begins[k]), width_s(recorded), float(sums[k]), said, float(recorded.at[worst])
            )


def _blind(recorded: RecordedRun) -> list[NotablePeriod]:
    """Return the longest stretches of turns without full evidence, `LEAST_BLIND_S` at least, or without any turn."""
    at, over_s = recorded.at, recorded.over_s
    blind = recorded.columns["blind"] > 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], blind.astype(np.int8), [0]))))
    found = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        lasted_s = float(at[last - 1] - at[first] + over_s[last - 1])
        said = f"without full evidence for {duration(lasted_s)}"
        if lasted_s < LEAST_BLIND_S:
            continue
        found.append(NotablePeriod("blind", float(at[first]), lasted_s, lasted_s, said, float(at[first])))
    gaps = np.append(np.diff(at), 0.0) - over_s
    for k in np.flatnonzero(gaps > recorded.interval_s / 2):
        since = float(at[k] + over_s[k])
        lasted_s = float(gaps[k])
        found.append(NotablePeriod("gap", since, lasted_s, lasted_s, f"no turn for {duration(lasted_s)}", float(at[k])))
    found.sort(key=lambda look: -look.over_s)
    return [look for what in ("blind", "gap") for look in [f for f in found if f.what == what][:SHOWN]]
