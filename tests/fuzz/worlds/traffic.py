"""Random traffic: every kind of generator, from no requests to overload."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from simulators.engine.models.service import ServiceModel
from tests.fuzz.worlds.rng import WorldRng, rounded

MAX_REQUESTS: Final = 20_000
"""Approximate maximum of one world. They take some hundredths of a second."""
SHAPED: Final = ("daily", "flash_crowd", "on_off", "poisson", "ramp", "rates", "sine", "steps", "trace")
"""Kinds of traffic of the clients of a mix."""


@dataclass(frozen=True, slots=True)
class Load:
    """Parameters of the traffic: its peak rate, its duration, and its files by name.

    `request_s` is the approximate time that an engine works on a request.
    """

    rps: float
    duration_s: float
    prompt_tokens: float
    output_tokens: float
    request_s: float
    files: dict[str, str]

    def peak(self, quantity: str) -> float:
        """Return the approximate value of a total at the peak, never 0."""
        per_request = {
            "generation_tokens_per_s": self.output_tokens,
            "prompt_tokens_per_s": self.prompt_tokens,
            "requests_per_s": 1.0,
            "preemptions_per_s": 0.1,
        }
        return max(self.rps, 0.01) * per_request.get(quantity, self.request_s)


Maker = Callable[[WorldRng, Load], dict[str, Any]]


def traffic(rng: WorldRng, load: Load) -> dict[str, Any]:
    """Return the document of a random generator."""
    kind = rng.choice(list(TRAFFIC))
    return {"kind": kind, **TRAFFIC[kind](rng, load)}


def load(rng: WorldRng, model: ServiceModel, replicas: int, duration_s: float) -> Load:
    """Return a load from idle to overload, relative to the capacity of `replicas`. One world in twelve has none.

    The estimate: a replica runs half its maximum sequences, and a step takes twice as long as an empty one.
    """
    prompt_tokens, output_tokens = rng.scale(10, 3000), rng.scale(2, 400)
    step_s = 2 * (model.mem_base_s + model.cmp_base_s)
    busy_s = step_s * (output_tokens / (model.max_seqs / 2) + prompt_tokens / model.max_step_tokens)
    rps = 0.0
    if not rng.happens(1 / 12):
        rps = min(rng.scale(0.03, 4.0) * replicas / busy_s, MAX_REQUESTS / duration_s)
    request_s = step_s * (output_tokens + prompt_tokens / model.max_step_tokens)
    return Load(rounded(rps), duration_s, prompt_tokens, output_tokens, request_s, {})


def _shared(rng: WorldRng, load: Load) -> dict[str, Any]:
    return {
        "duration_s": load.duration_s,
        "gap_cv": rng.choice((0.0, 1.0, 1.0, 3.0, 10.0)),
        "prompt": {"mean_tokens": load.prompt_tokens, "cv": rng.choice((0.0, 1.0, 2.0)), "max_tokens": 16_000},
        "output": {"mean_tokens": load.output_tokens, "cv": rng.choice((0.0, 1.0)), "max_tokens": 4_000},
    }


def _daily(rng: WorldRng, load: Load) -> dict[str, Any]:
    return {
        "mean_rps": load.rps,
        "swing": rng.share(),
        "peak_hour": rng.share(0, 23),
        "noise_cv": rng.choice((0.0, 0.1, 1.0)),
        **_shared(rng, load),
    }


def _flash_crowd(rng: WorldRng, load: Load) -> dict[str, Any]:
    factor = rng.scale(1.5, 30)
    spans = {key: round(rng.share(0.0, 0.3) * load.duration_s) for key in ("at_s", "rise_s", "hold_s", "fall_s")}
    return {"base_rps": load.rps / factor, "factor": factor, **spans, **_shared(rng, load)}


def _on_off(rng: WorldRng, load: Load) -> dict[str, Any]:
    spans = {key: round(rng.scale(20, load.duration_s)) for key in ("on_s", "off_s")}
    return {"on_rps": load.rps, "off_rps": rng.choice((0.0, 0.1 * load.rps)), **spans, **_shared(rng, load)}


def _sine(rng: WorldRng, load: Load) -> dict[str, Any]:
    period_s = round(rng.scale(20, load.duration_s))
    return {"min_rps": 0.1 * load.rps, "max_rps": load.rps, "period_s": period_s, **_shared(rng, load)}


def _poisson(rng: WorldRng, load: Load) -> dict[str, Any]:
    return {"rps": load.rps, **_shared(rng, load)}


def _ramp(rng: WorldRng, load: Load) -> dict[str, Any]:
    ends = (load.rps, rng.share() * load.rps)
    start, end = ends if rng.happens(0.5) else ends[::-1]
    return {
        "from_rps": start,
        "to_rps": end,
        "over_s": rng.share(0.1, 1.0) * load.duration_s,
        **_shared(rng, load),
    }


def _steps(rng: WorldRng, load: Load) -> dict[str, Any]:
    rates = [load.rps * rng.choice((0.0, 0.1, rng.share(), 1.0)) for _ in range(rng.integer(2, 8))]
    return {"rates_rps": rates, "step_s": load.duration_s / len(rates), **_shared(rng, load)}


def _rates(rng: WorldRng, load: Load) -> dict[str, Any]:
    count = rng.integer(2, 12)
    rows = [f"{k * load.duration_s / count:g},{load.rps * rng.share():g}" for k in range(count)]
    name = f"rates-{len(load.files)}.csv"
    load.files[name] = "\n".join(["t_s,rate_rps", *rows]) + "\n"
    return {"file": name, "repeat": rng.happens(0.5), **_shared(rng, load)}


def _trace(rng: WorldRng, load: Load) -> dict[str, Any]:
    """Return a recorded burst that is played once or repeated."""
    count = min(500, int(load.rps * load.duration_s) + 1)
    span_s = load.duration_s * rng.scale(0.05, 1.0)
    times = sorted(round(rng.share(0.0, span_s), 3) for _ in range(count))
    tokens = [(rng.integer(1, 2 * int(load.prompt_tokens)), rng.integer(1, 2 * int(load.output_tokens))) for _ in times]
    name = f"requests-{len(load.files)}.csv"
    rows = [f"{at},{prompt},{output}" for at, (prompt, output) in zip(times, tokens, strict=True)]
    load.files[name] = "\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n"
    return {"file": name, "end_s": span_s + 1.0, "repeat": rng.happens(0.5)}


def _mix(rng: WorldRng, load: Load) -> dict[str, Any]:
    kinds = [rng.choice(SHAPED) for _ in range(rng.integer(1, 3))]
    part = dataclasses.replace(load, rps=load.rps / len(kinds))
    clients = {f"client-{k}": {"kind": kind, **TRAFFIC[kind](rng, part)} for k, kind in enumerate(kinds)}
    return {"clients": clients, "duration_s": load.duration_s}


TRAFFIC: Final[Mapping[str, Maker]] = {
    "daily": _daily,
    "flash_crowd": _flash_crowd,
    "mix": _mix,
    "on_off": _on_off,
    "poisson": _poisson,
    "ramp": _ramp,
    "rates": _rates,
    "sine": _sine,
    "steps": _steps,
    "trace": _trace,
}
"""Generator functions for every kind of `simulators.world.traffic.generate.GENERATORS`."""
