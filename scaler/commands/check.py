"""``forescale check``: validates a configuration."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from policies.model import Fresh
from policies.model.spec import WorkloadSpec
from policies.recommend.predictive.policy import Predictive
from policies.route.providers import may_overflow
from scaler.app import make_clock
from scaler.commands.doctor import permit_lines, permits
from scaler.config.load import load
from scaler.config.model_rates import MODEL_RATES
from scaler.config.partners import Partners
from scaler.config.problems import ConfigError
from scaler.config.warnings import warnings
from scaler.diagnostics import AdapterCheck, SettingCheck, check_adapters, check_settings
from scaler.extras import install_command, missing_packages
from scaler.journal.explain import weights_text
from scaler.registry import kind_of


def command(args: argparse.Namespace) -> int:
    try:
        config = load(Path(p) for p in args.config)
    except ConfigError as e:
        if not args.json:
            raise
        print(json.dumps({"valid": False, "problems": [p.as_dict() for p in e.problems]}, indent=2))
        return 2
    missing = missing_packages(config)
    clock = make_clock(config.daemon)
    checks = asyncio.run(check_adapters(config, clock)) if args.live else []
    settings = asyncio.run(check_settings(config.daemon, clock)) if args.live else []
    problems = sum(not check.ok for check in checks) + sum(not setting.ok for setting in settings)
    exit_code = 1 if problems else 0
    if args.json:
        shown: dict[str, object] = {"valid": True, "workloads": sorted(config.workloads), "missing_packages": missing}
        shown["warnings"] = [
            {"workload": w.name, "path": ".".join(map(str, place)), "rule": rule, "hint": hint}
            for w in config.workloads.values()
            for place, rule, hint in warnings(w.spec, config.daemon.partners)
        ]
        live = {"live": [_as_dict(check) for check in checks], "daemon": [_setting(s) for s in settings]}
        print(json.dumps({**shown, **(live if args.live else {})}))
        return exit_code
    for workload in config.workloads.values():
        print("\n".join(description(workload.spec, config.daemon.partners)))
    print("\n".join(extra_lines(missing)))
    for check in checks:
        state = "ok  " if check.ok else "FAIL"
        print(f"{state} {check.workload} {check.role} {check.name} ({check.kind}): {result(check)}")
        for line in permits(check):
            print(f"       {line}")
    for setting in settings:
        print("\n".join(setting_lines(setting)))
    noted = sum(1 for w in config.workloads.values() for _ in warnings(w.spec, config.daemon.partners))
    print(
        f"{len(config.workloads)} workload{'s' * (len(config.workloads) != 1)}, "
        + (f"{noted} warning{'s' * (noted != 1)}, " if noted else "")
        + (f"{problems} of {len(checks) + len(settings)} live checks failed" if problems else "no problem found")
    )
    return exit_code


def description(spec: WorkloadSpec, partners: Partners) -> Iterator[str]:
    """Yield the lines about a workload: its size, SLO, policies and pools, then its warnings."""
    yield f"{spec.workload}: {spec.min_replicas} to {spec.max_replicas} replicas, a tick every {spec.interval_s:g} s"
    if spec.slo is not None:
        limits = " and ".join(f"{key} of at most {limit_s:g}" for key, limit_s in spec.slo.limits_s.items())
        yield f"  SLO: {100 * spec.slo.share:g} % of requests with {limits}"
    for policy, parameters in spec.policies.items():
        reads = f" reads {', '.join(parameters.needs())} from {parameters.source}" if parameters.needs() else ""
        yield f"  policy {policy} ({kind_of('policy', parameters)}){reads}"
        if isinstance(parameters, Predictive):
            guess = parameters.capacity
            yield (
                f"    rates over {guess.window_s:g} s; first guess of a replica:"
                f" {guess.prompt_tokens_per_s:,.0f} prompt and {guess.generation_tokens_per_s:,.0f} output tokens/s"
                f" ({_origin(spec, parameters)})"
            )
    for pool, parameters in spec.pools.items():
        yield f"  pool {pool} ({kind_of('pool', parameters)})"
    for route, parameters in spec.routes.items():
        allowed = "" if may_overflow(parameters) or not parameters.providers else ", providers get nothing"
        names = (
            f"{n} (workload {parameters.workloads[n]})" if n in parameters.workloads else n for n in parameters.backends
        )
        yield f"  route {route} ({kind_of('route', parameters)}) to {', '.join(names)}{allowed}"
    for place, rule, hint in warnings(spec, partners):
        yield f"  warning: {'.'.join(map(str, place))} {rule}" + (f" ({hint})" if hint else "")


def _origin(spec: WorkloadSpec, parameters: Predictive) -> str:
    """Return the origin of a policy's first guess."""
    given = parameters.prompt_tokens_per_s, parameters.generation_tokens_per_s
    if spec.model is not None and given == MODEL_RATES.get(spec.model):
        return spec.model
    return "model is not set: Llama-3.1-8B on an H100" if given == (None, None) else "as configured"


def extra_lines(missing: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield the needed extras with their state, and one command that installs all missing ones."""
    yield "extras: " + (
        ", ".join(f"{e} (NOT installed: {', '.join(p)})" if p else f"{e} (installed)" for e, p in missing.items())
        or "none needed"
    )
    if absent := [extra for extra, packages in missing.items() if packages]:
        yield f"  {install_command(absent)}"


def result(check: AdapterCheck) -> str:
    """Return the error, or the adapter's size, split or readings, in one line."""
    if check.error:
        return check.error + (f" ({check.remedy})" if check.remedy else "")
    if check.status is not None:
        desired, ready, missing = check.status.value.desired, check.status.value.ready, check.status.missing
        return f"{desired} desired, " + (f"at least {ready} ready ({missing})" if missing else f"{ready} ready")
    if check.split is not None:
        status = check.split.value
        writer = f"; {status.other_writer}" if status.other_writer else ""
        return ("rejects requests" if status.rejects else f"splits to {weights_text(status.weights)}") + writer
    fresh = {q: r for q, r in check.readings.items() if isinstance(r, Fresh)}
    absent = [q for q in check.readings if q not in fresh]
    text = ", ".join(f"{q} {r.value:g}" for q, r in fresh.items()) or "no fresh reading"
    return text + (f"; absent: {', '.join(absent)}" if absent else "")


def setting_lines(check: SettingCheck) -> Iterator[str]:
    """Yield the error or the permissions of a setting of the daemon."""
    error = f": {check.error} ({check.remedy})" if check.error else ""
    yield f"{'ok  ' if check.ok else 'FAIL'} daemon.{check.setting}{error}"
    yield from (f"       {line}" for line in permit_lines(check.permits))


def _setting(check: SettingCheck) -> dict[str, object]:
    return {
        "setting": check.setting,
        "well": check.ok,
        "error": check.error,
        "remedy": check.remedy,
        "permits": [asdict(p) for p in check.permits],
    }


def _as_dict(check: AdapterCheck) -> dict[str, object]:
    return {
        "workload": check.workload,
        check.role: check.name,
        "kind": check.kind,
        "well": check.ok,
        "answer": result(check),
        "refusals": list(check.refusals),
        "permits": [asdict(p) for p in check.permits],
        "permits_error": check.permits_error,
    }
