"""What served a recorded period: a model named, the one of the recorded pools, or one scaled to what was learnt.

What is learnt is how long a request stays in work: by Little's law, the requests running over those answered a second.
The default model's times are stretched until it takes as long for the recorded lengths with as many requests at once.
Unlike a saturation, which most records never reach, this shows at any load.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.backtest.recorded_run import RecordedRun
from simulators.engine.models import catalogue
from simulators.engine.models.service import ServiceModel
from simulators.quickstart.kinds import MODEL
from simulators.reporting.time_bins import Floats

TIMES: Final = (
    "mem_base_s", "cmp_base_s", "cmp_token_s", "kv_decode_s", "kv_mixed_s", "attn_pair_s", "mem_token_s", "cmp_seq_s",
    "host_decode_s", "host_graph_s", "host_eager_s", "host_seq_s", "ingest_s", "front_base_s", "front_seq_s",
)  # fmt: skip
"""What of a model is time."""
LEAST_REQUESTS: Final = 300.0
"""Requests from which a mean time in work is taken: its standard error is then some 6%."""
CLOSE: Final = 0.02
"""Stretching by less than this is left out: no record tells more."""
HIDDEN: Final = 0.5
"""A turn whose rates are below so much of the mean tells little, and its gauges are noise."""


class Unknown(Exception):
    """What served cannot be told from the record; says what to give."""


@dataclass(frozen=True, slots=True)
class InferredEngine:
    """The service model of a replica of reference, and how it was found."""

    model: ServiceModel
    how: str


def engine(recorded: RecordedRun, named: str | None, lengths: tuple[float, float]) -> InferredEngine:
    """Return the engine that served, given mean prompt and output tokens.

    Raises `ConfigError` for an unknown model name, and `Unknown`.
    """
    if named is not None:
        return InferredEngine(catalogue.load(named), f"{named}, as asked for")
    own = {getattr(pool, "model", None) for pool in recorded.spec.pools.values()} - {None}
    if len(own) == 1:
        name = str(own.pop())
        return InferredEngine(catalogue.load(name), f"{name}, as the recorded pools have it")
    base = catalogue.load(MODEL)
    factor = stretch(recorded, base, lengths)
    words = f"{MODEL}, its times multiplied by {factor:.2f}: so long requests stayed in work by Little's law"
    return InferredEngine(base if abs(factor - 1.0) < CLOSE else slower(base, factor), words)


def stretch(recorded: RecordedRun, model: ServiceModel, lengths: tuple[float, float]) -> float:
    """By what the model's times are to be multiplied to take as long as the recorded requests did. Raises `Unknown`."""
    ready = recorded.columns["ready"]
    for source in recorded.spec.sources:
        running, rate = recorded.reading(source, "running"), recorded.reading(source, "requests_per_s")
        if running is None or rate is None:
            continue
        good = np.isfinite(running) & np.isfinite(rate) & (ready >= 1)
        good &= rate > HIDDEN * float(np.nanmean(rate))
        if float((rate[good] * recorded.over_s[good]).sum()) < LEAST_REQUESTS:
            continue
        own = rate[good] * service_s(model, running[good] / ready[good], *lengths)
        return float(running[good].sum() / own.sum())
    raise Unknown(
        "how long requests stay in work is not recorded (running and requests_per_s of engines, for some hundred"
        " requests): give --model NAME"
    )


def service_s(model: ServiceModel, at_once: Floats, prompt: float, output: float) -> Floats:
    """Return a replica's time for a request with `at_once` requests in the batch.

    Each output token takes a step of all of them, with every prompt of theirs in between. The host's time comes on top
    of the GPU's unless steps are pipelined.
    """
    batch = np.maximum(at_once, 1.0)
    gpu_s = np.maximum(
        model.mem_base_s + batch * model.mem_token_s, model.cmp_base_s + batch * (model.cmp_token_s + model.cmp_seq_s)
    )
    gpu_s = gpu_s + batch * (prompt + output / 2) * model.kv_decode_s
    host_s = model.host_decode_s + batch * model.host_seq_s
    step_s = np.maximum(gpu_s, host_s) if model.pipelined else gpu_s + host_s
    prefill_s = prompt * max(model.cmp_token_s, model.mem_token_s) + prompt**2 / 2 * model.attn_pair_s
    return np.asarray(model.ingest_s + output * step_s / model.accepted_per_step + (batch + 1) * prefill_s)


def slower(model: ServiceModel, factor: float) -> ServiceModel:
    """Return the model with all its times multiplied."""
    times = {name: getattr(model, name) * factor for name in TIMES}
    return dataclasses.replace(model, name=f"{model.name}-times-{factor:.3g}", **times)
