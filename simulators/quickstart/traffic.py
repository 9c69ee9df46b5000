"""The traffic of an embedded world, as a workload's file describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from policies.model.field_metadata import FieldMetadata


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How requests arrive, by the time since the world began. Every week of it begins anew."""

    shape: Annotated[
        Literal["daily", "batches"],
        FieldMetadata("daily: a day's wave and a flash crowd; batches: a burst, then nothing."),
    ] = "daily"
    mean_rps: Annotated[
        float, FieldMetadata("Mean rate of the wave, or rate within a batch. Requests a second.", ge=0, le=100)
    ] = 10.0
    swing: Annotated[float, FieldMetadata("Share of the mean by which the day's wave swings.", ge=0, le=1)] = 0.6
    crowd_at_s: Annotated[
        float, FieldMetadata("When the flash crowd begins to gather, after the world's start. Seconds.", ge=0)
    ] = 600.0
    crowd_s: Annotated[float, FieldMetadata("How long it stays once it is there. Seconds.", ge=0)] = 600.0
    crowd_factor: Annotated[
        float, FieldMetadata("How many times the usual rate it brings; 1: no crowd comes.", ge=1, le=10)
    ] = 3.0
    every_s: Annotated[float, FieldMetadata("From one batch to the next. Seconds.", gt=0)] = 1800.0
    batch_s: Annotated[float, FieldMetadata("How long a batch arrives. Seconds.", gt=0)] = 300.0
    prompt_tokens: Annotated[float, FieldMetadata("Mean length of a prompt. Tokens.", ge=1, le=16384)] = 1000.0
    output_tokens: Annotated[float, FieldMetadata("Mean length of an output. Tokens.", ge=1, le=4096)] = 200.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.batch_s >= self.every_s:
            yield "batch_s", f"must be below every_s, {self.every_s:g}: one batch ends before the next begins"
