"""``forescale calibrate``: fit a service model to recorded runs.

See ``docs/explanation/calibration.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.experiments import spec_loader

if TYPE_CHECKING:
    from simulators.engine.models.fit import Calibration
    from simulators.engine.models.runs import EngineRun
    from simulators.engine.models.service import ServiceModel

DEFAULT_BASE: Final = "llama-3.1-8b-h100-vllm"
"""The only catalogue model with an engine's host times, which a full fit starts from."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``calibrate``."""
    parser.add_argument("runs", type=Path, metavar="RUN_DIR", help="folder with requests.csv or requests.csv.gz")
    parser.add_argument(
        "--model",
        default=DEFAULT_BASE,
        metavar="BASE",
        help="base model: a catalogue name or a file (default: %(default)s)",
    )
    parser.add_argument(
        "--host", metavar="MODEL", help="take the host times (launch, ingest, front end) from this model"
    )
    parser.add_argument(
        "--set", default="", metavar="KEY=VALUE,...", help="fields to override in the base model, as in max_seqs=128"
    )
    parser.add_argument("--scalar", action="store_true", help="fit one factor for all times of the base model")
    parser.add_argument(
        "--hold-out", metavar="RUN,...", help="hold out these runs for validation (default: each run once)"
    )
    parser.add_argument("--out", type=Path, metavar="F.yaml", help="write the model fitted to all runs")
    parser.add_argument("--html", type=Path, metavar="F.html", help="write an HTML page with the errors")
    parser.add_argument("--json", action="store_true", help="print the model and the errors as JSON")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed of the engine noise (default: %(default)s)"
    )


def command(args: argparse.Namespace) -> int:
    """Fit, print and write the model. Raises `ConfigError`."""
    # Imported here: the kernel and the solver take a second to import, which other commands save.
    from simulators.engine.models import catalogue, fit, report, runs  # noqa: PLC0415

    base = catalogue.load(args.model)
    if args.host:
        base = catalogue.with_host(base, catalogue.load(args.host))
    base = _with_settings(base, args.set)
    recorded = runs.read_runs(args.runs)
    held_out = _held_out_runs(args.hold_out, recorded)
    options = fit.CalibrationOptions(fit.fit_scale if args.scalar else fit.fit_coefficients, held_out, args.seed)
    try:
        calibration = fit.calibrate(recorded, base, options, _progress)
    except ValueError as e:
        raise ConfigError([Problem(str(args.runs), 1, "", "", str(e))]) from e
    name = args.out.stem if args.out else base.name
    provenance = report.provenance(calibration, recorded, base)
    model = dataclasses.replace(calibration.model, name=name, calibrated=True, provenance=provenance)
    calibration = dataclasses.replace(calibration, model=model)
    if args.out:
        catalogue.write_model(calibration.model, args.out)
    if args.html:
        catalogue.write_text(report.page(calibration), args.html)
    print(
        json.dumps(_as_dict(calibration), indent=2)
        if args.json
        else "\n".join(report.lines(calibration, recorded, base))
    )
    return 0


def _with_settings(base: ServiceModel, text: str) -> ServiceModel:
    """Return the base model with the command line's settings."""
    changes: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError([Problem("command line", 1, "--set", part, "must be KEY=VALUE,KEY=VALUE,...")])
        try:
            changes[key.strip()] = json.loads(value)  # JSON, not YAML, reads 1e-5 as a number
        except ValueError:
            changes[key.strip()] = value
    changed: ServiceModel = spec_loader.read(type(base), {**dataclasses.asdict(base), **changes})
    return changed


def _held_out_runs(text: str | None, runs: Mapping[str, EngineRun]) -> list[str]:
    held_out = [name.strip() for name in text.split(",")] if text else []
    for name in held_out:
        if name not in runs:
            hint = did_you_mean(name, list(runs)) or f"the runs are {', '.join(runs)}"
            raise ConfigError([Problem("command line", 1, "--hold-out", name, "is not the name of a run", hint)])
    if held_out and not set(runs) - set(held_out):
        raise ConfigError([Problem("command line", 1, "--hold-out", str(text), "must leave at least one run to fit")])
    return held_out


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rfit {done + 1} of {total} " + "\r\033[K" * (done + 1 == total))
        sys.stderr.flush()


def _as_dict(calibration: Calibration) -> dict[str, Any]:
    return {
        "model": dataclasses.asdict(calibration.model),
        "held_out": calibration.held_out,
        "fitted": calibration.fitted,
    }
