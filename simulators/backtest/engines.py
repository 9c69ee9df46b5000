"""Service model of a recorded period.

It is a named model, the recorded pools' model, or the default model scaled in time.

The scale comes from a request's mean time in service, by Little's law: running requests over requests answered per
second. 16 running requests at 4 per second stay 4 s; if the default model takes 2 s for the same lengths and batch, its
times are multiplied by 2. Unlike saturation, which most records never reach, this shows at any load.
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

TIME_FIELDS: Final = (
    "mem_base_s", "cmp_base_s", "cmp_token_s", "kv_decode_s", "kv_mixed_s", "attn_pair_s", "mem_token_s", "cmp_seq_s",
    "host_decode_s", "host_graph_s", "host_eager_s", "host_seq_s", "ingest_s", "front_base_s", "front_seq_s",
)  # fmt: skip
"""The fields of a model that are times."""
MIN_REQUESTS: Final = 300.0
"""The minimum requests for a mean service time: its standard error is then about 1 / sqrt(300) = 6 %."""
MIN_CHANGE: Final = 0.02
"""A smaller change of the times is ignored: it is within the precision of a record."""
MIN_RATE_SHARE: Final = 0.5
"""Ticks with a rate below this share of the mean are ignored: their gauges are noise."""


class EngineUnknown(Exception):
    """The record does not show the engine's speed. The message names the option to set."""


@dataclass(frozen=True, slots=True)
class InferredEngine:
    """The service model of a replica of work 1, and its origin as text.

    `name` is the name or file of a model that was named; None for the default model with scaled times.
    """

    model: ServiceModel
    name: str | None
    origin: str


def infer_engine(recorded: RecordedRun, model_name: str | None, lengths: tuple[float, float]) -> InferredEngine:
    """Return the engine of a record. `lengths` are the mean prompt and output tokens.

    Raises `ConfigError` for an unknown model name, and `EngineUnknown`.
    """
    if model_name is not None:
        return InferredEngine(catalogue.load(model_name), model_name, f"{model_name}, as set by --model")
    names = {getattr(pool, "model", None) for pool in recorded.spec.pools.values()} - {None}
    if len(names) == 1:
        name = str(names.pop())
        return InferredEngine(catalogue.load(name), name, f"{name}, as the recorded pools have it")
    base = catalogue.load(MODEL)
    factor = time_factor(recorded, base, lengths)
    origin = f"{MODEL} with all times multiplied by {factor:.2f}, to match the recorded service times (Little's law)"
    return InferredEngine(base if abs(factor - 1.0) < MIN_CHANGE else scaled_times(base, factor), None, origin)


def time_factor(recorded: RecordedRun, model: ServiceModel, lengths: tuple[float, float]) -> float:
    """Return the factor on the model's times that gives the recorded service time.

    Raises `EngineUnknown`.
    """
    ready = recorded.columns["ready"]
    for source in recorded.spec.sources:
        running, rate = recorded.reading(source, "running"), recorded.reading(source, "requests_per_s")
        if running is None or rate is None:
            continue
        usable = np.isfinite(running) & np.isfinite(rate) & (ready >= 1)
        usable &= rate > MIN_RATE_SHARE * float(np.nanmean(rate))
        if float((rate[usable] * recorded.over_s[usable]).sum()) < MIN_REQUESTS:
            continue
        expected = rate[usable] * service_s(model, running[usable] / ready[usable], *lengths)
        return float(running[usable].sum() / expected.sum())
    raise EngineUnknown(
        "the service time of requests is not recorded (it needs running and requests_per_s of an engine, for some"
        " hundred requests): set --model NAME"
    )


def service_s(model: ServiceModel, concurrency: Floats, prompt: float, output: float) -> Floats:
    """Return a replica's time for a request at a concurrency. Seconds.

    `prompt` and `output` are mean token counts. Each output token takes a step of the whole batch, with all of the
    batch's prefills in between. The host's time adds to the GPU's unless steps are pipelined. `llama-3.1-8b-h100-vllm`
    takes 1.91 s for 1,000 prompt and 200 output tokens in a batch of 16.
    """
    batch = np.maximum(concurrency, 1.0)
    gpu_s = np.maximum(
        model.mem_base_s + batch * model.mem_token_s, model.cmp_base_s + batch * (model.cmp_token_s + model.cmp_seq_s)
    )
    gpu_s = gpu_s + batch * (prompt + output / 2) * model.kv_decode_s
    host_s = model.host_decode_s + batch * model.host_seq_s
    step_s = np.maximum(gpu_s, host_s) if model.pipelined else gpu_s + host_s
    prefill_s = prompt * max(model.cmp_token_s, model.mem_token_s) + prompt**2 / 2 * model.attn_pair_s
    return np.asarray(model.ingest_s + output * step_s / model.accepted_per_step + (batch + 1) * prefill_s)


def scaled_times(model: ServiceModel, factor: float) -> ServiceModel:
    """Return the model with all its times multiplied by a factor."""
    times = {name: getattr(model, name) * factor for name in TIME_FIELDS}
    return dataclasses.replace(model, name=f"{model.name}-times-{factor:.3g}", **times)
