"""Rivals as their own documentation recommends them for LLM serving, each with its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rival:
    """A rival as recommended: its name in tables, its text for `forescale compare`, and where that is recommended."""

    name: str
    text: str
    source: str


def _read(*quantities: str) -> str:
    return f"sources.engines.read=[{', '.join(quantities)}]"


DCGM: Final = f"sources.engines.preset=dcgm;{_read('utilization')}"
RIVALS: Final = (
    Rival(
        "hpa",
        f"hpa:metrics=[{{type: pods, quantities: [utilization], target: 0.7}}];{DCGM}",
        "Google Cloud, 'Autoscale LLM inference workloads on GPUs with GKE' (DCGM GPU utilisation as an HPA metric);"
        " AWS and Azure guides use 70 %",
    ),
    Rival(
        "keda",
        f"keda:triggers=[{{quantities: [waiting], target: 5}}];{_read('waiting')}",
        "vLLM production-stack, tutorial 20: vllm:num_requests_waiting with a threshold of 5",
    ),
)


def rivals() -> Iterator[Rival]:
    """Yield every rival."""
    yield from RIVALS
