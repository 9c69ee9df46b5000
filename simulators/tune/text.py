"""What a search found, in plain sentences: for the terminal, the page, and the top of each policy file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from simulators.experiments.statistics import LEVEL
from simulators.reporting import table
from simulators.reporting.table import share
from simulators.reporting.text import percent
from simulators.tune.objectives import Figures
from simulators.tune.policy import FIRST
from simulators.tune.result import TuneResult
from simulators.tune.study import CompletedTrial
from simulators.tune.validation import Proven

CENTS_BELOW_USD: Final = 100.0


def money(usd: float) -> str:
    """Return an amount a month, with cents only where they count."""
    if math.isnan(usd):
        return "-"
    return f"${usd:,.0f}" if abs(usd) >= CENTS_BELOW_USD else f"${usd:,.2f}"


def signed(value: float, text: str) -> str:
    """Return a difference with its sign before the amount."""
    return f"{'-' if value < 0 else '+'}{text.lstrip('-')}"


def label(result: TuneResult, one: CompletedTrial) -> str:
    """Return a point by its place in the front, and what it is known for."""
    known = [name for name, number in result.known.items() if number == one.number]
    place = [p.number for p in result.points].index(one.number) + 1
    return f"{place}" + (f" ({', '.join(known)})" if known else "")


def late(found: Figures) -> str:
    """Return the share of late requests with the end of its interval."""
    told = found.in_time()
    if math.isnan(told.half_width):
        return share(found.late_share)
    return f"{share(found.late_share)} (to {share(min(1.0, 1 - told.low))})"


def difference(one: Proven) -> str:
    """Return how a point differs from today in money a month and in late requests."""
    cost = one.cost.estimate
    spread = "" if math.isnan(cost.half_width) else f" ± {money(cost.half_width)}"
    part = "" if math.isnan(one.proven_share) else f" ({-one.proven_share:+.1%})"
    more = one.late_per_month
    counted = f"{abs(more):,.0f} {'fewer' if more < 0 else 'more'}" if abs(more) >= 1 else "as many"
    return f"{signed(cost.mean, money(abs(cost.mean)))}{spread} a month{part}, {counted} late requests a month"


def verdict(one: Proven) -> str:
    """Return the verdict on a point."""
    noise = {"noise": "the difference in cost is within noise", "cheaper": "cheaper beyond noise", "dearer": "dearer"}
    said = f"promise {one.promise}; {noise[one.gain]}"
    return f"{said}; OVER-FITTED: {one.fitted}" if one.fitted else said


def headline(result: TuneResult) -> str:
    """Return the recommendation, in a sentence or two."""
    if result.today is None:
        return "The proof was not run: no point is recommended. Give the same command again, and it goes on."
    if result.dared is None:
        return f"Leave what runs today as it is: {result.why}."
    one = result.dared
    place = label(result, one.tried).split(" ", maxsplit=1)[0]
    return (
        f"Deploy recommended.yaml (point {place} of {len(result.points)}): {difference(one)}; {late(one.figures)} of"
        f" the requests late on traffic that the search never saw, {percent(result.allowed)} allowed."
        f" It is {result.why}."
    )


def notes(result: TuneResult) -> Iterator[str]:
    """Yield further notes, a sentence each."""
    yield (
        f"{result.counts.finished:,} trials: {result.counts.cut:,} given up early, {result.counts.refused:,} refused by"
        f" the workload's own rules{', ended before all was done' if result.stopped else ''}."
    )
    if result.today is not None:
        yield (
            f"Today, on the proof's traffic: {money(result.today.usd_per_month)} a month, {late(result.today)} late."
            f" The proof: {result.proof_said}."
        )
    if result.chosen is not None and result.chosen.figures.late_share > result.allowed:
        yield (
            "No trial kept the promise on the search's traffic: the choice is the one with the fewest late requests. A"
            " longer search, wider ranges (--search), or more replicas may."
        )
    elif result.chosen is not None and result.chosen.figures.most_late() > result.allowed:
        yield (
            f"The search's choice has {late(result.chosen.figures)} of its requests late on the search's traffic:"
            " whether that keeps the promise is for other traffic to tell."
        )
    for name, one, alone in result.left_out:
        kept = "keeps" if alone.figures.late_share <= result.allowed else "MISSES"
        yield (
            f"Without {name} the search would have chosen trial {one.number}: on that trace it {kept} the promise"
            f" ({share(alone.figures.late_share)} late), at {money(alone.figures.usd_per_month)} a month."
        )
    yield from result.remarks


def head(result: TuneResult, one: CompletedTrial) -> Iterator[str]:
    """Yield the top of a policy file: what it is, what it promises, and how that is known."""
    made = result.made
    yield (
        f"{FIRST} {made['version']}: point {label(result, one)} of {len(result.points)}, trial {one.number} of study"
        f" {made['study']} (seed {made['seed']}, {made['sampler']}), scenario {made['scenario']}."
    )
    proof = next((p for p in result.proven if p.tried.number == one.number), None)
    if proof is None or result.today is None:
        yield "NOT PROVED: its figures are those of the search's own traffic, and will look better than they are."
    else:
        yield f"What it promises, on traffic that the search never saw ({result.proof_said}; {LEVEL:.0%} intervals):"
        yield f"  cost: {money(proof.figures.usd_per_month)} a month; today {money(result.today.usd_per_month)}."
        yield (
            f"  late requests: {late(proof.figures)}, {percent(result.allowed)} allowed; today {late(result.today)}."
        )
        yield f"  against today: {difference(proof)}."
        yield f"  verdict: {verdict(proof)}."
    searched = one.figures
    yield f"On the search's traffic: {money(searched.usd_per_month)} a month, {late(searched)} of the requests late."
    yield "A month is 730 hours of such traffic. Before it may act: forescale run TODAYS_FILE --shadow THIS_FILE"
    if not made["imported"]:
        yield f"All of the scenario with it: forescale compare {made['file']} --without-self --policies THIS_FILE"


HEAD: Final = ("search/month", "late", "proof/month", "late", "saved", "more late/month", "promise", "gain")


def lines(result: TuneResult) -> Iterator[str]:
    """Yield the result for a terminal."""
    yield from table.aligned(rows(result), HEAD)
    yield ""
    yield headline(result)
    yield from notes(result)
    yield from over_fitted(result)


def rows(result: TuneResult) -> list[tuple[str, list[str]]]:
    """Return today's row and one for every point, under `HEAD`."""
    found = []
    if result.searched is not None:
        found.append(("today", [*_two(result.searched), *_two(result.today), "", "", "", ""]))
    proofs = {p.tried.number: p for p in result.proven}
    for one in result.points:
        proof = proofs.get(one.number)
        cells = [*_two(one.figures), *_two(None if proof is None else proof.figures)]
        found.append((label(result, one), cells + (["-"] * 4 if proof is None else _against(proof))))
    return found


def over_fitted(result: TuneResult) -> Iterator[str]:
    """Which points fit the search's traffic only."""
    for one in result.proven:
        if one.fitted:
            yield f"Point {label(result, one.tried)} is over-fitted: {one.fitted}."


def _against(one: Proven) -> list[str]:
    return [f"{one.proven_share:.1%}", f"{one.late_per_month:+,.0f}", one.promise, one.gain]


def _two(found: Figures | None) -> tuple[str, str]:
    return ("-", "-") if found is None else (money(found.usd_per_month), late(found))
