"""Reports of a calibration: lines for a terminal, an HTML page, and the provenance sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Final

from simulators.engine.models.fit import WIDTHS, Calibration, Errors
from simulators.engine.models.replay import MEASURES
from simulators.engine.models.runs import EngineRun
from simulators.engine.models.service import ServiceModel
from simulators.reporting import html

TITLES: Final = {
    "ttft_p50": "TTFT p50",
    "ttft_p95": "TTFT p95",
    "tpot": "TPOT",
    "e2e": "e2e",
    "throughput": "throughput",
}


def medians(errors: Errors) -> dict[str, float]:
    """Return the median absolute error over runs of each measure that at least one run has.

    Shares.
    """
    by_measure = {m: [abs(e[m]) for e in errors.values() if m in e] for m in MEASURES}
    return {m: median(values) for m, values in by_measure.items() if values}


def provenance(calibration: Calibration, runs: Mapping[str, EngineRun], base: ServiceModel) -> str:
    """Return the source of the model's numbers, and their errors, in two sentences."""
    requests = sum(map(len, runs.values()))
    text = f"Calibrated from {base.name} on {requests:,} requests in {len(runs)} runs ({', '.join(runs)})."
    held_out = calibration.held_out
    if not held_out:
        return f"{text} No run could be held out: the error on other traffic is unknown."
    worst = {m: max(abs(e[m]) for e in held_out.values() if m in e) for m in medians(held_out)}
    by_measure = ", ".join(f"{TITLES[m]} {v:.1%} (worst {worst[m]:.1%})" for m, v in medians(held_out).items())
    return f"{text} Median absolute error over {len(held_out)} runs held out of the fit: {by_measure}."


def lines(calibration: Calibration, runs: Mapping[str, EngineRun], base: ServiceModel) -> Iterator[str]:
    """Yield the report for a terminal."""
    yield f"{calibration.model.name}, calibrated from {base.name}"
    for name in (n for n in WIDTHS if getattr(base, n) > 0):
        old, new = getattr(base, name), getattr(calibration.model, name)
        yield f"  {name:<14} {old:>12.4g} -> {new:<12.4g} {new / old - 1:+8.1%}"
    yield ""
    if calibration.held_out:
        yield "Error on runs held out of the fit (simulated / recorded - 1)"
        yield from _table(calibration.held_out, runs)
        yield ""
    yield "Error on runs of the fit"
    yield from _table(calibration.fitted, runs)


def page(calibration: Calibration) -> str:
    """Return a self-contained HTML page with the errors as a table and as bars."""
    shown = calibration.held_out or calibration.fitted
    kind = "held out of the fit" if calibration.held_out else "of the fit"
    largest = max((abs(e) for errors in shown.values() for e in errors.values()), default=0.0) or 1.0
    plots = []
    for measure in MEASURES:
        rows = [
            (name, [html.BarPart(abs(e[measure]) / largest, f"{e[measure]:+.1%}", "c1")], f"{e[measure]:+.1%}")
            for name, e in shown.items()
            if measure in e
        ]
        if rows:
            plots.append(html.PageBars(measure, TITLES[measure], "Simulated / recorded - 1; bars: its size.", rows))
    errors = [(name, *(_cell(by_measure.get(m)).strip() for m in MEASURES)) for name, by_measure in shown.items()]
    return html.render(
        "calibration.html.j2",
        title=f"{calibration.model.name}: error on runs {kind}",
        provenance=calibration.model.provenance,
        caption="Simulated / recorded - 1 by run",
        head=["run", *(TITLES[m] for m in MEASURES)],
        errors=[*errors, ("median, absolute", *(_cell(medians(shown).get(m), "").strip() for m in MEASURES))],
        plots=plots,
    )


def _table(errors: Errors, runs: Mapping[str, EngineRun]) -> Iterator[str]:
    width = max(map(len, [*errors, "median, absolute"]))
    yield f"  {'run':<{width}} requests" + "".join(f"{TITLES[m]:>12}" for m in MEASURES)
    for name, by_measure in errors.items():
        count = len(runs[name]) if name in runs else ""
        yield f"  {name:<{width}} {count:>8}" + "".join(_cell(by_measure.get(m)) for m in MEASURES)
    yield f"  {'median, absolute':<{width}} {'':>8}" + "".join(_cell(medians(errors).get(m), "") for m in MEASURES)


def _cell(share: float | None, sign: str = "+") -> str:
    return f"{'-':>12}" if share is None else f"{share:>{sign}12.1%}"
