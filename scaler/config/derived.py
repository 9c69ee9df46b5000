"""Settings that follow from others.

A short workload leaves them out: its policy, the policy's source, the readings of the source, the window of its rates,
and the first guess of a replica's throughput.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from policies.model import PolicyName
from policies.model.spec import Slo, WorkloadSpec
from policies.signals.latency_quantities import LATENCIES
from policies.signals.rate_windows import rate_window_s
from scaler.clouds.engines.presets import PRESETS, recipes
from scaler.config.model_rates import MODEL_RATES
from scaler.config.yaml_composer import Place
from scaler.registry import did_you_mean, resolve

Finding = tuple[Place, str, str]
"""Place, broken rule, remedy."""
DEFAULT_POLICIES: Final[Mapping[str, Any]] = {"predictive": {"kind": "predictive"}}
"""Policies of a workload that names none and has a source of engine load."""
MODEL_SCALE_DOWN_WINDOW_S: Final = 60.0
"""Its scale-down window, where it sets none and names its model: the forecast bridges dips, for which the HPA needs
300 s. With 180 s, costs are 3 % higher at an equal attainment (azure-conv, servegen-mid, nasa and worldcup, starts of
90 and 300 s). Without a model, replicas are released slowly until their capacity is learned. Seconds."""
DEFAULT_TOLERANCE: Final = 0.0
"""Its tolerance, where it sets none: the forecast has no noise that a tolerance must suppress. With 0.1, worldcup
reaches 98.8 % instead of 99.5 % with starts of 90 s, at 3 % lower costs. Share."""


def readable(source: Any) -> set[str]:
    """Return the quantities that a source reads, and those that it reads on demand."""
    extensible = PRESETS[source.preset] if _is_extensible(source) else {}
    return {*source.quantities(), *extensible}


def _is_extensible(source: Any) -> bool:
    """Return whether a source has a preset, and no list of the readings to take from it."""
    return getattr(source, "read", ...) is None and getattr(source, "preset", None) is not None


def has_default_policy(spec: WorkloadSpec) -> bool:
    """Return whether a workload gets `DEFAULT_POLICIES`."""
    return not spec.policies and any(_default_needs() <= readable(source) for source in spec.sources.values())


def with_default_policy(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a workload with `DEFAULT_POLICIES` and what fits them."""
    settings = {"tolerance": DEFAULT_TOLERANCE, **settings, "policies": DEFAULT_POLICIES}
    if settings.get("model") is None:
        return settings
    return {**settings, "scale_down": {"window_s": MODEL_SCALE_DOWN_WINDOW_S, **(settings.get("scale_down") or {})}}


def _default_needs() -> set[str]:
    return {q for policy in DEFAULT_POLICIES.values() for q in resolve("policy", policy["kind"])().needs()}


def complete(spec: WorkloadSpec) -> tuple[WorkloadSpec, list[Finding]]:
    """Return the workload with its derived settings, and the problems that prevent them."""
    findings: list[Finding] = []
    if not spec.policies:
        rule = "is required: no source reports the load of engines, which the default policy predictive needs"
        hint = list_remedy(spec.sources, _default_needs()) or "add a policy, or a source with preset: vllm"
        findings.append((("policies",), rule, hint))
    if spec.model is not None and spec.model not in MODEL_RATES:
        hint = did_you_mean(spec.model, list(MODEL_RATES)) or "forescale models lists the names"
        findings.append((("model",), "is not in the catalogue", hint))
    policies: dict[PolicyName, Any] = {}
    for name, policy in spec.policies.items():
        named, problems = _with_source(policy, ("policies", name), spec.sources)
        policies[name] = _with_first_guess(_with_window(named, spec), spec.model)
        findings += problems
    spec = dataclasses.replace(spec, policies=policies)
    return dataclasses.replace(spec, sources=dict(_with_readings(spec))), findings


# --- the source of a policy


def _with_source(policy: Any, place: Place, sources: Mapping[str, Any]) -> tuple[Any, list[Finding]]:
    """Return a policy with its source, and the problems of its sources.

    The source is filled in where a single one fits.
    """
    findings = [
        finding
        for at, source, quantities in _named_sources(policy)
        for finding in _source_problems((*place, *at), source, quantities, sources)
    ]
    needs = set(policy.needs())
    if not needs:
        return policy, findings
    place = (*place, "source")
    if policy.source is not None:
        return policy, [*findings, *_source_problems(place, policy.source, needs, sources)]
    suitable = [name for name, source in sources.items() if needs <= set(source.quantities())]
    suitable = suitable or [name for name, source in sources.items() if needs <= readable(source)]
    if len(suitable) == 1:
        return dataclasses.replace(policy, source=suitable[0]), findings
    hint = f"several do: set source to {' or '.join(suitable)}" if suitable else _remedy(sources, needs)
    return policy, [*findings, (place, f"needs a source that provides {', '.join(sorted(needs))}", hint)]


