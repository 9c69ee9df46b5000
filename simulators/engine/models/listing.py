"""The catalogue of service models as a list, with token rates, errors and sources."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from simulators.engine.models import catalogue
from simulators.engine.models.service import ServiceModel
from simulators.engine.models.worth import CONTEXT_TOKENS, saturation_rates

WIDTH: Final = 100
"""Columns of the terminal that the list fits."""
ENGINES: Final = {"-sglang": "SGLang", "-trtllm": "TRT-LLM"}
"""Engine by the end of a name; the others are vLLM."""
ACCELERATORS: Final = {"tpu-v6e": "TPU v6e"}
"""Names that are not the upper-case form of the catalogue's."""
UNKNOWN: Final = "unknown"
HEADER: Final = ("model", "accelerator", "engine", "prompt/s", "output/s", "error", "source")


class ModelSource(NamedTuple):
    """A kind of source: its short name, its data, and the meaning of the error.

    `begins` is the beginning of the provenance of its models.
    """

    name: str
    begins: str
    fit: str
    error: str


SOURCES: Final = (
    ModelSource(
        "runs", "Calibrated from", "fitted to whole runs of an engine", "median of the end-to-end time, held out"
    ),
    ModelSource("kernels", "aiconfigurator", "fitted to step times from measured kernels", "mean of the step times"),
    ModelSource("profile", "LLMServingSim", "fitted to step times from profiled layers", "mean of the step times"),
    ModelSource("prior", "vLLM", "starting point of a calibration", UNKNOWN),
)
GPU_TIME: Final = "kernels and profile are GPU time alone: real engines took 9 to 34 % longer (forescale calibrate)"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A service model with its figures. Rates are of one replica at saturation; None is unknown."""

    name: str
    weights: str | None
    accelerator: str | None
    engine: str | None
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    error: float | None
    source: ModelSource | None
    model: ServiceModel

    def as_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return dataclasses.asdict(self) | {"source": self.source.name if self.source else None}


def entries() -> list[ModelEntry]:
    """Return the whole catalogue, sorted by name."""
    return [entry(name) for name in catalogue.names()]


def entry(name: str) -> ModelEntry:
    """Return a model of the catalogue, or of a file. Raises `ConfigError`."""
    model = catalogue.load(name)
    rates = saturation_rates(model)
    parts = catalogue.NAME.match(name) if name in catalogue.names() else None
    error = re.search(r"mean error ([\d.]+)%|\be2e ([\d.]+)%", model.provenance)
    return ModelEntry(
        name=name,
        weights=parts["base"] if parts else None,
        accelerator=_accelerator(parts["gpu"]) if parts else None,
        engine=ENGINES.get(parts["engine"] or "", "vLLM") if parts else None,
        prompt_tokens_per_s=rates.prompt_tokens_per_s,
        output_tokens_per_s=rates.generation_tokens_per_s,
        error=round(float(error[1] or error[2]) / 100, 4) if error else None,
        source=next((s for s in SOURCES if model.provenance.startswith(s.begins)), None),
        model=model,
    )


def _accelerator(gpu: str) -> str:
    """Return the accelerators of a replica: ``h100x4`` is ``4x H100``."""
    kind, times, count = gpu.rpartition("x")
    if not (times and count.isdecimal()):
        kind, count = gpu, "1"
    return f"{count}x {ACCELERATORS.get(kind, kind.upper().replace('-', ' '))}"


def cells(entry: ModelEntry) -> tuple[str, ...]:
    """Return an entry's cells under `HEADER`."""
    return (
        entry.name,
        entry.accelerator or UNKNOWN,
        entry.engine or UNKNOWN,
        f"{entry.prompt_tokens_per_s:,.0f}",
        f"{entry.output_tokens_per_s:,.0f}",
        error_text(entry),
        entry.source.name if entry.source else UNKNOWN,
    )


def error_text(entry: ModelEntry) -> str:
    """Return the error of an entry in percent."""
    return UNKNOWN if entry.error is None else f"{entry.error:.1%}"


def notes() -> Iterator[str]:
    """Yield the meanings of the columns."""
    yield (
        "prompt/s, output/s: tokens per second of one replica at saturation, in full prefill steps and in a full"
        f" decode batch, with {CONTEXT_TOKENS:,} tokens of context."
    )
    for source in SOURCES:
        yield f"{source.name}: {source.fit}; error: {source.error}."
    yield f"{GPU_TIME}."


def table(rows: Sequence[ModelEntry]) -> Iterator[str]:
    """Yield the list as a table, with the meanings of its columns."""
    body = [HEADER, *map(cells, rows)]
    widths = [max(len(row[k]) for row in body) for k in range(len(HEADER))]
    for row in body:
        left, right = zip(row[:3], widths[:3], strict=True), zip(row[3:6], widths[3:6], strict=True)
        texts = [*(f"{cell:<{w}}" for cell, w in left), *(f"{cell:>{w}}" for cell, w in right), row[6]]
        yield "  ".join(texts)
    yield ""
    for note in notes():
        yield from textwrap.wrap(note, WIDTH)
    yield "forescale models NAME shows one model with its source and settings."


def details(entry: ModelEntry) -> Iterator[str]:
    """Yield one model's figures, source and settings."""
    model = entry.model
    yield entry.name
    for label, value in (
        ("weights", entry.weights or UNKNOWN),
        ("accelerator", entry.accelerator or UNKNOWN),
        ("engine", entry.engine or UNKNOWN),
        ("prompt", f"{entry.prompt_tokens_per_s:,.0f} tokens/s in full prefill steps"),
        ("output", f"{entry.output_tokens_per_s:,.0f} tokens/s in a full decode batch, {CONTEXT_TOKENS:,} tokens each"),
        ("KV cache", f"{model.kv_tokens:,} tokens"),
        ("error", error_text(entry) + (f", {entry.source.error}" if entry.source and entry.error is not None else "")),
    ):
        yield f"  {label:<12} {value}"
    indent = " " * 15
    source = textwrap.wrap(model.provenance or UNKNOWN, WIDTH, initial_indent=indent, subsequent_indent=indent)
    yield f"  {'source':<12} {source[0].strip()}"
    yield from source[1:]
    yield ""
    yield "  Settings (docs/explanation/simulator.md):"
    for key, value in dataclasses.asdict(model).items():
        if key not in {"name", "provenance"}:
            yield f"  {key:<18} {value:g}" if isinstance(value, float) else f"  {key:<18} {value}"
