"""Windows over which sources report rates."""

from __future__ import annotations

from policies.model.spec import WorkloadSpec


def rate_window_s(spec: WorkloadSpec, source: str | None) -> float | None:
    """Return the window of a source's rates in seconds; None where the source does not state it."""
    settings = None if source is None else spec.sources.get(source)
    if getattr(settings, "rates_between_ticks", False):
        return spec.interval_s
    window_s: float | None = getattr(settings, "window_s", None)
    return window_s