def _named_sources(policy: Any) -> Iterator[tuple[Place, str, tuple[str, ...]]]:
    """Yield the further sources that a policy names: place, source and quantities.

    They are those of its metrics or triggers, and those of `needs_also`.
    """
    for field in ("metrics", "triggers"):
        for i, metric in enumerate(getattr(policy, field, ())):
            if metric.source is not None:
                yield (field, i, "source"), metric.source, tuple(metric.quantities)
    for source, quantities in getattr(policy, "needs_also", dict)().items():
        yield (), source, quantities


def _source_problems(
    place: Place, source: str, quantities: Iterable[str], sources: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield the problem of a named source that does not exist, or lacks some of the quantities."""
    if source not in sources:
        hint = did_you_mean(source, list(sources)) or f"sources: {', '.join(sources)}"
        yield place, f"names source {source!r}, which is not in sources", hint
    elif lacking := sorted(set(quantities) - readable(sources[source])):
        rule = f"source {source!r} does not provide {', '.join(lacking)}"
        yield place, rule, _remedy(sources, quantities, source)


def _remedy(sources: Mapping[str, Any], needs: Iterable[str], named: str | None = None) -> str:
    """Return how a source, or the `named` one, can provide `needs`.

    If none can, return the quantities that each source provides.
    """
    if remedy := list_remedy({n: source for n, source in sources.items() if named in {None, n}}, needs):
        return remedy
    provided = {name: ", ".join(sorted(source.quantities())) for name, source in sources.items()}
    text = "; ".join(f"{name} provides {quantities or 'no quantity'}" for name, quantities in provided.items())
    return text or "add a source under sources; config/example lists every kind"


def list_remedy(sources: Mapping[str, Any], needs: Iterable[str]) -> str:
    """Return how the list `read` of a source can provide `needs`; empty if no preset has them."""
    for name, source in sources.items():
        lacking = tuple(sorted(set(needs) - set(source.quantities())))
        if hasattr(source, "read") and len(recipes(source.preset, lacking)) == len(lacking):
            return f"remove sources.{name}.read, or add {', '.join(lacking)} to it"
    return ""


# --- the readings of a source


def slo_quantities(slo: Slo | None) -> tuple[str, ...]:
    """Return the quantities that measure an SLO.

    They are the rate of requests, and the mean, late share and P95 of each latency with a limit. Example: a limit of
    `ttft_s` alone gives requests_per_s, ttft_mean_s, ttft_late_share and ttft_p95_s.
    """
    limited = [latency for key, latency in LATENCIES.items() if slo is not None and key in slo.limits_s]
    readings = [quantity for latency in limited for quantity in (latency.mean, latency.late_share, latency.p95)]
    return ("requests_per_s", *readings) if readings else ()


def _with_readings(spec: WorkloadSpec) -> Iterator[tuple[str, Any]]:
    """Yield the sources, each with the readings that the policies and the SLO need."""
    for name, source in spec.sources.items():
        if not _is_extensible(source):
            yield name, source
            continue
        needed = [quantity for policy in spec.policies.values() for quantity in _needs_of(policy, name)]
        default, preset = recipes(source.preset, None), PRESETS[source.preset]
        more = [q for q in dict.fromkeys([*needed, *slo_quantities(spec.slo)]) if q in preset and q not in default]
        yield name, dataclasses.replace(source, read=(*default, *more)) if more else source


def _needs_of(policy: Any, source: str) -> Iterator[str]:
    """Yield the quantities that a policy reads from a source."""
    if policy.needs() and policy.source == source:
        yield from policy.needs()
    for _, named, quantities in _named_sources(policy):
        if named == source:
            yield from quantities


# --- the window of its rates, and the first guess


def _with_window(policy: Any, spec: WorkloadSpec) -> Any:
    """Return a policy with the window of its source's rates, where it sets none."""
    if getattr(policy, "rate_window_s", ...) is not None:
        return policy
    return dataclasses.replace(policy, rate_window_s=rate_window_s(spec, policy.source))


def _with_first_guess(policy: Any, model: str | None) -> Any:
    """Return a policy with the throughput of a model of the catalogue, where it sets none."""
    rates = MODEL_RATES.get(model or "")
    if rates is None:
        return policy
    guess = zip(("prompt_tokens_per_s", "generation_tokens_per_s"), rates, strict=True)
    return dataclasses.replace(policy, **{key: rate for key, rate in guess if getattr(policy, key, ...) is None})
