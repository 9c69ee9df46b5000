"""A self-contained HTML page of a trace: rate over time, token counts, gaps."""

from __future__ import annotations

import html
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simulators.world.traffic.describe import rate_bins
from simulators.world.traffic.trace import RequestTrace

RATE_BINS: Final = 1000
"""Bins of the rate: more than the pixels of a screen show nothing more."""
HISTOGRAM_BINS: Final = 60
MIN_GAP_S: Final = 1e-3
"""Arrivals have a resolution of 1 ms: shorter gaps and zero gaps are in the first bar."""


def page(trace: RequestTrace) -> str:
    """Return the page as HTML, equal for equal traces.

    Its size does not grow with the trace: the data is binned.
    """
    figure = make_subplots(
        rows=2,
        cols=3,
        specs=[[{"colspan": 3}, None, None], [{}, {}, {}]],
        subplot_titles=("Requests per second", "Prompt tokens", "Output tokens", "Gaps between arrivals, s"),
    )
    edges, rates = rate_bins(trace, RATE_BINS)
    figure.add_trace(go.Scatter(x=edges[:-1].tolist(), y=rates.tolist(), mode="lines", line_shape="hv"), 1, 1)
    figure.add_trace(_histogram(trace.prompt_tokens, 1.0), 2, 1)
    figure.add_trace(_histogram(trace.output_tokens, 1.0), 2, 2)
    figure.add_trace(_histogram(np.diff(trace.arrival_s), MIN_GAP_S), 2, 3)
    for column in (1, 2, 3):
        figure.update_xaxes(type="log", row=2, col=column)
    figure.update_xaxes(title_text="seconds since the start of the trace", row=1, col=1)
    title = html.escape(f"{trace.name}: {len(trace):,} requests")
    figure.update_layout(title=title, showlegend=False, template="plotly_white")
    return str(figure.to_html(include_plotlyjs=True, full_html=True, div_id="trace"))


def _histogram(values: npt.NDArray[Any], minimum: float) -> Any:
    """Return counts in bins of equal width on a logarithmic axis.

    Values below `minimum` count as `minimum`.
    """
    values = np.maximum(values, minimum)
    top = float(values.max()) if len(values) else minimum
    edges = np.geomspace(minimum, max(top, minimum * 10) * 1.0001, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(values, edges)
    heights = [*counts.tolist(), 0]
    return go.Scatter(x=edges.tolist(), y=heights, mode="lines", line_shape="hv", fill="tozeroy")
