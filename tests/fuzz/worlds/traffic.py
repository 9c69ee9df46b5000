"""Random traffic: every kind of generator, from nothing at all to far too much."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from simulators.engine.models.service import ServiceModel
from tests.fuzz.worlds.rng import Chance, rounded

MAX_REQUESTS: Final = 20_000
"""In one world, about: they take some hundredths of a second."""
SHAPED: Final = ("daily", "flash_crowd", "on_off", "poisson", "ramp", "rates", "steps", "trace")
"""What the clients of a mix may send."""


@dataclass(frozen=True, slots=True)
class Load:
    """What traffic is made for: its peak rate, how long it lasts, and the files that go with it, by name.

    `request_s` is about how long an engine works on a request.
    """

    rps: float
    duration_s: float
    prompt_tokens: float
    output_tokens: float
    request_s: float
    files: dict[str, str]

    def peak(self, quantity: str) -> float:
        """About what a total comes to at the peak, and never 0."""
        per_request = {
            "generation_tokens_per_s": self.output_tokens,
            "prompt_tokens_per_s": self.prompt_tokens,
            "requests_per_s": 1.0,
            "preemptions_per_s": 0.1,
        }
        return max(self.rps, 0.01) * per_request.get(quantity, self.request_s)


Maker = Callable[[Chance, Load], dict[str, Any]]


def traffic(chance: Chance, load: Load) -> dict[str, Any]:
    """The document of some generator."""
    kind = chance.one(list(TRAFFIC))
    return {"kind": kind, **TRAFFIC[kind](chance, load)}


def load(chance: Chance, model: ServiceModel, replicas: int, duration_s: float) -> Load:
    """A load from idle to overload, by what so many replicas could carry. One world in twelve has none.

    A replica is reckoned to carry half its sequences, and each step to take twice as long as an empty one.
    """
    prompt_tokens, output_tokens = chance.scale(10, 3000), chance.scale(2, 400)
    step_s = 2 * (model.mem_base_s + model.cmp_base_s)
    busy_s = step_s * (output_tokens / (model.max_seqs / 2) + prompt_tokens / model.max_step_tokens)
    rps = 0.0
    if not chance.happens(1 / 12):
        rps = min(chance.scale(0.03, 4.0) * replicas / busy_s, MAX_REQUESTS / duration_s)
    request_s = step_s * (output_tokens + prompt_tokens / model.max_step_tokens)
    return Load(rounded(rps), duration_s, prompt_tokens, output_tokens, request_s, {})


def _shared(chance: Chance, load: Load) -> dict[str, Any]:
    return {
        "duration_s": load.duration_s,
        "gap_cv": chance.one((0.0, 1.0, 1.0, 3.0, 10.0)),
        "prompt": {"mean_tokens": load.prompt_tokens, "cv": chance.one((0.0, 1.0, 2.0)), "max_tokens": 16_000},
        "output": {"mean_tokens": load.output_tokens, "cv": chance.one((0.0, 1.0)), "max_tokens": 4_000},
    }


def _daily(chance: Chance, load: Load) -> dict[str, Any]:
    return {
        "mean_rps": load.rps,
        "swing": chance.share(),
        "peak_hour": chance.share(0, 23),
        "noise_cv": chance.one((0.0, 0.1, 1.0)),
        **_shared(chance, load),
    }


def _flash_crowd(chance: Chance, load: Load) -> dict[str, Any]:
    factor = chance.scale(1.5, 30)
    spans = {key: round(chance.share(0.0, 0.3) * load.duration_s) for key in ("at_s", "rise_s", "hold_s", "fall_s")}
    return {"base_rps": load.rps / factor, "factor": factor, **spans, **_shared(chance, load)}


def _on_off(chance: Chance, load: Load) -> dict[str, Any]:
    spans = {key: round(chance.scale(20, load.duration_s)) for key in ("on_s", "off_s")}
    return {"on_rps": load.rps, "off_rps": chance.one((0.0, 0.1 * load.rps)), **spans, **_shared(chance, load)}


def _poisson(chance: Chance, load: Load) -> dict[str, Any]:
    return {"rps": load.rps, **_shared(chance, load)}


def _ramp(chance: Chance, load: Load) -> dict[str, Any]:
    ends = (load.rps, chance.share() * load.rps)
    start, end = ends if chance.happens(0.5) else ends[::-1]
    return {
        "from_rps": start,
        "to_rps": end,
        "over_s": chance.share(0.1, 1.0) * load.duration_s,
        **_shared(chance, load),
    }


def _steps(chance: Chance, load: Load) -> dict[str, Any]:
    rates = [load.rps * chance.one((0.0, 0.1, chance.share(), 1.0)) for _ in range(chance.whole(2, 8))]
    return {"rates_rps": rates, "step_s": load.duration_s / len(rates), **_shared(chance, load)}


def _rates(chance: Chance, load: Load) -> dict[str, Any]:
    count = chance.whole(2, 12)
    rows = [f"{k * load.duration_s / count:g},{load.rps * chance.share():g}" for k in range(count)]
    name = f"rates-{len(load.files)}.csv"
    load.files[name] = "\n".join(["t_s,rate_rps", *rows]) + "\n"
    return {"file": name, "repeat": chance.happens(0.5), **_shared(chance, load)}


def _trace(chance: Chance, load: Load) -> dict[str, Any]:
    """A recorded burst: played once, or over and over."""
    count = min(500, int(load.rps * load.duration_s) + 1)
    span_s = load.duration_s * chance.scale(0.05, 1.0)
    times = sorted(round(chance.share(0.0, span_s), 3) for _ in range(count))
    tokens = [
        (chance.whole(1, 2 * int(load.prompt_tokens)), chance.whole(1, 2 * int(load.output_tokens))) for _ in times
    ]
    name = f"requests-{len(load.files)}.csv"
    rows = [f"{at},{prompt},{output}" for at, (prompt, output) in zip(times, tokens, strict=True)]
    load.files[name] = "\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n"
    return {"file": name, "end_s": span_s + 1.0, "repeat": chance.happens(0.5)}


def _mix(chance: Chance, load: Load) -> dict[str, Any]:
    kinds = [chance.one(SHAPED) for _ in range(chance.whole(1, 3))]
    part = dataclasses.replace(load, rps=load.rps / len(kinds))
    clients = {f"client-{k}": {"kind": kind, **TRAFFIC[kind](chance, part)} for k, kind in enumerate(kinds)}
    return {"clients": clients, "duration_s": load.duration_s}


TRAFFIC: Final[Mapping[str, Maker]] = {
    "daily": _daily,
    "flash_crowd": _flash_crowd,
    "mix": _mix,
    "on_off": _on_off,
    "poisson": _poisson,
    "ramp": _ramp,
    "rates": _rates,
    "steps": _steps,
    "trace": _trace,
}
"""Every kind of `simulators.world.traffic.generate.GENERATORS`, and how one is made up."""
